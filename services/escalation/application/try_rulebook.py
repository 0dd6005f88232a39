"""Trying a rulebook on past decisions, as if it had always been in force. Changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.escalation.domain.rules.accountability import Inputs
from services.escalation.domain.rules.backtest import Difference, compare
from services.escalation.domain.rules.record import Decision
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from services.escalation.store import decisions


@dataclass
class RulebookTrial:
    """How many incidents were looked at, and which of them would have been decided differently."""

    incidents: int = 0
    differences: list[Difference] = field(default_factory=list[Difference])
    unreadable: list[str] = field(default_factory=list[str])
    """Ids of decisions whose stored inputs or record cannot be read. Replaying them says why."""


async def try_rulebook(
    database: AsyncEngine, book: AdoptedRulebook, since: datetime | None, progress: Callable[[int, int], None]
) -> RulebookTrial:
    """Compare the latest decision of each incident that was opened since then. Calls `progress` after each."""
    done = RulebookTrial()
    async with database.connect() as connection:
        total = await decisions.count_incidents(connection, since)
        async for row in decisions.latest(connection, since):
            done.incidents += 1
            try:
                decided, inputs = Decision.model_validate_json(row.record), Inputs.model_validate(row.inputs)
            except ValidationError:
                done.unreadable.append(row.decision_id)
                continue
            if (difference := compare(decided, inputs, book)) is not None:
                done.differences.append(difference)
            progress(done.incidents, total)
    return done
