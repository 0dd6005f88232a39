"""A corrected incident begins anew: who was told in error is told so, who answers by what holds is asked."""

from dataclasses import replace
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.directory.model import Unit, key_of
from services.escalation.domain.incidents.correcting import Correction
from services.escalation.domain.incidents.correlation import Point
from services.escalation.domain.incidents.engine import IncidentEngine
from shared.events import UnitRef
from tests.support import BA_DINH, BOTH_POSTS, CHAIR, NGOC_TRAO, NIGHT, SECRETARY, engine, received, tenure
from tests.unit.escalation.incidents.night import ASKED, DAY, MINUTE, NO_LONGER, Night, duty

ELSEWHERE = Unit(NGOC_TRAO, "phường")
THERE = (tenure(SECRETARY, "mau-bi-thu-2", unit=NGOC_TRAO), tenure(CHAIR, "mau-chu-tich-2", unit=NGOC_TRAO))
ASKED_THERE = ["mau-bi-thu-2:accountable", "mau-chu-tich-2:accountable"]


def both_wards(*more: UnitRef) -> IncidentEngine:
    found = engine((*BOTH_POSTS, *THERE))
    units = {key_of(BA_DINH): Unit(BA_DINH, "phường"), key_of(NGOC_TRAO): ELSEWHERE}
    found.directory = replace(found.directory, units=units | {key_of(u): Unit(u, "phường") for u in more})
    return found


def earlier(minutes: int) -> Correction:
    return Correction(occurred_at=NIGHT - minutes * MINUTE)


def new(night: Night, correction: Correction) -> list[str]:
    before = len(night.notices)
    night.correct(correction)
    return night.told[before:]


def test_a_corrected_time_asks_who_answers_in_a_new_round() -> None:
    night = Night()
    night.acknowledge("mau-chu-tich")
    assert new(night, earlier(5)) == ASKED
    assert (night.case.round, night.case.state, night.case.acknowledged) == (2, "notified", set())
    assert [n.round for n in night.notices] == [1, 1, 2, 2]


def test_who_is_not_asked_any_more_after_another_time_is_told_so() -> None:
    night = Night()
    assert new(night, Correction(occurred_at=NIGHT - 60 * DAY)) == ["desk:review", *NO_LONGER]
    assert night.due() == [("review", 30)]


def test_the_wrong_ward_is_told_in_the_words_of_before_and_the_right_one_asked() -> None:
    night = Night(using=both_wards())
    assert new(night, Correction(unit=ELSEWHERE)) == [*NO_LONGER, *ASKED_THERE]
    told = {n.notice.recipient: n.body for n in night.notices[2:]}
    assert "Ba Đình" in told["mau-chu-tich"]
    assert "Ngọc Trạo" in told["mau-chu-tich-2"]
    assert "Ngọc Trạo" not in told["mau-chu-tich"]


def test_a_gap_of_the_right_ward_is_told_to_the_desk_also_where_the_wrong_one_had_the_same() -> None:
    found = both_wards()
    held = (BOTH_POSTS[0], THERE[0])
    found.directory = replace(found.directory, tenures=held)
    night = Night(using=found)
    assert night.told[-1] == "desk:vacancy"
    assert new(night, Correction(unit=ELSEWHERE))[-1] == "desk:vacancy"


def test_in_a_ward_that_was_divided_since_the_desk_says_whose_it_is() -> None:
    part, other = (UnitRef(code=c, valid_from=date(2023, 1, 21), name=c) for c in ("14770", "14772"))
    found = both_wards()
    was = Unit(NGOC_TRAO, "phường", date(2023, 1, 21), (part, other))
    found.directory = replace(found.directory, units=dict(found.directory.units) | {key_of(NGOC_TRAO): was})
    night = Night(using=found)
    corrected = Correction(unit=was, occurred_at=NIGHT - DAY)
    assert new(night, corrected) == [*NO_LONGER, "desk:unit_split"]


def test_what_was_an_exercise_is_taken_back_where_it_was_told_and_goes_on_in_the_log() -> None:
    night = Night()
    told = new(night, Correction(exercise=True))
    assert told == [*NO_LONGER, *ASKED]
    channels = [{url for url, _ in n.channels} for n in night.notices[2:]]
    assert channels == [{"outbox://mau-bi-thu"}, {"outbox://mau-chu-tich"}, {"outbox://log"}, {"outbox://log"}]


def test_an_exercise_that_was_real_takes_nothing_back() -> None:
    night = Night(received(kind="officer", exercise=True))
    assert new(night, Correction(exercise=False)) == ASKED
    assert [{url for url, _ in n.channels} for n in night.notices[2:]] == [
        {"outbox://mau-bi-thu"},
        {"outbox://mau-chu-tich"},
    ]


def test_the_leadership_that_was_rung_is_told_so_once() -> None:
    night = Night(using=both_wards())
    night.go(NIGHT + 40 * MINUTE)
    assert "leadership:not_acknowledged" in night.told
    assert "leadership:stand_down" in new(night, Correction(unit=ELSEWHERE))
    assert "leadership:stand_down" not in new(night, Correction(unit=Unit(BA_DINH, "phường")))


def test_the_leadership_goes_on_waiting_for_a_review_after_another_time() -> None:
    night = Night(received("EXPLOSION"))
    night.go(NIGHT + 70 * MINUTE)
    assert "leadership:not_reviewed" in night.told
    assert new(night, earlier(5)) == ["desk:review"]


def test_who_is_on_duty_is_told_as_well() -> None:
    found = both_wards()
    duties = (duty("ward", "mau-truc", unit=BA_DINH), duty("ward", "mau-truc-2", unit=NGOC_TRAO))
    found.directory = replace(found.directory, duties=duties)
    night = Night(using=found)
    assert new(night, Correction(unit=ELSEWHERE)) == [
        *NO_LONGER,
        "mau-truc:stand_down",
        *ASKED_THERE,
        "mau-truc-2:duty",
    ]


def test_whose_turn_of_duty_is_over_is_told_no_more() -> None:
    found = both_wards()
    found.directory = replace(found.directory, duties=(duty("ward", "mau-truc", unit=BA_DINH),))
    night = Night(using=found)
    night.go(NIGHT + 2 * DAY)
    told = new(night, Correction(unit=ELSEWHERE))
    assert {*NO_LONGER, "mau-truc:stand_down"} & {*told} == {*NO_LONGER}


def test_a_point_tells_nobody_and_makes_no_decision() -> None:
    night = Night()
    assert new(night, Correction(point=Point(19.8, 105.77))) == []
    assert (night.case.anchor.point, night.case.decision_number) == (Point(19.8, 105.77), 1)


def test_who_was_stood_down_already_is_not_told_a_second_time() -> None:
    night = Night(received(), using=both_wards())
    night.find("verification", firecrackers_exploded=False)
    assert night.told[-2:] == NO_LONGER
    assert new(night, Correction(unit=ELSEWHERE)) == []


corrections = st.sampled_from(
    (earlier(5), earlier(20), Correction(unit=ELSEWHERE), Correction(unit=Unit(BA_DINH, "phường")))
)
corrections |= st.booleans().map(lambda exercise: Correction(exercise=exercise))


@given(st.lists(st.tuples(corrections, st.integers(0, 90)), min_size=1, max_size=6))
def test_after_any_corrections_who_answers_is_asked_and_nobody_else_goes_on_being_asked(
    done: list[tuple[Correction, int]],
) -> None:
    night = Night(using=both_wards())
    for correction, minutes in done:
        night.go(night.engine.now + minutes * MINUTE)
        if correction.changes(night.case):
            night.correct(correction)
        acting = night.case.standing.acting
        assert {who for who, _ in night.case.ack_requested} == acting
        assert {who for r in night.rows for who in r.who} <= acting | {"desk", "leadership"}
        assert night.case.standing.unit == night.case.unit
        assert night.case.standing.exercise == night.case.anchor.exercise
