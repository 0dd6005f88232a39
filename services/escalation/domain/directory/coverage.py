"""What the directory lacks, now: posts that nobody holds, and people whom nothing reaches. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.escalation.domain.directory.model import Duty, Tenure, Unit, UnitKey, holder_at, key_of
from shared.clock import local


@dataclass(frozen=True)
class Coverage:
    wards: int
    """How many units are in force."""
    vacancies: tuple[tuple[Unit, str], ...]
    """(unit in force, post) without a holder."""
    unreachable: tuple[str, ...]
    """Ids of people who hold a post or have a turn, now or later, without a channel."""
    idle: tuple[str, ...]
    """Ids of people with a channel who never held a post nor had a turn: perhaps an id was mistyped."""

    @property
    def wards_without_holder(self) -> int:
        """How many wards lack the holder of a post."""
        return len({key_of(unit.ref) for unit, _ in self.vacancies})


def coverage_of(
    units: Mapping[UnitKey, Unit],
    posts: Iterable[str],
    tenures: Collection[Tenure],
    duties: Iterable[Duty],
    reached: Collection[str],
    now: datetime,
) -> Coverage:
    """`tenures`, `duties`: as recorded now. `reached`: ids of people with a channel."""
    today = local(now).date()
    in_force = [unit for _, unit in sorted(units.items()) if unit.in_force(today)]
    of_unit: dict[UnitKey, list[Tenure]] = {}
    for tenure in tenures:
        of_unit.setdefault(key_of(tenure.unit), []).append(tenure)
    known = max([now, *(t.recorded_at for t in tenures)])
    vacancies = [
        (unit, post)
        for unit in in_force
        for post in sorted(posts)
        if holder_at(of_unit.get(key_of(unit.ref), ()), post, now, known) is None
    ]
    goes_on = (t for t in tenures if (t.valid_to is None or t.valid_to > now) and not _ended(units, t, now))
    duties = list(duties)
    wanted = {t.holder_id for t in goes_on} | {d.holder_id for d in duties if d.valid_to > now}
    known_people = {t.holder_id for t in tenures} | {d.holder_id for d in duties}
    return Coverage(
        wards=len(in_force),
        vacancies=tuple(vacancies),
        unreachable=tuple(sorted(wanted.difference(reached))),
        idle=tuple(sorted(set(reached).difference(known_people))),
    )


def _ended(units: Mapping[UnitKey, Unit], tenure: Tenure, now: datetime) -> bool:
    unit = units.get(key_of(tenure.unit))
    return unit is not None and unit.ended(now)
