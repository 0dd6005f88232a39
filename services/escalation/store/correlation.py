"""Queries that find where a report belongs: locks of units, incidents that are near, reports that are known.

Short waits only: whoever holds a unit or an incident for longer holds up the reports of that unit, and no others.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

from sqlalchemy import Date, DateTime, Select, Text, any_, bindparam, exists, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import UnitKey
from services.escalation.domain.incidents.correlation import Occurrence
from services.escalation.domain.incidents.incident import IncidentRow
from services.escalation.domain.incidents.patterns import Neighbour
from services.escalation.store.incident_loading import rounds_of_corrections
from services.escalation.store.incident_row import anchor_of, from_row
from services.escalation.store.tables import incident, notice, report
from shared.database import any_of, given, given_rows

UNIT_LOCK = 0x7472
"""Class of the advisory locks that serialise correlation. There is one for each unit."""
BRIEFLY = (0.01, 0.02, 0.04, 0.08, 0.16, 0.19)
"""Pauses, in seconds, after which routing looks again for incidents that another transaction has locked. Most are free
within a few milliseconds.

It asks again and does not wait for the lock: it holds others by then, which the other transaction may want.
"""


async def lock_units(connection: AsyncConnection, codes: Iterable[str]) -> None:
    """Lock these units: nobody else correlates there until the transaction ends.

    The keys are sorted, so that two batches cannot deadlock.
    """
    await connection.execute(
        text("SELECT pg_advisory_xact_lock(:class, key) FROM unnest(CAST(:keys AS int[])) AS key"),
        {"class": UNIT_LOCK, "keys": sorted({_lock_key(code) for code in codes})},
    )


async def try_lock_units(connection: AsyncConnection, codes: Iterable[str]) -> set[str]:
    """Lock those of these units that nobody else has locked, as `lock_units` does, and return them. Does not wait."""
    keys = {code: _lock_key(code) for code in codes}
    rows = await connection.execute(
        text("SELECT key FROM unnest(CAST(:keys AS int[])) AS key WHERE pg_try_advisory_xact_lock(:class, key)"),
        {"class": UNIT_LOCK, "keys": sorted(set(keys.values()))},
    )
    locked = set(rows.scalars())
    return {code for code, key in keys.items() if key in locked}


def _lock_key(code: str) -> int:
    return crc32(code.encode()) - 2**31


_KNOWN = select(report.c.event_id).where(report.c.event_id == any_(bindparam("event_ids", type_=ARRAY(Text))))


async def known_events(connection: AsyncConnection, event_ids: Sequence[str]) -> set[str]:
    """Return those of these event ids that belong to a stored report."""
    return set(await connection.scalars(_KNOWN, {"event_ids": list(event_ids)}))


async def incidents_near(
    connection: AsyncConnection,
    occurrences: Sequence[Occurrence],
    kin: Mapping[UnitKey, Collection[UnitKey]],
    window: timedelta,
) -> tuple[list[IncidentRow], set[str]]:
    """Lock and return the incidents, open or ended, that any of `occurrences` could belong to.

    Where one of them was merged, the incident that it was merged into is returned, with the anchor as an alias. It is
    no alias where that incident was corrected since to another place: reports of that ward are not about another. Also
    returns the codes of units with such an incident that another transaction keeps locked, its own and those of
    incidents that were merged into it. Their incidents may be missing. `kin`: for each unit of the occurrences, the
    units in whose incidents its reports may belong.
    """
    spans = _spans(occurrences, kin, window)
    found, missing = await _lock_free(connection, spans)
    for seconds in BRIEFLY:
        if not missing:
            break
        await asyncio.sleep(seconds)
        found, missing = await _lock_free(connection, spans)
    found_by_id = {row.incident_id: row for row in found}
    if found_by_id:
        merged = await connection.execute(_MERGED, spans | {"into": list(found_by_id)})
        aliases = [(found_by_id[row.merged_into], anchor_of(row)) for row in merged]
        elsewhere = {into.incident_id for into, anchor in aliases if anchor.unit != into.anchor.unit}
        corrected = await rounds_of_corrections(connection, list(elsewhere))
        for into, anchor in aliases:
            is_one_place = anchor.unit == into.anchor.unit or into.incident_id not in corrected
            if is_one_place and anchor.exercise == into.anchor.exercise:
                into.aliases.append(anchor)
    if missing:
        merged_codes = select(incident.c.unit_code).where(any_of(incident.c.merged_into, list(missing)))
        return found, {*missing.values(), *await connection.scalars(merged_codes)}
    return found, set()


def _spans(
    occurrences: Sequence[Occurrence], kin: Mapping[UnitKey, Collection[UnitKey]], window: timedelta
) -> dict[str, list[object]]:
    """Return the rows of _SPANS: periods of each unit and family, `window` wider than their occurrences.

    Occurrences that are far apart have periods of their own, so that what lies between them is not locked.
    """
    times: dict[tuple[str, str], list[datetime]] = {}
    for one in occurrences:
        for code in {code for code, _ in kin[one.unit]}:
            times.setdefault((code, one.family), []).append(one.at)
    found = [(*key, low, high) for key, ats in times.items() for low, high in _periods(ats, 2 * window)]
    return given(
        code=[code for code, _, _, _ in found],
        family=[family for _, family, _, _ in found],
        low=[low - window for _, _, low, _ in found],
        high=[high + window for _, _, _, high in found],
    )


def _periods(times: Iterable[datetime], gap: timedelta) -> list[tuple[datetime, datetime]]:
    """Return the first and the last of those times that follow one another by no more than `gap`."""
    first, *later = sorted(times)
    found = [(first, first)]
    for at in later:
        low, high = found[-1]
        if at - high > gap:
            found.append((at, at))
        else:
            found[-1] = (low, at)
    return found


async def _lock_free(
    connection: AsyncConnection, spans: Mapping[str, object]
) -> tuple[list[IncidentRow], dict[str, str]]:
    """Lock and return the incidents that nobody else has locked, and return the others' ids with their units."""
    found = list(await connection.execute(_LOCK_FREE, spans))
    missing = {row.near_id: row.near_unit for row in found if not row.incident_id}
    return [from_row(row) for row in found if row.incident_id], missing


# built once, because they run in every batch
_SPANS = given_rows(code=Text(), family=Text(), low=DateTime(timezone=True), high=DateTime(timezone=True))
_WITHIN = (
    (incident.c.unit_code == _SPANS.c.code)
    & (incident.c.family == _SPANS.c.family)
    & incident.c.occurred_at.between(_SPANS.c.low, _SPANS.c.high)
)


def _near(*columns: Any) -> Select[*tuple[Any, ...]]:
    """Return a query of the incidents in the spans, and of those that others in the spans were merged into."""
    near = select(incident.c.incident_id).join(_SPANS, _WITHIN)
    into = select(incident.c.merged_into).join(_SPANS, _WITHIN).where(incident.c.state == "merged")
    return select(*columns).where(incident.c.incident_id.in_(near.union(into)), incident.c.state != "merged")


def _locking() -> Select[*tuple[Any, ...]]:
    """The statement of `_lock_free`."""
    # FOR NO KEY UPDATE: whoever inserts a row that only refers to an incident, such as a link, does not wait for us
    locking = _near(incident).order_by(incident.c.incident_id)
    ours = locking.with_for_update(key_share=True, skip_locked=True).cte("ours")
    near = _near(incident.c.incident_id.label("near_id"), incident.c.unit_code.label("near_unit")).cte("near")
    return (
        select(near.c.near_id, near.c.near_unit, *ours.c)
        .join_from(near, ours, near.c.near_id == ours.c.incident_id, isouter=True)
        .order_by(near.c.near_id)
    )


_LOCK_FREE = _locking()
_MERGED = (
    select(incident).join(_SPANS, _WITHIN).where(incident.c.merged_into == any_(bindparam("into", type_=ARRAY(Text))))
)
_AROUND = given_rows(code=Text(), valid_from=Date(), low=DateTime(timezone=True), high=DateTime(timezone=True))
_SUGGESTED = exists().where(notice.c.incident_id == incident.c.incident_id, notice.c.purpose == "prominence")
_NEIGHBOURS = (
    select(incident.c.incident_id, incident.c.unit_code, incident.c.unit_valid_from, incident.c.occurred_at)
    .add_columns(_SUGGESTED.label("suggested"))
    .join_from(
        incident,
        _AROUND,
        (incident.c.unit_code == _AROUND.c.code)
        & (incident.c.unit_valid_from == _AROUND.c.valid_from)
        & incident.c.occurred_at.between(_AROUND.c.low, _AROUND.c.high),
    )
    .where(incident.c.exercise.is_(False), incident.c.state.not_in(("dismissed", "merged")))
)


async def neighbours(
    connection: AsyncConnection, occurrences: Sequence[Occurrence], window: timedelta
) -> dict[UnitKey, list[Neighbour]]:
    """Return the incidents within `window` of these occurrences, by unit.

    Exercises and dismissed or merged incidents are left out.
    """
    spans: dict[UnitKey, tuple[datetime, datetime]] = {}
    for one in occurrences:
        low, high = spans.get(one.unit, (one.at, one.at))
        spans[one.unit] = (min(low, one.at), max(high, one.at))
    around = given(
        code=[code for code, _ in spans],
        valid_from=[valid_from for _, valid_from in spans],
        low=[low - window for low, _ in spans.values()],
        high=[high + window for _, high in spans.values()],
    )
    rows = await connection.execute(_NEIGHBOURS, around)
    found: dict[UnitKey, list[Neighbour]] = {}
    for row in rows:
        near = found.setdefault((row.unit_code, row.unit_valid_from), [])
        near.append(Neighbour(row.incident_id, row.occurred_at, row.suggested))
    return found
