"""Reports of one incident disagree on its time, and posts changed hands meanwhile: until the desk says when it was."""

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.incidents.correlation import Point
from shared.http.identity import Principal
from tests.integration.command_support import (
    DESK,
    HERE,
    MINUTE,
    SECRETARY_HERE,
    WHY,
    accountable,
    close,
    correct,
    in_order,
    latest,
    merge,
    new_chair_at,
    pending,
    refused,
    reported,
    state,
    two_fires,
    verify,
)
from tests.integration.escalation_support import City
from tests.integration.stored.looking import only
from tests.integration.stored.records import Incident
from tests.support import NIGHT, received


async def answered_by(city: City, incident: str) -> None:
    await acknowledge(city.escalation, incident, SECRETARY_HERE)
    await acknowledge(city.escalation, incident, Principal("mau-chu-tich-moi", "official", "14776", "chair"))


async def test_a_disputed_time_may_be_confirmed_and_nobody_is_rung_for_it(city: City) -> None:
    await new_chair_at(city, NIGHT)
    city.clock.set(NIGHT + 10 * MINUTE)
    before, after = (NIGHT + minutes * MINUTE for minutes in (-5, 5))
    incident = await reported(
        city, *(received(occurred_at=when, received_at=city.clock.now(), subject=f"{when}") for when in (before, after))
    )
    await answered_by(city, incident)
    await verify(city, incident)
    assert (await latest(city, incident))["time_disputed"] is True
    assert "review" in await pending(city, incident)
    assert (await refused(close(city, incident))).status == 409
    told = await city.told()
    await correct(city, incident, occurred_at=before)
    record = await latest(city, incident)
    assert ("time_disputed" in record, record["disputed"]) == (False, False)
    assert (await accountable(city, incident))["chair"] == HERE.subject
    assert (await city.told(), await state(city, incident)) == (told, "acknowledged")
    assert "review" not in await pending(city, incident)
    await route_reports(city.escalation, [received(occurred_at=NIGHT + 6 * MINUTE, subject="s6")])
    assert "time_disputed" not in await latest(city, incident), "the desk has said when it was"
    await close(city, incident)
    await in_order(city)


async def test_a_merge_across_a_change_of_hands_drops_nobody_unseen(city: City) -> None:
    await new_chair_at(city, NIGHT - 10 * MINUTE)
    early, late = received(occurred_at=NIGHT - 40 * MINUTE), received(subject="cam-bien-2")
    first, second = await reported(city, early), await reported(city, late)
    assert first != second
    await merge(city, first)
    record = await latest(city, second)
    (chair,) = (p for p in record["parties"] if p["post"] == "chair")
    assert (record["time_disputed"], chair["accountable"]["holder_id"]) == (True, "mau-chu-tich-moi")
    assert [h["holder_id"] for h in chair["contested"]] == [HERE.subject]
    assert "desk:review" in await city.told(second)
    await in_order(city)


async def test_a_corrected_time_is_not_lost_in_a_merge(city: City) -> None:
    incident = await two_fires(city)
    await correct(city, incident, occurred_at=NIGHT - 10 * MINUTE)
    problem = await refused(merge(city, incident))
    assert (problem.status, "time of" in problem.detail) == (409, True)


async def test_a_corrected_time_stays_when_the_first_report_is_split_off(city: City) -> None:
    first, second = received("FIRE", point=(19.8, 105.77)), received("FIRE", subject="cam-bien-2")
    incident = await reported(city, first, second)
    await correct(city, incident, occurred_at=NIGHT - 5 * MINUTE, point=Point(19.81, 105.78))
    await commands.split(city.escalation, incident, DESK, WHY, [first.data.report_id])
    found = await only(city, Incident, incident_id=incident)
    assert (found.occurred_at, found.latitude) == (NIGHT - 5 * MINUTE, 19.81)
