"""Nothing could be brought to a post-holder: the desk has to mend that, and the leadership hears if it does not."""

from dataclasses import replace

from services.escalation.domain.directory.model import Contact
from services.escalation.domain.incidents.obligations import Waiting, waits_for
from shared.events import Harm, StepRaised
from tests.support import BOTH_POSTS, CHAIR, NIGHT, SECRETARY, engine, received, tenure
from tests.unit.escalation.incidents.night import MINUTE, Night

GRAVE = Harm(deaths=3)
REACHED = {"mau-bi-thu": ("outbox://mau-bi-thu",)}
ASKED = ["mau-bi-thu:accountable", "mau-chu-tich:accountable"]


def without_channel() -> Night:
    """The chair has none; it is verified, so that nothing else waits for the desk."""
    return Night(received(kind="officer", harm=GRAVE), using=engine(channels=REACHED))


def lost() -> Night:
    """What the chair was asked is given up."""
    night = Night(received(kind="officer", harm=GRAVE))
    night.lose("mau-chu-tich")
    return night


def owed_by_desk(night: Night) -> list[tuple[str, tuple[str, ...]]]:
    rows = [Waiting(r.kind, r.who, (), NIGHT, r.due_at, r.level) for r in night.rows if r.who]
    return [(one.what, one.posts) for one in waits_for(night.case, rows) if one.who == "desk"]


def test_a_post_holder_without_a_channel_is_a_task_of_the_desk_with_a_due_time() -> None:
    night = without_channel()
    assert night.told == [*ASKED, "desk:unreachable"]
    assert night.notices[-1].due_at == NIGHT + 5 * MINUTE
    assert "Đề nghị gọi điện, bổ sung kênh liên lạc." in night.notices[-1].body
    assert night.due("lost_notice") == [("lost_notice", 5)]
    assert owed_by_desk(night) == [("mend_lost_notice", (CHAIR,))]


def test_a_request_that_no_channel_takes_is_a_task_of_the_desk_with_a_due_time() -> None:
    night = lost()
    assert night.told == [*ASKED, "desk:lost_notice"]
    assert (night.notices[-1].notice.posts, night.notices[-1].due_at) == ((CHAIR,), NIGHT + 5 * MINUTE)
    assert "Chủ tịch UBND. Đề nghị gọi điện, sửa kênh liên lạc." in night.notices[-1].body
    assert owed_by_desk(night) == [("mend_lost_notice", (CHAIR,))]


def test_when_the_desk_does_not_mend_it_the_leadership_is_told_of_the_desk() -> None:
    night = lost()
    night.acknowledge("mau-bi-thu")
    told = night.go(NIGHT + 6 * MINUTE)
    assert "leadership:lost_notice" in told
    assert [(d.level, d.reason, d.task) for d in night.of(StepRaised)][-1] == (
        "leadership",
        "not_reviewed",
        "lost_notice",
    )
    above = next(n for n in night.notices if n.notice.recipient == "leadership")
    assert "Please acknowledge and see that the duty desk settles it." in above.body


def test_the_holders_own_due_time_goes_on_climbing() -> None:
    night = lost()
    night.go(NIGHT + 6 * MINUTE)
    assert "desk:not_acknowledged" in night.told


def test_it_ends_when_the_person_acknowledges() -> None:
    night = lost()
    night.acknowledge("mau-chu-tich")
    assert night.due("lost_notice") == []
    night.acknowledge("mau-bi-thu")
    assert owed_by_desk(night) == []


def test_it_goes_on_for_the_one_who_was_not_reached_while_the_other_acknowledges() -> None:
    night = Night(received(kind="officer", harm=GRAVE), using=engine(channels={}))
    assert owed_by_desk(night) == [("mend_lost_notice", (CHAIR, SECRETARY))]
    night.acknowledge("mau-bi-thu")
    assert owed_by_desk(night) == [("mend_lost_notice", (CHAIR,))]
    assert night.due("lost_notice") == [("lost_notice", 5)]


def test_it_ends_when_the_person_leaves_the_post() -> None:
    night = lost()
    night.change(
        BOTH_POSTS[0],
        tenure(CHAIR, "mau-chu-tich", end="2023-01-21 00:00"),
        tenure(CHAIR, "mau-moi", "2023-01-21 00:00"),
    )
    assert night.go(NIGHT + MINUTE) == ["mau-moi:accountable"]
    assert night.due("lost_notice") == []


def test_it_ends_when_the_rule_does_not_apply_any_more() -> None:
    night = Night(received(harm=GRAVE))
    night.lose("mau-chu-tich")
    night.find("severity", harm={"deaths": 0, "injured": 0, "property_vnd": 0}, until=night.engine.now.isoformat())
    night.find("verification", firecrackers_exploded=False)
    assert night.due("lost_notice") == []


def test_it_ends_with_the_incident() -> None:
    night = lost()
    night.end("closed")
    assert night.due() == []


def test_in_a_new_round_the_request_is_brought_anew_and_the_desk_is_asked_again_if_that_is_lost_too() -> None:
    night = lost()
    night.acknowledge("mau-bi-thu")
    night.go(NIGHT + 61 * MINUTE)
    assert night.case.round == 2
    assert owed_by_desk(night) == [], "it is on its way"
    night.lose("mau-chu-tich")
    assert night.told[-1] == "desk:lost_notice"
    assert owed_by_desk(night) == [("mend_lost_notice", (CHAIR,))]


def test_without_a_channel_the_desk_is_asked_again_in_each_round() -> None:
    night = without_channel()
    night.go(NIGHT + 61 * MINUTE)
    assert night.told.count("desk:unreachable") == 2
    assert owed_by_desk(night)[0] == ("mend_lost_notice", (CHAIR,))


def test_whoever_is_asked_anew_over_a_channel_that_is_there_now_is_on_the_way_to_be_reached() -> None:
    night = without_channel()
    contacts = {"mau-chu-tich": (Contact("outbox://moi"),), "mau-bi-thu": (Contact("outbox://mau-bi-thu"),)}
    night.engine.directory = replace(night.engine.directory, contacts=contacts)
    deputy = tenure(SECRETARY, "mau-chu-tich").model_copy(update={"capacity": "deputy"})
    night.change(*BOTH_POSTS, deputy)
    assert night.go(NIGHT + MINUTE) == ["mau-chu-tich:still_open"]
    assert night.due("lost_notice") == []


def test_a_closure_that_is_proposed_does_not_hide_that_somebody_was_not_reached() -> None:
    night = lost()
    night.acknowledge("mau-bi-thu")
    night.case.state = "responding"
    night.propose_closure()
    assert ("mend_lost_notice", (CHAIR,)) in owed_by_desk(night)
