"""What a report does to an incident: joins or opens it, decides anew, tells whom it must, with an event for each."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from services.escalation.domain.directory.model import Unit, key_of
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Case, as_case
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from shared.events import (
    Data,
    DecisionMade,
    Event,
    Firecracker,
    Harm,
    ReportCorrelated,
    ReportReceived,
    UnitRef,
    encode,
    parse,
)
from tests.support import (
    BA_DINH,
    BOTH_POSTS,
    CHAIR,
    NGOC_TRAO,
    NIGHT,
    RULEBOOK,
    SECRETARY,
    at,
    engine,
    received,
    route,
    rulebook,
    tenure,
)

MINUTE = timedelta(minutes=1)


def routed(*events: ReportReceived, using: IncidentEngine | None = None) -> IncidentEngine:
    found = using or engine()
    for event in events:
        route(found, event)
    return found


def only_case(found: IncidentEngine) -> Case:
    (incident,) = found.changes.incidents.values()
    return as_case(incident)


def told(found: IncidentEngine) -> list[str]:
    return [f"{n.notice.recipient}:{n.notice.purpose}" for n in found.changes.notices]


def test_the_inputs_of_a_decision_hold_no_reason_of_a_delegation_which_is_free_text() -> None:
    deputy = tenure(CHAIR, "mau-pho").model_copy(update={"capacity": "deputy", "reason": "nghỉ ốm"})
    (made,) = routed(received(), using=engine([*BOTH_POSTS, deputy])).changes.decisions
    assert made.inputs.format == made.decision.format == 2
    assert "mau-pho" in made.inputs.model_dump_json()
    assert "nghỉ ốm" not in made.inputs.model_dump_json()


def kinds(found: IncidentEngine) -> list[str]:
    return [e.type.removeprefix("vn.trucban.").removesuffix(".v1") for e in found.changes.events]


def test_a_first_report_opens_an_incident_decides_and_tells_both_holders() -> None:
    found = routed(received())
    assert kinds(found) == [
        "incident.opened",
        "report.correlated",
        "decision.made",
        "notice.issued",
        "notice.issued",
    ]
    assert told(found) == ["mau-bi-thu:accountable", "mau-chu-tich:accountable"]
    case = only_case(found)
    assert (case.state, case.is_new, case.sequence) == ("notified", True, 5)


def test_five_neighbours_and_a_sensor_are_one_incident_six_reports_two_notices() -> None:
    sensor = received(subject="cam-bien-7")
    neighbours = [received(kind="desk", subject="tong-dai", occurred_at=NIGHT + n * MINUTE) for n in range(1, 6)]
    found = routed(sensor, *neighbours)
    assert len(found.changes.incidents) == 1
    assert len(found.changes.reports) == 6
    assert len(found.changes.notices) == 2
    assert [m.decision.standing for m in found.changes.decisions] == ["provisional", "confirmed"]


def test_two_hours_later_is_another_incident_with_notices_of_its_own() -> None:
    found = routed(received(), received(occurred_at=NIGHT + timedelta(hours=2)))
    assert len(found.changes.incidents) == 2
    assert len(found.changes.notices) == 4


def test_a_decision_of_another_result_is_linked_to_the_one_before() -> None:
    found = routed(received(), received(kind="officer", subject="cb-1"), received(harm=Harm(deaths=1)))
    first, second, third = found.changes.decisions
    assert (first.number, first.previous) == (1, None)
    assert (second.number, second.previous) == (2, first.decision_id)
    assert (third.number, third.previous) == (3, second.decision_id)
    assert third.decision.severity == 2
    made = [e for e in found.changes.events if isinstance(e, DecisionMade)]
    assert [e.data.previous for e in made] == [None, first.decision_id, second.decision_id]


def test_a_report_that_says_the_same_makes_no_new_decision() -> None:
    found = routed(received(), received(), received())
    assert len(found.changes.decisions) == 1
    assert len(found.changes.reports) == 3


def test_events_of_an_incident_are_numbered_without_a_gap_and_name_their_cause() -> None:
    sensor, officer = received(), received(kind="officer", subject="cb-1")
    found = routed(sensor, officer)
    data: list[Data] = [e.data for e in found.changes.events]
    assert [d.sequence for d in data] == list(range(1, len(data) + 1))
    assert {d.cause for d in data} == {sensor.id, officer.id}
    assert {d.incident for d in data} == {next(iter(found.changes.incidents))}
    assert all(d.unit == BA_DINH and d.category == "FIRECRACKER_SET_OFF" for d in data)


def test_every_event_survives_the_wire() -> None:
    found = routed(received(), received("FIRE", kind="officer"), using=engine([tenure(SECRETARY)]))
    events: list[Event] = found.changes.events
    assert [parse(encode(e)) for e in events] == events


def test_an_exercise_never_joins_a_real_incident_and_goes_to_the_log_only() -> None:
    found = routed(received(), received(exercise=True))
    real, exercise = found.changes.incidents.values()
    assert (real.anchor.exercise, exercise.anchor.exercise) == (False, True)
    channels = {n.incident.incident_id: [url for url, _ in n.channels] for n in found.changes.notices}
    assert channels[exercise.incident_id] == ["outbox://log"]
    assert channels[real.incident_id] == ["outbox://mau-chu-tich"]
    titles = [n.title for n in found.changes.notices if n.incident is exercise]
    assert titles
    assert all(title.startswith("DIỄN TẬP") for title in titles)


def test_holders_without_a_channel_are_told_to_the_desk_in_one_notice_that_names_both_posts() -> None:
    found = routed(received(), received(), using=engine(channels={}))
    assert told(found) == ["mau-bi-thu:accountable", "mau-chu-tich:accountable", "desk:unreachable"]
    assert found.changes.notices[-1].notice.posts == (CHAIR, SECRETARY)
    by_recipient = {n.notice.recipient: [url for url, _ in n.channels] for n in found.changes.notices}
    assert by_recipient == {"mau-bi-thu": [], "mau-chu-tich": [], "desk": ["outbox://desk"]}


def test_each_holder_and_the_desk_have_a_due_time() -> None:
    found = routed(received(harm=Harm(deaths=3), clock_ahead=True))
    due = {n.notice.recipient: n.due_at for n in found.changes.notices}
    assert due == {
        "mau-bi-thu": NIGHT + 5 * MINUTE,
        "mau-chu-tich": NIGHT + 5 * MINUTE,
        "desk": NIGHT + 30 * MINUTE,
    }


def test_a_review_has_a_due_time_of_its_own() -> None:
    found = routed(received("FIRE"))
    assert told(found) == ["desk:review"]
    assert [(d.kind, d.due_at) for d in found.changes.timers] == [("review", NIGHT + 30 * MINUTE)]


def test_what_an_officer_denies_is_not_confirmed_by_that_and_the_desk_decides() -> None:
    lawful = Firecracker(explosion_sound=False, licensed=True)
    found = routed(received(), received(kind="officer", subject="cb-1", firecracker=lawful))
    case = only_case(found)
    assert case.decision is not None
    assert (case.decision.outcome, case.decision.standing, case.decision.disputed) == ("applies", "provisional", True)
    assert "desk:review" in told(found)


def test_a_review_ends_when_the_decision_leaves_nothing_to_review() -> None:
    found = routed(received("FIRE"), received("FIRE", kind="officer", subject="cb-1", harm=Harm(deaths=2)))
    assert list(found.changes.cancelled_timers.values()) == [{"review"}]
    assert "review" not in {d.kind for d in found.changes.timers}


def test_a_new_holder_is_told_when_a_later_report_comes_and_the_old_one_is_not_told_again() -> None:
    held = [
        tenure(SECRETARY),
        tenure(CHAIR, "mau-cu", "2021-02-01 00:00", "2023-01-22 00:00"),
        tenure(CHAIR, "mau-moi", "2023-01-22 00:00"),
    ]
    found = routed(received(), using=engine(held))
    found.now = at("2023-01-22 00:10")
    routed(received(occurred_at=NIGHT + 5 * MINUTE), using=found)
    assert told(found) == ["mau-bi-thu:accountable", "mau-cu:accountable", "mau-moi:accountable"]
    parties = found.changes.decisions[-1].decision.parties
    assert [p.accountable.holder_id if p.accountable else None for p in parties] == ["mau-bi-thu", "mau-cu"]


def test_other_wards_have_their_own_holders() -> None:
    other = [tenure(post, f"mau-ngoc-trao-{post}", unit=NGOC_TRAO) for post in (SECRETARY, CHAIR)]
    found = routed(received(unit=NGOC_TRAO), using=engine([*BOTH_POSTS, *other]))
    assert told(found) == ["mau-ngoc-trao-party_secretary:accountable", "mau-ngoc-trao-chair:accountable"]


def test_before_the_rule_was_announced_a_report_is_undetermined_and_goes_to_the_desk() -> None:
    before = at("2023-01-05 23:59")
    found = routed(received(occurred_at=before), using=engine(now=before))
    (made,) = found.changes.decisions
    assert (made.decision.outcome, made.inputs.rulebook_version) == ("undetermined", None)
    assert told(found) == ["desk:review"]


@pytest.mark.parametrize(("minutes", "incidents"), [(5, 2), (30, 1)])
def test_how_far_apart_reports_may_be_is_the_rulebooks_to_say(minutes: int, incidents: int) -> None:
    adopted: AdoptedRulebook = rulebook(("window_minutes: 30", f"window_minutes: {minutes}"))
    events = received(), received(occurred_at=NIGHT + 10 * MINUTE)
    assert len(routed(*events, using=engine(rulebooks=[adopted])).changes.incidents) == incidents


def test_every_decision_is_made_under_the_rulebook_in_force_at_the_incident() -> None:
    found = routed(received())
    (made,) = found.changes.decisions
    assert made.inputs.rulebook_version == RULEBOOK.rulebook.version
    assert made.decision.rulebook is not None
    assert made.decision.rulebook.sha256 == RULEBOOK.sha256


# --- one place under several names ---

RENAMED = tuple(
    UnitRef(code=code, valid_from=date(2023, 1, day), name=f"Mẫu {day}") for code, day in (("14776", 22), ("14797", 23))
)


def with_units(*units: Unit, using: IncidentEngine) -> IncidentEngine:
    using.directory = replace(using.directory, units={key_of(unit.ref): unit for unit in units})
    return using


def incidents_of(found: IncidentEngine) -> list[str | None]:
    return [e.data.incident for e in found.changes.events if isinstance(e, ReportCorrelated)]


def test_a_ward_that_is_renamed_twice_within_one_window_is_one_place() -> None:
    wide = rulebook(("\n  window_minutes: 30", "\n  window_minutes: 3000"))
    first, second = RENAMED
    found = with_units(
        Unit(BA_DINH, "phường", first.valid_from, (first,)),
        Unit(first, "phường", second.valid_from, (second,)),
        Unit(second, "phường"),
        using=engine(rulebooks=(wide,)),
    )
    for unit, when in ((BA_DINH, "21 23:50"), (second, "23 00:03"), (first, "22 12:00")):
        route(found, received(unit=unit, occurred_at=at(f"2023-01-{when}")))
    assert len(set(incidents_of(found))) == 1


def test_wards_that_became_one_are_not_joined_by_what_it_is_now() -> None:
    (_, one) = RENAMED
    found = with_units(
        Unit(BA_DINH, "phường", one.valid_from, (one,)),
        Unit(NGOC_TRAO, "phường", one.valid_from, (one,)),
        Unit(one, "phường"),
        using=engine(),
    )
    for unit in (BA_DINH, NGOC_TRAO):
        route(found, received(unit=unit, occurred_at=at("2023-01-22 23:55")))
    route(found, received(unit=one, occurred_at=at("2023-01-23 00:03")))
    here, there, after = incidents_of(found)
    assert here != there
    assert after in {here, there}
