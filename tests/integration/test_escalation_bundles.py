"""Many notices for one person become one message, each with its own outcome."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from services.escalation.application.route_reports import route_reports
from services.escalation.domain.notices.incident_number import number_of
from services.escalation.sending.channels import Sender
from services.escalation.sending.delivery_loop import DeliveryLoop
from shared.events import DeliveryFinished, Harm
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.integration.delivery_support import ATTEMPTS, Failing, at_midnight, lines, sent, told_over
from tests.integration.escalation_support import City
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Incident, Pace
from tests.support import NIGHT


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox.ndjson"


@pytest.fixture
def loop(city: City, outbox: Path) -> DeliveryLoop:
    return DeliveryLoop(city.escalation, Sender(outbox, TO_THIS_MACHINE))


async def test_at_new_years_midnight_many_incidents_of_a_ward_become_one_message_that_lists_them(
    city: City, loop: DeliveryLoop, outbox: Path
) -> None:
    await route_reports(city.escalation, at_midnight(30))
    await sent(loop)
    to_chair = lines(outbox, "mau-14776-chu-tich")
    assert [line["bundle_id"] for line in to_chair] == [None] * 3, "one by one while that helps"
    city.clock.set(NIGHT + timedelta(seconds=29))
    await sent(loop)
    assert len(lines(outbox, "mau-14776-chu-tich")) == 3
    city.clock.set(NIGHT + timedelta(seconds=32))
    await sent(loop)
    bundle = lines(outbox, "mau-14776-chu-tich")[3:]
    assert len(bundle) == len({line["notice_id"] for line in bundle}) == 27
    assert len({line["bundle_id"] for line in bundle}) == 1
    assert bundle[0]["title"] == "27 vụ, P.Ba Đình, tới mức ?"
    assert "Thuộc phạm vi quy định 2023-01-06.1: 27 vụ việc." in bundle[0]["body"]
    assert all(f"số {number_of(line['incident_id'])}" in bundle[0]["body"] for line in bundle)


async def test_each_notice_of_a_bundle_has_its_own_outcome_on_the_record(city: City, loop: DeliveryLoop) -> None:
    await route_reports(city.escalation, at_midnight(10))
    await sent(loop)
    city.clock.set(NIGHT + timedelta(seconds=32))
    await sent(loop)
    events = [e.data for e in await city.events() if isinstance(e, DeliveryFinished) and e.data.bundle_id]
    by_bundle = Counter(data.bundle_id for data in events)
    assert sorted(by_bundle.values()) == [7, 7], "one bundle a person"
    assert len({data.notice_id for data in events}) == 14
    sequences = [incident.sequence for incident in await stored(city, Incident)]
    numbers = [e.data.sequence for e in await city.events()]
    assert sum(sequences) == len(numbers), "each event of an incident has its own number"


async def test_the_most_severe_go_first_and_one_by_one(city: City, loop: DeliveryLoop, outbox: Path) -> None:
    slight, grave = at_midnight(6)[:3], at_midnight(6, harm=Harm(deaths=3))[3:]
    await route_reports(city.escalation, [*slight, *grave])
    await sent(loop)
    severe = {incident.incident_id for incident in await stored(city, Incident, severity=4)}
    assert len(severe) == 3
    assert {line["incident_id"] for line in lines(outbox, "mau-14776-chu-tich")} == severe


async def test_a_bundle_that_failed_goes_again_as_it_was_and_nothing_new_joins_it(city: City, outbox: Path) -> None:
    await route_reports(city.escalation, at_midnight(8))
    loop = DeliveryLoop(city.escalation, Sender(outbox, TO_THIS_MACHINE))
    await sent(loop)
    city.clock.set(NIGHT + timedelta(seconds=32))
    await sent(DeliveryLoop(city.escalation, Failing(outbox, TO_THIS_MACHINE)))
    await route_reports(city.escalation, at_midnight(12, occurred_at=city.clock.now())[8:])
    city.clock.set(NIGHT + timedelta(seconds=45))
    await sent(loop)
    to_chair = lines(outbox, "mau-14776-chu-tich")[3:]
    assert len(to_chair) == 5, "the failed bundle again; what is new waits for the next turn"
    city.clock.set(NIGHT + timedelta(seconds=65))
    await sent(loop)
    to_chair = lines(outbox, "mau-14776-chu-tich")[3:]
    assert sorted(Counter(line["bundle_id"] for line in to_chair).values()) == [4, 5]


async def test_of_a_bundle_that_is_given_up_the_desk_hears_for_each_incident(
    city: City, loop: DeliveryLoop, outbox: Path
) -> None:
    await route_reports(city.escalation, at_midnight(8))
    await sent(loop)
    failing = DeliveryLoop(city.escalation, Failing(outbox, TO_THIS_MACHINE))
    for attempt in range(ATTEMPTS):
        city.clock.set(NIGHT + timedelta(seconds=32) + attempt * timedelta(minutes=20))
        await sent(failing)
    assert (await city.told()).count("desk:lost_notice") == 5


async def test_exercises_wait_for_nobody(city: City, loop: DeliveryLoop, outbox: Path) -> None:
    await route_reports(city.escalation, at_midnight(20, exercise=True))
    await sent(loop)
    assert len(lines(outbox)) >= 40
    assert {line["bundle_id"] for line in lines(outbox)} == {None}


async def test_a_rate_is_kept_without_keeping_the_address(city: City, loop: DeliveryLoop) -> None:
    await told_over(city, "json://mat-khau@127.0.0.1:1/0912000001")
    await sent(loop)
    keys = [pace.key for pace in await stored(city, Pace)]
    assert len(keys) == 2, "of the contact and of the server"
    assert not [key for key in keys if "mat-khau" in key or "0912" in key or "127" in key]
