"""Queries for signed links: one notice, and the names of those who were notified and who acknowledged."""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Literal

import orjson
from sqlalchemy import literal, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.rules.record import Decision
from services.escalation.store.incident_loading import rounds_of_corrections
from services.escalation.store.tables import decision, notice, roster, tenure

OfficeRefusal = Literal["off_duty", "named"]
"""Their turn is over, or the incident's standing decision names them."""


@dataclass(frozen=True)
class NewestNotice:
    purpose: str
    title: str
    body: str


@dataclass(frozen=True)
class Citation:
    """The words of the rule that a decision goes by."""

    vi: str
    en: str


@dataclass(frozen=True)
class LinkedNotice:
    """A notice, as the page behind its link shows it."""

    notice_id: str
    incident_id: str | None
    """None for a test of a channel."""
    recipient: str
    purpose: str
    title: str
    body: str
    exercise: bool
    due_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    issued_at: datetime
    round: int
    citation: Citation | None = None
    """None for a test, and where no rulebook was in force."""
    newest: NewestNotice | None = None
    """What its recipient was told last about the incident, if that is another notice."""
    is_corrected: bool = False
    """Whether the incident's time or ward, or that it was an exercise, was corrected since."""
    person: str | None = None
    """To whom on duty at the office the link was sent; None for the link of a person or of the office itself."""
    refused: OfficeRefusal | None = None
    """Why that person may not acknowledge for the office any more."""

    @property
    def holds(self) -> bool:
        """Return whether it is still true: it was neither corrected nor taken back."""
        return not self.is_corrected and (self.newest is None or self.newest.purpose != "stand_down")

    @property
    def acts(self) -> bool:
        """Return whether its link acknowledges it, or did so."""
        return self.holds and self.refused is None


async def linked(connection: AsyncConnection, notice_id: str) -> LinkedNotice | None:
    columns = [notice.c[f.name] for f in fields(LinkedNotice) if f.name in notice.c]
    decided = notice.outerjoin(decision, decision.c.decision_id == notice.c.decision_id)
    query = select(*columns, decision.c.record).select_from(decided).where(notice.c.notice_id == notice_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    *values, record = row
    found = LinkedNotice(*values, citation=_citation(record) if record else None)
    if found.incident_id is None:
        return found
    corrected = await rounds_of_corrections(connection, [found.incident_id])
    is_corrected = found.round < corrected.get(found.incident_id, 0)
    return replace(found, newest=await _newest(connection, found), is_corrected=is_corrected)


def _citation(record: bytes) -> Citation | None:
    by = orjson.loads(record).get("rulebook")
    return Citation(by["citation_vi"], by["citation_en"]) if by else None


async def _newest(connection: AsyncConnection, of: LinkedNotice) -> NewestNotice | None:
    theirs = (notice.c.incident_id == of.incident_id) & (notice.c.recipient == of.recipient)
    theirs &= notice.c.exercise == of.exercise
    later = tuple_(notice.c.issued_at, notice.c.notice_id) > tuple_(of.issued_at, of.notice_id)
    query = select(notice.c.purpose, notice.c.title, notice.c.body).where(
        theirs, later, notice.c.withdrawn_at.is_(None)
    )
    newest_first = (notice.c.issued_at.desc(), notice.c.notice_id.desc())
    row = (await connection.execute(query.order_by(*newest_first).limit(1))).one_or_none()
    return NewestNotice(*row) if row else None


async def on_duty_then(connection: AsyncConnection, of: LinkedNotice) -> list[str]:
    """Return who had a turn at the office when its notice was issued, by any record of that."""
    turns = select(roster.c.holder_id).distinct().where(roster.c.level == of.recipient)
    then = turns.where(roster.c.valid_from <= of.issued_at, roster.c.valid_to > of.issued_at)
    return sorted(await connection.scalars(then))


async def refusal(
    connection: AsyncConnection, incident_id: str, office: str, person: str, now: datetime
) -> OfficeRefusal | None:
    """Return why a person on duty at an office may not acknowledge for it by their link any more, or None."""
    turn = (roster.c.level == office) & (roster.c.holder_id == person) & roster.c.superseded_at.is_(None)
    running = select(literal(1)).where(turn, roster.c.valid_from <= now, roster.c.valid_to > now)
    if await connection.scalar(running.limit(1)) is None:
        return "off_duty"
    decisions = select(decision.c.record).where(decision.c.incident_id == incident_id)
    record = await connection.scalar(decisions.order_by(decision.c.number.desc()).limit(1))
    return "named" if record and person in Decision.model_validate_json(record).named else None


async def names(connection: AsyncConnection, holder_ids: Collection[str]) -> dict[str, str]:
    """Return the name last recorded for each of these ids. An office or a credential has none."""
    rows = await connection.execute(
        union_all(
            *(
                select(table.c.holder_id, table.c.holder_name, table.c.recorded_at).where(
                    table.c.holder_id.in_(list(holder_ids))
                )
                for table in (tenure, roster)
            )
        ).order_by("recorded_at")
    )
    return {row.holder_id: row.holder_name for row in rows}
