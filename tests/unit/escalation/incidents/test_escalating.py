"""An incident that somebody puts to the leadership at once: nothing that others are asked ends or moves."""

import pytest

from services.escalation.domain.incidents.obligations import Waiting, waits_for
from shared.events import ChainExhausted
from tests.support import CHAIR, NIGHT, RULEBOOK, engine, received
from tests.unit.escalation.incidents.night import MINUTE, Night


def test_the_leadership_is_told_at_once_and_has_the_time_of_a_level() -> None:
    night = Night()
    night.go(NIGHT + 3 * MINUTE)
    night.escalate(CHAIR)
    issued = night.notices[-1]
    assert (issued.notice.recipient, issued.notice.purpose, issued.notice.posts) == (
        "leadership",
        "escalated",
        (CHAIR,),
    )
    assert issued.due_at == NIGHT + 18 * MINUTE
    assert night.due("escalation") == [("escalation", 18)]
    assert night.case.level == 2


@pytest.mark.parametrize("posts", [(CHAIR,), ()], ids=["by the chair", "by the desk"])
def test_everybody_else_is_asked_as_before(posts: tuple[str, ...]) -> None:
    night, plain = Night(), Night()
    night.escalate(*posts)
    assert [each for each in night.due() if each[0] != "escalation"] == plain.due()
    told = night.go(NIGHT + 300 * MINUTE)
    assert [each for each in told if each != "desk:exhausted"] == [
        each for each in plain.go(NIGHT + 300 * MINUTE) if each != "desk:exhausted"
    ]


def test_post_holders_who_then_acknowledge_do_not_take_it_from_the_leadership() -> None:
    night = Night()
    night.escalate(CHAIR)
    night.acknowledge("mau-bi-thu")
    night.acknowledge("mau-chu-tich")
    assert night.case.state == "acknowledged"
    assert night.due("escalation") == [("escalation", 15)]
    assert night.go(NIGHT + 16 * MINUTE) == ["desk:exhausted"], "nobody in the leadership answered either"
    assert [d.round for d in night.of(ChainExhausted)] == [1]


def test_the_leadership_ends_it_by_its_answer_and_the_incident_goes_on() -> None:
    night = Night()
    night.escalate()
    night.acknowledge("leadership")
    assert night.due("escalation") == []
    assert night.case.is_open
    assert {kind for kind, _ in night.due()} >= {"acknowledge", "lapse"}


def test_a_new_round_takes_nothing_from_the_leadership() -> None:
    """A lapse that comes before the leadership's time is over."""
    book = RULEBOOK.rulebook
    chain = book.chain.model_copy(update={"lapse_minutes": dict.fromkeys((1, 2, 3, 4), 20)})
    hasty = RULEBOOK.model_copy(update={"rulebook": book.model_copy(update={"chain": chain})})
    night = Night(using=engine(rulebooks=[hasty]))
    night.go(NIGHT + 10 * MINUTE)
    night.escalate(CHAIR)
    night.go(NIGHT + 21 * MINUTE)
    assert night.case.round == 2
    assert night.due("escalation") == [("escalation", 25)]


def test_it_waits_for_the_leadership_to_answer_what_was_put_to_it() -> None:
    night = Night(received(kind="officer"))
    night.escalate(CHAIR)
    waiting = Waiting("escalation", ("leadership",), (CHAIR,), NIGHT, NIGHT + 15 * MINUTE, 2)
    (found,) = waits_for(night.case, [waiting])
    assert (found.who, found.what, found.posts, found.level) == ("leadership", "answer_escalation", (CHAIR,), 2)
