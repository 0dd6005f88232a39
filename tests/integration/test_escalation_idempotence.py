"""However often each event comes, among whichever others and in whichever batches, the end is the same.

The whole state that a report leaves behind is compared: incidents, reports, decisions, notices, deliveries, deadlines
and the events that go out, with ids replaced by labels and the time of processing left out.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from shared.events import Firecracker, Harm, ReportReceived, StepRaised, UnitRef
from tests.integration.escalation_support import City
from tests.integration.stored.looking import incidents_as_stored, stored
from tests.integration.stored.records import Decision, Delivery, DueTime, Notice, Report
from tests.support import BA_DINH, NIGHT, SINCE, SourceKind, depth, received

THIEU_KHANH = UnitRef(code="15856", valid_from=SINCE, name="Thiệu Khánh")
"""One person in both posts."""
QUANG_TAM = UnitRef(code="16525", valid_from=SINCE, name="Quảng Tâm")
"""The chair's post is vacant that night."""
FAMILIES = {
    "explosive": ("FIRECRACKER_SET_OFF", "EXPLOSION"),
    "firecracker_goods": ("FIRECRACKER_POSSESSION", "FIRECRACKER_TRADE", "FIRECRACKER_MANUFACTURE"),
    "fire": ("FIRE",),
}
SENDERS: tuple[tuple[SourceKind, str], ...] = (
    ("device", "cam-bien-1"),
    ("device", "cam-bien-2"),
    ("desk", "tong-dai"),
    ("officer", "cb-1"),
)
POINTS = (None, (19.8075, 105.7764), (19.8080, 105.7770))
PASSING = {"incident", "evaluated_at", "deadlines", "decision_id", "previous", "notice_id", "due_at", "sequence"}
"""Ids and times of processing, in events and records; the sequence is compared by the events' order."""


# --- what happens, and how it is delivered ---


@st.composite
def occurrences(draw: st.DrawFn) -> list[list[ReportReceived]]:
    """Some incidents, each as its reports in order. Those of one ward and family are two hours apart.

    Never three real ones of a ward at once: which of them the desk is pointed to depends on which came last.
    """
    keys = st.tuples(
        st.sampled_from((BA_DINH, THIEU_KHANH, QUANG_TAM)),
        st.sampled_from(sorted(FAMILIES)),
        st.integers(0, 2),
        st.booleans(),
    )
    drawn = draw(st.lists(keys, min_size=2, max_size=4, unique=True).filter(_no_pattern))
    return [draw(reports_of(*key)) for key in drawn]


def _no_pattern(keys: list[tuple[UnitRef, str, int, bool]]) -> bool:
    at_once = Counter((unit.code, slot) for unit, _, slot, exercise in keys if not exercise)
    return max(at_once.values(), default=0) < 3


@st.composite
def reports_of(draw: st.DrawFn, unit: UnitRef, family: str, slot: int, exercise: bool) -> list[ReportReceived]:
    began = NIGHT - timedelta(hours=2 * slot + 2)
    found: list[ReportReceived] = []
    for place in range(draw(st.integers(1, 4))):
        kind, subject = draw(st.sampled_from(SENDERS))
        after = timedelta(minutes=0 if place == 0 else draw(st.integers(-25, 25)))
        event = received(
            draw(st.sampled_from(FAMILIES[family])),
            unit=unit,
            occurred_at=began + after,
            kind=kind,
            subject=subject,
            point=draw(st.sampled_from(POINTS)),
            exercise=exercise,
            clock_ahead=draw(st.booleans()),
            harm=draw(
                st.none() | st.builds(Harm, deaths=st.integers(0, 3), injured=st.just(0), property_vnd=st.just(0))
            ),
            firecracker=draw(st.none() | st.builds(Firecracker, explosion_sound=st.booleans())),
        )
        found.append(event)
    return found


@st.composite
def deliveries(draw: st.DrawFn, incidents: list[list[ReportReceived]]) -> list[list[ReportReceived]]:
    """Batches: each event one to three times, an incident's events in their order, all incidents interleaved."""
    turns = draw(st.permutations([n for n, reports in enumerate(incidents) for _ in reports]))
    waiting = [iter(reports) for reports in incidents]
    order = [next(waiting[n]) for n in turns]
    for event in list(order):
        for _ in range(draw(st.integers(0, 2))):
            order.insert(draw(st.integers(order.index(event) + 1, len(order))), event)
    batches: list[list[ReportReceived]] = []
    while order:
        size = draw(st.integers(1, 5))
        batches.append(order[:size])
        order = order[size:]
    return batches


class Case:
    def __init__(self, incidents: list[list[ReportReceived]], batches: list[list[ReportReceived]]) -> None:
        self.incidents, self.batches = incidents, batches

    @property
    def once(self) -> list[list[ReportReceived]]:
        """The same batches, each event where it came first."""
        seen: set[str] = set()
        return [[e for e in batch if not (e.id in seen or seen.add(e.id))] for batch in self.batches]

    def __repr__(self) -> str:
        """Short enough to be read when it fails: each batch as its reports, named by incident and place."""
        name = {e.id: f"{n}.{place}" for n, events in enumerate(self.incidents) for place, e in enumerate(events)}
        reports = [f"{name[e.id]} {_shown(e)}" for events in self.incidents for e in events]
        return f"{[[name[e.id] for e in batch] for batch in self.batches]} of {reports}"


def _shown(event: ReportReceived) -> str:
    data = event.data
    harm = data.harm.model_dump(exclude_none=True) if data.harm else {}
    ward = data.unit.name if data.unit else ""
    return f"{ward} {data.category} {data.occurred_at:%H:%M} {data.from_source.subject} {harm} {data.firecracker}"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    incidents = draw(occurrences())
    return Case(incidents, draw(deliveries(incidents)))


# --- the state, with labels for ids ---


def stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: stripped(part) for name, part in value.items() if name not in PASSING}
    if isinstance(value, list):
        return [stripped(part) for part in value]
    return value


def minutes(notice: Notice) -> float | None:
    return round((notice.due_at - notice.issued_at).total_seconds() / 60, 3) if notice.due_at else None


async def state_of(city: City) -> dict[str, Any]:
    """By label: the report that opened the incident."""
    reports = await stored(city, Report)
    label = {row.incident_id: row.report_id for row in reversed(reports)}
    found: dict[str, Any] = {name: defaultdict(list) for name in label.values()}
    for row in reports:
        found[label[row.incident_id]]["reports"].append((row.report_id, row.position, row.facts, row.personal))
    for row in await incidents_as_stored(city):
        rest = {name: value for name, value in row.items() if name not in {"incident_id", "opened_at", "decided_at"}}
        found[label[row["incident_id"]]]["incident"] = rest
    number_of: dict[str | None, int | None] = {None: None}
    for row in await stored(city, Decision):
        number_of[row.decision_id] = row.number
        entry = (row.number, number_of[row.previous_id], stripped(row.said), stripped(row.inputs))
        found[label[row.incident_id]]["decisions"].append(entry)
    await add_notices(city, label, found, number_of)
    events = await city.events()
    ours = {event.id: event.type for event in events}
    for event in events:
        incident = label[str(event.data.incident)]
        # Deadlines pass in the order of their due times, which depend on when each report was handled.
        kind = "steps" if isinstance(event, StepRaised) else "events"
        said = stripped(event.data.model_dump(mode="json"))
        found[incident][kind].append((event.type, said | {"cause": ours.get(str(event.data.cause), event.data.cause)}))
    for parts in found.values():
        parts["steps"].sort(key=repr)
    return {name: dict(parts) for name, parts in found.items()}


async def add_notices(city: City, label: dict[str, str], found: dict[str, Any], number_of: dict[Any, Any]) -> None:
    def key(row: Notice | Delivery | DueTime) -> tuple[str, str]:
        return row.recipient or "", row.purpose or ""

    for row in sorted(await stored(city, Notice), key=key):
        entry = (*key(row), row.posts, number_of[row.decision_id], row.title, row.body, minutes(row))
        found[label[row.incident_id]]["notices"].append(entry)
    for row in sorted(await stored(city, Delivery), key=lambda d: (key(d), d.channel)):
        found[label[row.incident_id]]["deliveries"].append((key(row), row.channel, row.state, row.attempts))
    for row in sorted(await stored(city, DueTime), key=lambda d: (d.kind, key(d), d.level)):
        if row.state != "cancelled":  # what was called off in the transaction that would have set it was never written
            found[label[row.incident_id]]["deadlines"].append((row.kind, key(row), row.state))


async def end_of(city: City, batches: Sequence[Sequence[ReportReceived]], *, much_later: bool) -> dict[str, Any]:
    await city.emptied()
    city.clock.set(NIGHT)
    for batch in batches:
        await route_reports(city.escalation, batch)
    if much_later:
        city.clock.set(NIGHT + timedelta(minutes=50))
        for _ in range(3):
            await fire_due_timers(city.escalation)
    return await state_of(city)


# --- the properties ---


@pytest.mark.timeout(900)
@depth(ci=10, full=300)
@given(cases(), st.booleans())
async def test_what_is_delivered_again_changes_nothing(shared_city: City, case: Case, much_later: bool) -> None:
    expected = await end_of(shared_city, case.once, much_later=much_later)
    found = await end_of(shared_city, case.batches, much_later=much_later)
    for label, parts in expected.items():
        for name, part in parts.items():
            assert found[label][name] == part, f"the {name} of the incident that {label} opened"
    assert found == expected


@pytest.mark.timeout(900)
@depth(ci=8, full=300)
@given(cases(), st.booleans())
async def test_however_reports_come_together_they_come_to_the_same_incidents_and_decisions(
    shared_city: City, case: Case, much_later: bool
) -> None:
    """What comes together is decided together. How often people were asked on the way depends on that, and so do the
    reports that a decision was made on: one that repeats what others said leads to no further decision."""
    singly = [[event] for reports in case.incidents for event in reports]
    expected = await end_of(shared_city, singly, much_later=much_later)
    found = await end_of(shared_city, case.batches, much_later=much_later)
    assert {label: where_it_stands(parts) for label, parts in found.items()} == {
        label: where_it_stands(parts) for label, parts in expected.items()
    }


def where_it_stands(parts: dict[str, Any]) -> dict[str, Any]:
    *_, said, _ = parts["decisions"][-1]
    on_the_way = {"round", "sequence", "level"}
    return {
        "reports": parts["reports"],
        "incident": {name: value for name, value in parts["incident"].items() if name not in on_the_way},
        "decision": {name: value for name, value in said.items() if name != "reports"},
    }
