"""What waited at one moment and is still not done: empty soon after a fault is over, whatever comes in meanwhile."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, func, not_, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.store import tables as escalation
from services.intake import store as intake
from services.ledger.store import tables as ledger
from shared.database import any_of, connect
from shared.messaging import is_transient
from tests.faults.load import Load
from tests.faults.stack import House
from tests.integration.stored.records import WAITING

LOOK_SECONDS = 0.5
FAILED = "failed"
LONGEST_BACK_OFF = timedelta(minutes=12)
"""What a receiver did not take is tried again later, and not due until then. A clock that was set back is no reason to
wait for longer."""


_OPEN = """
SELECT pid, state, wait_event, now() - xact_start AS age, pg_blocking_pids(pid) AS blocked_by, left(query, 100) AS query
FROM pg_stat_activity WHERE xact_start < now() - interval '3 seconds' AND backend_type = 'client backend'
"""


@dataclass(frozen=True)
class Behind:
    reports: frozenset[str]
    """Accepted, and not routed."""
    events: frozenset[str]
    """Owed to somebody, and not in the ledger."""
    deliveries: frozenset[str]
    """Due or queued, and neither sent nor called off."""
    due_times: frozenset[str]
    """Passed, and not acted on."""

    def __str__(self) -> str:
        parts = [
            f"{len(self.reports)} reports are not routed",
            f"{len(self.events)} events are not in the ledger",
            f"{len(self.deliveries)} deliveries wait",
            f"{len(self.due_times)} due times passed without anything being done",
        ]
        return "; ".join(part for part in parts if not part.startswith("0 "))


async def until_caught_up(house: House, load: Load, seconds: float) -> list[str]:
    """Wait until all processes are ready, and all is done that waited at the beginning. Returns what is left then."""
    left: list[str] = ["nothing was looked at"]
    engine = connect(str(house.settings.database_url), pool_size=1)
    behind: Behind | None = None
    try:
        async with asyncio.timeout(seconds):
            while left:
                try:
                    async with engine.connect() as connection:
                        behind = await _behind(connection, house, load, behind)
                except Exception as error:
                    if not is_transient(error):
                        raise
                    left = [f"PostgreSQL is away: {type(error).__name__}"]
                else:
                    left = [*([str(behind)] if str(behind) else []), *await house.not_ready()]
                if left:
                    await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        pass
    finally:
        await engine.dispose()
    return left


async def open_transactions(house: House) -> list[str]:
    """For whoever asks why something is stuck: transactions open for seconds, and for whom each of them waits."""
    engine = connect(str(house.settings.database_url), pool_size=1)
    try:
        async with engine.connect() as connection:
            return [" ".join(map(str, row)) for row in await connection.execute(text(_OPEN))]
    except (OSError, DBAPIError) as error:
        return [f"PostgreSQL is away: {type(error).__name__}"]
    finally:
        await engine.dispose()


async def _behind(connection: AsyncConnection, house: House, load: Load, before: Behind | None) -> Behind:
    """Of what was behind before; of everything, if this is the first look."""
    accepted = list(before.reports if before else load.accepted)
    report = escalation.report.c
    theirs = func.coalesce(report.personal[escalation.SENDER_REPORT_ID].astext, report.report_id)  # older ones have it
    found = await connection.scalars(select(theirs).where(any_of(theirs, accepted)))
    routed = set(found)
    events = await _events(connection, before)
    recorded = set(
        await connection.scalars(select(ledger.entry.c.event_id).where(any_of(ledger.entry.c.event_id, events)))
    )
    delivery, deadline = escalation.delivery.c, escalation.deadline.c
    waits_for_its_turn = and_(
        delivery.state == FAILED, delivery.next_at.between(house.now(), house.now() + LONGEST_BACK_OFF)
    )
    deliveries = set(
        await connection.scalars(
            select(delivery.delivery_id).where(delivery.state.in_(WAITING), not_(waits_for_its_turn))
        )
    )
    passed = select(deadline.deadline_id).where(deadline.state == "pending", deadline.due_at <= house.now())
    due_times = set(await connection.scalars(passed))
    if before:
        deliveries &= before.deliveries
        due_times &= before.due_times
    return Behind(
        frozenset(set(accepted) - routed),
        frozenset(set(events) - recorded),
        frozenset(deliveries),
        frozenset(due_times),
    )


async def _events(connection: AsyncConnection, before: Behind | None) -> Sequence[str]:
    if before:
        return list(before.events)
    tables = (intake.outbox.rows, escalation.outbox.rows)
    return [event for table in tables for event in await connection.scalars(select(table.c.event_id))]
