"""Reports that come after an end: kept with it, told to nobody of the ward, and the desk's to weigh if they matter."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from services.escalation.domain.incidents import after_end
from services.escalation.domain.incidents.change_set import ChangeSet
from services.escalation.domain.incidents.obligations import LONGEST_INTERVAL
from services.escalation.domain.rules.accountability import Inputs, decide
from services.escalation.domain.rules.record import Decision
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from shared.events import Firecracker, Harm, IncidentOpened, ReportCorrelated, ReportReceived, StepRaised
from tests.support import NIGHT, received, route
from tests.unit.escalation.incidents.night import AGAIN, ASKED, DAY, MINUTE, NO_LONGER, SLIGHT, Night

ASKS = "desk:late_reports"
CLIMBS = "leadership:late_reports"


def ended(state: Any = "dismissed", *events: ReportReceived) -> Night:
    """A case that ended ten minutes after its first report, five minutes ago."""
    night = Night(*events)
    night.engine.now = NIGHT + 10 * MINUTE
    night.end(state)
    night.engine.now = NIGHT + 15 * MINUTE
    return night


def late(subject: str = "cam-bien-9", occurred_at: datetime = NIGHT, **more: Any) -> ReportReceived:
    return received(subject=subject, occurred_at=occurred_at, received_at=NIGHT + 15 * MINUTE, **more)


def told_by(night: Night, *events: ReportReceived) -> list[str]:
    before = len(night.notices)
    night.report(*events)
    return night.told[before:]


def test_a_report_after_the_end_joins_what_ended_and_rings_nobody() -> None:
    night = ended("closed")
    assert told_by(night, late()) == []
    assert [d.outcome for d in night.of(ReportCorrelated)] == ["new", "late"]
    assert len(night.of(IncidentOpened)) == 1
    assert night.case.state == "closed"


@pytest.mark.parametrize("state", ["closed", "dismissed", "handed_off"])
def test_a_report_of_graver_harm_is_the_desks_and_not_the_post_holders(state: str) -> None:
    night = ended(state, received(kind="officer", harm=SLIGHT))
    assert told_by(night, late(harm=Harm(deaths=2))) == [ASKS]
    assert night.case.standing.severity == 1, "it counts once the case is reopened"
    assert night.due("late_reports") == [("late_reports", 15 + 10)], "a level's time at severity 3, from now"
    assert "mức độ 3" in night.notices[-1].body
    assert "severity 3" in night.notices[-1].body


def test_what_does_not_raise_anything_asks_nothing() -> None:
    night = ended("closed", received(kind="officer", harm=Harm(deaths=2)))
    assert told_by(night, late(harm=SLIGHT), late(harm=Harm(deaths=1))) == []


def test_a_report_by_which_the_rule_newly_applies_is_the_desks() -> None:
    night = ended("closed", received("EXPLOSION", kind="officer", harm=SLIGHT, firecracker=None))
    night_did = ended("closed", received(kind="officer", firecracker=Firecracker(explosion_sound=False, licensed=True)))
    assert night_did.case.standing.outcome == "does_not_apply"
    assert told_by(night_did, late()) == [ASKS]
    assert "thuộc quy định" in night_did.notices[-1].body
    assert told_by(night, late("cam-bien-8", category="EXPLOSION")) == []


def test_one_echo_of_what_was_dismissed_is_none_of_the_desks_time_and_a_second_is() -> None:
    night = ended("dismissed", received())
    assert told_by(night, late("cam-bien-1")) == []
    assert told_by(night, late("cam-bien-1")) == [ASKS]
    assert night.due("late_reports") == [("late_reports", 15 + 30)], "a review's time"
    assert told_by(night, late("cam-bien-1"), late("cam-bien-1")) == [], "it is asked once"
    assert night.case.summary.late is not None
    assert night.case.summary.late.new == 4


def test_reports_that_keep_coming_on_what_was_closed_are_no_doubt_of_it() -> None:
    night = ended("closed")
    assert told_by(night, *(late(f"cam-bien-{n}") for n in range(20))) == []


def test_an_officer_who_confirms_what_was_dismissed_is_heard_at_once() -> None:
    night = ended("dismissed", received())
    assert told_by(night, late(kind="officer", subject="cb-1")) == [ASKS]
    assert "verified" in night.notices[-1].body


def test_what_happened_after_the_end_is_heard_even_if_it_is_the_same_again() -> None:
    night = ended("closed")
    assert told_by(night, late(occurred_at=NIGHT + 12 * MINUTE)) == [ASKS]
    assert told_by(night, late(occurred_at=NIGHT + 13 * MINUTE)) == []
    assert "later than the end" in night.notices[-1].body


def test_the_desk_that_does_not_answer_is_told_on_and_asked_again_for_ever() -> None:
    night = ended("dismissed", received())
    before = len(night.notices)
    night.report(late(kind="officer", subject="cb-1"))
    asked = night.notices[before].issued_at
    assert night.go(asked + 16 * MINUTE) == [CLIMBS]
    assert [(d.level, d.reason, d.task) for d in night.of(StepRaised)][-1:] == [
        ("leadership", "not_reviewed", "late_reports")
    ]
    night.go(asked + 10 * DAY)
    since = night.notices[before:]
    assert {n.notice.recipient for n in since} == {"desk", "leadership"}, "the ward does not owe it"
    times = [*sorted({n.issued_at for n in since}), night.engine.now]
    assert max(later - earlier for earlier, later in pairwise(times)) <= LONGEST_INTERVAL
    assert len(since) < 60


def test_the_desk_holds_to_the_end_and_is_asked_again_only_for_more() -> None:
    night = ended("dismissed", received(harm=SLIGHT))
    night.report(late(harm=Harm(deaths=1)), late(harm=Harm(deaths=1)))
    night.hold_to_the_end()
    assert night.rows == []
    assert told_by(night, late(harm=Harm(deaths=1))) == [], "what it weighed already, once more"
    assert told_by(night, late(harm=Harm(deaths=3))) == [ASKS]
    night.hold_to_the_end()
    assert told_by(night, late(harm=Harm(deaths=3)), late(harm=Harm(deaths=3))) == [ASKS], "they keep coming"


def test_more_harm_while_the_desk_is_asked_asks_it_anew() -> None:
    night = ended("dismissed", received(harm=SLIGHT))
    assert told_by(night, late(harm=Harm(deaths=1))) == [ASKS]
    assert told_by(night, late("cam-bien-8", harm=Harm(deaths=3))) == [ASKS]
    assert night.due("late_reports") == [("late_reports", 15 + 5)]
    assert told_by(night, late("cam-bien-7", harm=Harm(deaths=2))) == []


def test_a_reopened_case_counts_what_came_late_and_asks_everybody() -> None:
    night = ended("dismissed", received(kind="officer", harm=SLIGHT))
    assert night.told == [*ASKED, *NO_LONGER]
    night.report(late(harm=Harm(deaths=3)))
    before = len(night.notices)
    night.reopen()
    assert night.case.standing.severity == 4
    assert sorted(set(night.told[before:])) == sorted(AGAIN)
    assert night.case.summary.late is None
    assert night.case.summary.count == len(night.case.reports) == 2
    assert night.due("late_reports") == []
    assert told_by(night, late("cam-bien-7", harm=Harm(deaths=3))) == []
    assert [d.outcome for d in night.of(ReportCorrelated)] == ["new", "late", "merged"]


def test_what_was_received_before_the_assessment_still_adds_to_it() -> None:
    """An import brings it, or a clock was set back."""
    night = Night(received(kind="officer", harm=Harm(deaths=1), received_at=NIGHT + 5 * MINUTE))
    night.engine.now = NIGHT + 10 * MINUTE
    night.find("severity", harm=SLIGHT.model_dump(exclude_none=True), until=night.engine.now.isoformat())
    night.end("closed")
    early = received(harm=Harm(deaths=3), received_at=NIGHT + MINUTE, subject="cam-bien-9")
    assert told_by(night, early) == [ASKS]


def test_a_thousand_reports_at_once_are_one_task_and_are_weighed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    night, weighed = ended("dismissed", received()), list[Inputs]()

    def decided(inputs: Inputs, adopted: AdoptedRulebook | None) -> Decision:
        weighed.append(inputs)
        return decide(inputs, adopted)

    monkeypatch.setattr(after_end, "decide", decided)
    before = len(night.notices)
    night.report_at_once(*(late(f"cam-bien-{n}", harm=Harm(property_vnd=n)) for n in range(1_000)))
    assert night.told[before:] == [ASKS]
    assert len(weighed) == 2, "with them and without them"
    night.report_at_once(*(late(f"cam-bien-{n}", harm=Harm(property_vnd=n)) for n in range(20)))
    assert len(weighed) == 2, "nothing that was not said"


def went_to(night: Night, event: ReportReceived) -> tuple[str, str]:
    """The incident of the report, and how it got there, of however many incidents."""
    route(night.engine, event)
    (said,) = [e.data for e in night.engine.changes.events if isinstance(e, ReportCorrelated)]
    night.engine.changes = ChangeSet()
    return str(said.incident), said.outcome


def test_a_report_outside_the_window_opens_an_incident_as_ever() -> None:
    assert went_to(ended(), late(occurred_at=NIGHT - timedelta(hours=1)))[1] == "new"


def test_an_exercise_is_never_a_late_report_of_what_was_real() -> None:
    assert went_to(ended(), late(exercise=True))[1] == "new"
    practised = ended("dismissed", received(exercise=True))
    assert went_to(practised, late())[1] == "new"
    assert went_to(practised, late(exercise=True))[1] == "late"


def test_of_two_that_ended_the_nearest_in_time_gets_the_report() -> None:
    night = ended()
    second, _ = went_to(night, late(occurred_at=NIGHT - 40 * MINUTE))
    (other,) = [i for incidents in night.engine.near.values() for i in incidents if i.incident_id == second]
    other.state = "closed"
    assert went_to(night, late(occurred_at=NIGHT - 15 * MINUTE)) == (night.case.incident_id, "late")
    assert went_to(night, late("cam-bien-8", NIGHT - 25 * MINUTE)) == (second, "late")


def test_an_open_incident_comes_before_one_that_ended_though_that_is_nearer() -> None:
    night = ended()
    second, _ = went_to(night, late(occurred_at=NIGHT - 40 * MINUTE))
    assert went_to(night, late(occurred_at=NIGHT - 12 * MINUTE)) == (second, "merged")
