"""Replaying decisions: computing them again from the inputs that were recorded with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.escalation.domain.rules.replay import Replayed, replay
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from services.escalation.store import decisions, directory, incident_queries


@dataclass
class ReplayTotals:
    decisions: int = 0
    differing: list[Replayed] = field(default_factory=list[Replayed])

    def add(self, replayed: Replayed) -> None:
        self.decisions += 1
        if not replayed.equal:
            self.differing.append(replayed)


async def replay_decision(database: AsyncEngine, decision_id: str) -> Replayed | None:
    """Compute one decision again; None if there is no such decision."""
    async with database.connect() as connection:
        row = await incident_queries.decision_by_id(connection, decision_id)
        if row is None:
            return None
        return replay(row.decision_id, row.inputs, row.record, await _rulebooks(connection))


async def replay_all_decisions(database: AsyncEngine, progress: Callable[[int, int], None]) -> ReplayTotals:
    """Compute every decision again, the oldest first. Calls `progress` after each."""
    done = ReplayTotals()
    async with database.connect() as connection:
        rulebooks = await _rulebooks(connection)
        total = await decisions.count(connection)
        async for row in decisions.every(connection):
            done.add(replay(row.decision_id, row.inputs, row.record, rulebooks))
            progress(done.decisions, max(total, done.decisions))
    return done


async def _rulebooks(connection: AsyncConnection) -> Mapping[str, AdoptedRulebook]:
    return {book.rulebook.version: book for book in await directory.rulebooks(connection)}
