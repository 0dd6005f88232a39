"""Cities with something owed, to be divided into other partitions, and what is in them afterwards."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Row, text

from services.cli.partitions import EPOCHS, Changed, change_partitions
from shared.database import connect
from shared.messaging import (
    partition_of,
)
from shared.operator import operator
from shared.settings import Settings
from tests.integration.escalation_support import Template, WholeCity, until, whole_city_in
from tests.servers import new_redis
from tests.unit.intake.sample import UNITS, body

FOUR = 4
NOWHERE = "redis://127.0.0.1:1/0"
"""What is accepted while Redis is away waits in the outbox."""
MOVED = [unit.code for unit in UNITS if partition_of(unit.code, FOUR) == FOUR - 1][:2]
STAYING = [unit.code for unit in UNITS if partition_of(unit.code, FOUR) == 0][:1]
WARDS = [*MOVED, *STAYING]


def ignore(done: int, total: int) -> None: ...


async def accept(city: WholeCity, *names: str, wards: Sequence[str] = WARDS) -> None:
    for name in names:
        for ward in wards:
            sent = body(report_id=f"{ward}-{name}", ward=ward)
            answer = await city.post("/intake/v1/reports", "desk", json=sent)
            assert answer.status_code == 201, answer.text


async def city_with_backlog(template: Template, keys: Path, names: Sequence[str] = ("a", "b", "c")) -> Settings:
    """A city of one partition that was stopped while Redis was away; nothing that it accepted is published."""
    async with whole_city_in(template, redis_url=NOWHERE, keys=keys) as city:
        await accept(city, *names)
    return city.settings.model_copy(update={"redis_url": await new_redis(template.servers)})


def kept(settings: Settings, **more: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("database_url", "redis_url", "keys")} | more


async def rows(url: str | None, query: str) -> Sequence[Row[Any]]:
    engine = connect(str(url), pool_size=1)
    try:
        async with engine.connect() as connection:
            return (await connection.execute(text(query))).all()
    finally:
        await engine.dispose()


async def ledger_order(url: str | None) -> dict[str, list[str]]:
    """Reports in the order of the ledger, by ward, as their sender calls them."""
    found: dict[str, list[str]] = defaultdict(list)
    of_reports = (
        "SELECT entry.ward, private.value FROM ledger.entry JOIN ledger.private USING (idx)"
        " WHERE entry.kind = 'report.received' AND private.field = 'sender_report_id' ORDER BY idx"
    )
    for row in await rows(url, of_reports):
        found[row.ward].append(row.value.decode())
    return found


async def changes(url: str | None) -> list[dict[str, Any]]:
    """What the events `partitions.changed` in the ledger say."""
    of_changes = "SELECT body FROM ledger.entry WHERE kind = 'partitions.changed' ORDER BY idx"
    return [json.loads(row.body)["data"] for row in await rows(url, of_changes)]


async def state(url: str | None) -> list[Sequence[Row[Any]]]:
    """All that a change of the number may touch."""
    outbox = "SELECT stream, number, event_id FROM {}.outbox ORDER BY 1, 2"
    counters = "SELECT stream, assigned, closed FROM {}.outbox_stream ORDER BY 1"
    epochs = "SELECT number, partitions FROM {}.epoch ORDER BY 1"
    tables = [query.format(schema) for query in (outbox, counters) for schema in ("intake", "escalation")]
    tables += [epochs.format(schema) for schema in EPOCHS]
    return [await rows(url, query) for query in tables]


async def change(settings: Settings, count: int) -> Changed:
    return await change_partitions(settings, count, operator("người trực máy"))


async def until_recorded(city: WholeCity, reports: int) -> None:
    async def are_there() -> bool:
        return sum(map(len, (await ledger_order(city.database_url)).values())) == reports

    await until(are_there, f"{reports} reports are in the ledger")
