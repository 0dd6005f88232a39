"""What happens when nobody answers in time: the city duty desk is told, once, by whichever loop comes first."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from services.escalation.application import fire_timers
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from shared.events import Harm, StepRaised
from shared.http.identity import Principal
from tests.integration.command_support import revise
from tests.integration.escalation_support import City, route_all
from tests.integration.stored.arranging import mend_reports, spoil_reports
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Delivery, DueTime, Incident, Notice, Report
from tests.support import BA_DINH, CHAIR, DONG_THO, NGOC_TRAO, NIGHT, SECRETARY, received

MINUTE = timedelta(minutes=1)
BA_DINH_SECRETARY = Principal("mau-14776-bi-thu", "official", "14776", SECRETARY)
BOTH_TOLD = ["mau-14776-bi-thu:accountable", "mau-14776-chu-tich:accountable"]


async def steps(city: City) -> list[tuple[str, str]]:
    return [(e.data.level, e.data.reason) for e in await city.events() if isinstance(e, StepRaised)]


async def test_the_desk_is_told_when_the_time_is_up_and_not_before(city: City) -> None:
    await route_reports(city.escalation, [received(kind="officer")])
    city.clock.set(NIGHT + 8 * MINUTE)
    assert await fire_due_timers(city.escalation) == 0
    assert await city.told() == BOTH_TOLD
    city.clock.set(NIGHT + 15 * MINUTE + timedelta(seconds=1))
    assert await fire_due_timers(city.escalation) == 1
    assert await city.told() == [*BOTH_TOLD, "desk:not_acknowledged"]
    assert (await only(city, Notice, recipient="desk")).posts == [CHAIR, SECRETARY]
    assert await steps(city) == [("desk", "not_acknowledged")] * 2, "each passed deadline is on the record"
    assert await city.deadlines() == [("acknowledge", "passed")] * 2


async def test_the_more_severe_the_sooner(city: City) -> None:
    await route_reports(city.escalation, [received(harm=Harm(deaths=3)), received(unit=NGOC_TRAO)])
    city.clock.set(NIGHT + 6 * MINUTE)
    assert await fire_due_timers(city.escalation) == 1, "severity 4: five minutes; unknown: fifteen"


async def test_only_the_posts_that_did_not_answer_are_named(city: City) -> None:
    await route_reports(city.escalation, [received(kind="officer")])
    await acknowledge(city.escalation, await city.incident(), BA_DINH_SECRETARY)
    city.clock.set(NIGHT + 20 * MINUTE)
    await fire_due_timers(city.escalation)
    assert (await only(city, Notice, recipient="desk")).posts == [CHAIR]
    assert await city.deadlines() == [("acknowledge", "cancelled"), ("acknowledge", "passed")]


async def test_acting_on_passed_deadlines_again_changes_nothing(city: City) -> None:
    await route_reports(city.escalation, [received(kind="officer")])
    city.clock.set(NIGHT + 20 * MINUTE)
    await fire_due_timers(city.escalation)
    told, events = await city.told(), await city.events()
    assert await fire_due_timers(city.escalation) == 0
    assert (await city.told(), await city.events()) == (told, events)


async def test_two_loops_at_once_tell_the_desk_once_for_each_incident(city: City) -> None:
    hours = [NIGHT - n * timedelta(hours=2) for n in range(4)]
    wards = (BA_DINH, NGOC_TRAO, DONG_THO)
    await route_reports(
        city.escalation, [received(unit=u, occurred_at=hour, kind="officer") for hour in hours for u in wards]
    )
    city.clock.set(NIGHT + 20 * MINUTE)
    async with city.another() as other:
        done = await asyncio.gather(*(fire_due_timers(c.escalation) for c in (city, other) for _ in range(4)))
    assert sum(done) + await fire_due_timers(city.escalation) == 12, "each incident once, whoever took it"
    told = await city.told()
    assert told.count("desk:not_acknowledged") == 12
    assert await city.deadlines() == [("acknowledge", "passed")] * 24
    for incident in await stored(city, Incident):
        sequences = [e.data.sequence for e in await city.events(incident.incident_id)]
        assert sequences == list(range(1, len(sequences) + 1))


async def test_an_acknowledgement_in_the_last_moment_and_the_deadline_agree_on_who_was_first(city: City) -> None:
    """Either it counts and the deadline is cancelled, or the deadline passed and the desk knows; never both ways."""
    for round_ in range(6):
        await city.emptied()
        city.clock.set(NIGHT)
        await route_reports(city.escalation, [received(kind="officer")])
        incident = await city.incident()
        city.clock.set(NIGHT + 16 * MINUTE)
        work = [acknowledge(city.escalation, incident, BA_DINH_SECRETARY), fire_due_timers(city.escalation)]
        await asyncio.gather(*(work if round_ % 2 else reversed(work)))
        await fire_due_timers(city.escalation)  # an incident that is busy is left to the next round
        secretarys = await only(city, DueTime, recipient="mau-14776-bi-thu", kind="acknowledge")
        to_desk = await only(city, Notice, purpose="not_acknowledged")
        assert (SECRETARY in to_desk.posts) == (secretarys.state == "passed")


async def test_reports_that_come_in_while_deadlines_pass_block_nobody(city: City) -> None:
    await route_reports(city.escalation, [received(unit=u) for u in (DONG_THO, NGOC_TRAO)])
    city.clock.set(NIGHT + 20 * MINUTE)
    more = [received(unit=u, harm=Harm(deaths=n)) for u in (NGOC_TRAO, DONG_THO) for n in (0, 1, 2)]
    await asyncio.gather(
        *(route_all(city.escalation, [event]) for event in more),
        *(fire_due_timers(city.escalation) for _ in range(3)),
    )
    await fire_due_timers(city.escalation)
    assert (await city.told()).count("desk:not_acknowledged") == 2
    assert len(await stored(city, Report)) == 8


@pytest.mark.parametrize("how", ["report", "command"])
async def test_what_makes_it_graver_does_not_hide_that_a_deadline_was_missed(city: City, how: str) -> None:
    """The deadline has passed and no timer has fired yet, as after an outage. Then everybody is asked anew."""
    await route_reports(city.escalation, [received()])
    city.clock.set(NIGHT + 20 * MINUTE)
    if how == "report":
        await route_reports(city.escalation, [received(harm=Harm(deaths=2))])
    else:
        await revise(city, await city.incident(), deaths=2)
    assert (await city.told())[-3:] == [
        "desk:not_acknowledged",
        "mau-14776-bi-thu:still_open",
        "mau-14776-chu-tich:still_open",
    ]
    assert await steps(city) == [("desk", "not_acknowledged")] * 2
    await fire_due_timers(city.escalation)
    waiting = await stored(city, DueTime, kind="acknowledge", state="pending")
    assert sorted(str(w.recipient) for w in waiting) == ["mau-14776-bi-thu", "mau-14776-chu-tich"]


async def test_a_review_that_the_desk_did_not_do_goes_to_the_leadership(city: City) -> None:
    await route_reports(city.escalation, [received("FIRE")])
    assert await city.told() == ["desk:review"]
    city.clock.set(NIGHT + 31 * MINUTE)
    assert await fire_due_timers(city.escalation) == 1
    assert await city.told() == ["desk:review", "leadership:not_reviewed"]
    assert await steps(city) == [("leadership", "not_reviewed")]


async def test_an_exercise_that_nobody_answers_goes_to_the_log(city: City) -> None:
    await route_reports(city.escalation, [received(exercise=True)])
    city.clock.set(NIGHT + 20 * MINUTE)
    await fire_due_timers(city.escalation)
    assert [d.channel for d in await stored(city, Delivery)] == ["outbox://log"] * 3
    assert all(n.title.startswith("DIỄN TẬP") for n in await stored(city, Notice))


# --- an incident that cannot be handled ---


async def stepped_up(city: City) -> list[str]:
    """Codes of the units of which the desk was told that nobody answers."""
    unit_of = {i.incident_id: i.unit_code for i in await stored(city, Incident)}
    told = await stored(city, Notice, recipient="desk", purpose="not_acknowledged")
    return sorted(unit_of[notice.incident_id] for notice in told)


async def test_one_incident_that_cannot_be_handled_stops_no_other(
    city: City, capsys: pytest.CaptureFixture[str]
) -> None:
    await route_reports(city.escalation, [received(unit=u) for u in (BA_DINH, NGOC_TRAO, DONG_THO)])
    await spoil_reports(city, unit=BA_DINH.code)
    city.clock.set(NIGHT + 20 * MINUTE)
    assert await fire_due_timers(city.escalation) == 2
    assert await stepped_up(city) == [DONG_THO.code, NGOC_TRAO.code]
    (said,) = (line for line in capsys.readouterr().out.splitlines() if "incident cannot be handled" in line)
    assert (await only(city, Incident, unit_code=BA_DINH.code)).incident_id in said
    assert await fire_due_timers(city.escalation) == 0, "it is left alone for a while"
    assert "cannot be handled" not in capsys.readouterr().out


async def test_many_that_cannot_be_handled_take_no_place_of_those_that_can(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fire_timers, "AT_ONCE", 2)
    hours = [NIGHT - n * timedelta(hours=2) for n in range(1, 10)]
    await route_reports(city.escalation, [received(occurred_at=hour) for hour in hours])
    await spoil_reports(city)
    city.clock.set(NIGHT + MINUTE)
    await route_reports(city.escalation, [received(unit=NGOC_TRAO, occurred_at=city.clock.now())])
    city.clock.set(NIGHT + 20 * MINUTE)
    for _ in range(6):
        await fire_due_timers(city.escalation)
    assert await stepped_up(city) == [NGOC_TRAO.code]


async def test_what_could_not_be_handled_is_tried_again_after_a_while(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    await route_reports(city.escalation, [received(kind="officer")])
    said = await spoil_reports(city)
    city.clock.set(NIGHT + 20 * MINUTE)
    assert await fire_due_timers(city.escalation) == 0
    await mend_reports(city, said)
    assert await fire_due_timers(city.escalation) == 0
    later = fire_timers.monotonic() + fire_timers.TRIED_AGAIN_SECONDS
    monkeypatch.setattr(fire_timers, "monotonic", lambda: later)
    assert await fire_due_timers(city.escalation) == 1
    assert await stepped_up(city) == [BA_DINH.code]


async def test_a_database_that_is_away_is_no_fault_of_an_incident(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise OperationalError("SELECT 1", None, ConnectionResetError("gone"))

    await route_reports(city.escalation, [received(kind="officer")])
    city.clock.set(NIGHT + 20 * MINUTE)
    with monkeypatch.context() as patch:
        patch.setattr(fire_timers.timers, "mark_fired", away)
        with pytest.raises(OperationalError):
            await fire_due_timers(city.escalation)
    assert await fire_due_timers(city.escalation) == 1, "nothing was put aside"
