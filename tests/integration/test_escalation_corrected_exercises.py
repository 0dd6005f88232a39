"""A report was an exercise, or an exercise was real: who was told in error hears so, and the two never mix."""

from services.escalation.application.fire_timers import fire_due_timers
from tests.integration.command_support import (
    ASKED,
    HERE,
    HOUR,
    MINUTE,
    NO_LONGER,
    answered,
    correct,
    in_order,
    latest,
    reported,
    state,
    verify,
)
from tests.integration.escalation_support import City
from tests.integration.stored.arranging import deliveries_are
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Delivery, Notice
from tests.support import NIGHT, received


async def sent_to(city: City, recipient: str) -> set[str]:
    return {d.channel for d in await stored(city, Delivery) if d.recipient == recipient}


async def test_what_was_an_exercise_rings_nobody_any_more_and_those_told_are_told_so(city: City) -> None:
    incident = await reported(city)
    await deliveries_are(city, "sent")
    await correct(city, incident, exercise=True)
    real = [n for n in await stored(city, Notice) if not n.exercise]
    assert [f"{n.recipient}:{n.purpose}" for n in real] == [*ASKED, *NO_LONGER]
    assert all("Đó là diễn tập" in n.body for n in real[2:])
    assert await sent_to(city, HERE.subject) == {f"outbox://{HERE.subject}", "outbox://log"}
    city.clock.set(NIGHT + 10 * HOUR)
    await fire_due_timers(city.escalation)
    await verify(city, incident)
    assert [n for n in await stored(city, Notice) if not n.exercise] == real
    assert (await latest(city, incident))["exercise"] is True
    await in_order(city)


async def test_a_real_report_never_joins_what_was_corrected_to_an_exercise(city: City) -> None:
    incident = await reported(city)
    await correct(city, incident, exercise=True)
    assert await reported(city, received(subject="cam-bien-2")) != incident
    assert await reported(city, received(subject="cam-bien-3", exercise=True)) == incident


async def test_an_exercise_that_was_real_asks_everyone_anew_on_their_own_channels(city: City) -> None:
    incident = await reported(city, received(exercise=True))
    await answered(city, incident)
    assert await sent_to(city, HERE.subject) == {"outbox://log"}
    await correct(city, incident, exercise=False)
    real = [n for n in await stored(city, Notice) if not n.exercise]
    assert [f"{n.recipient}:{n.purpose}" for n in real] == ASKED
    assert all("DIỄN TẬP" not in n.title for n in real)
    assert await sent_to(city, HERE.subject) == {"outbox://log", f"outbox://{HERE.subject}"}
    assert await state(city, incident) == "notified"
    city.clock.set(NIGHT + 10 * MINUTE)
    await fire_due_timers(city.escalation)
    assert {"mau-14776-chu-tich:reminder"} <= set(await city.told())
    await in_order(city)
