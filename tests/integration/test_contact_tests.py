"""Testing the contacts' channels: who gets a message, who confirms by its link, and what the list says of each."""

import asyncio
import re
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
from httpx import Response

from services.escalation.application import channel_tests
from services.escalation.application.claim_deliveries import UnderWay, claim_deliveries
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.directory.places import Place
from services.escalation.domain.notices.pacing import Limits, Rate
from services.escalation.monitoring.watchman import Watchman
from services.escalation.sending.delivery_loop import GATEWAY, MESSAGES_A_CLAIM, PER_HOST_AT_ONCE
from shared.events import ChannelTestStarted, ContactConfirmed, Who, parse
from shared.http.identity import Principal
from tests.integration.delivery_peers import receiving
from tests.integration.directory_changes import appoint, leave
from tests.integration.escalation_support import City, Template, WholeCity, whole_city_in
from tests.integration.stored.arranging import deliveries_are, sent_by, sent_later_too
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Delivery, DueTime, Event, Incident, Notice
from tests.support import BA_DINH, CHAIR, DONG_THO, NIGHT, SECRETARY, at, received

TESTS = "/escalation/v1/contact-tests"
CONTACTS = "/escalation/v1/directory/contacts"
MORNING = at("2023-01-21 09:00")
SECOND = timedelta(seconds=1)
SECRET = "whsec_" + "A" * 32
CHAIR_HERE, SECRETARY_HERE = "mau-14776-chu-tich", "mau-14776-bi-thu"


@pytest.fixture(scope="module")
async def house(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template, MORNING) as made:
        yield made


@pytest.fixture
async def city(house: WholeCity) -> WholeCity:
    house.clock.set(MORNING)
    await house.emptied()
    (house.settings.data / "outbox.ndjson").unlink(missing_ok=True)
    return house


@pytest.fixture
async def core(shared_city: City) -> City:
    """Nothing runs beside it."""
    await shared_city.emptied()
    shared_city.clock.set(MORNING)
    return shared_city


async def start(city: WholeCity, ward: str | None = "14776", by: str = "admin") -> Response:
    return await city.post(TESTS, Principal(f"mau-{by}", by), json={} if ward is None else {"ward": ward})  # type: ignore[arg-type]


async def started(city: WholeCity, ward: str | None = "14776") -> dict[str, Any]:
    answer = await start(city, ward)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def latest(city: WholeCity) -> dict[str, Any]:
    return (await city.get(f"{TESTS}/latest", "desk")).json()


async def outcomes(city: WholeCity) -> dict[tuple[str, str | None], str]:
    return {(c["holder_id"], c["channel"]): c["outcome"] for c in (await latest(city))["contacts"]}


async def contacts_are(city: WholeCity, holder: str, *channels: str | None, **quiet: str) -> None:
    rows = [{"holder_id": holder, "channel": channel, "sample": True} | quiet for channel in channels]
    answer = await city.client.put(CONTACTS, headers=city.bearer("admin"), json={"rows": rows})
    assert answer.status_code == 200, answer.text


def link_to(city: WholeCity, holder: str) -> str:
    """The latest that the person was sent."""
    body = [line["body"] for line in city.sent if line["recipient"] == holder][-1]
    (found,) = re.findall(r"https?://[^/]+(/escalation/v1/links/\S+)", body)
    return found


async def recorded(city: WholeCity, kind: type[Any]) -> Any:
    """The data of the only event of the type."""
    written = (parse(event.body) for event in await stored(city, Event))
    (found,) = (event for event in written if isinstance(event, kind))
    return found.data


async def test_everybody_in_office_gets_a_message_that_says_what_it_is(city: WholeCity) -> None:
    test = await started(city)
    assert test["is_running"]
    await city.settle()
    assert {line["recipient"] for line in city.sent} == {CHAIR_HERE, SECRETARY_HERE}
    (line,) = (line for line in city.sent if line["recipient"] == CHAIR_HERE)
    assert (line["purpose"], line["incident_id"]) == ("channel_test", None)
    assert line["title"].startswith("THỬ KÊNH LIÊN LẠC")
    assert "không có vụ việc nào" in line["body"]
    assert "Chủ tịch UBND phường Ba Đình" in line["body"]
    assert "trước 09:00 24/01/2023" in line["body"]
    assert "there is no incident" in line["body"]
    done = await latest(city)
    assert (done["is_running"], done["outcomes"], done["ward"]) == (False, {"not_confirmed": 2}, "14776")


async def test_all_wards_are_one_message_a_channel(city: WholeCity) -> None:
    """One person holds both posts of a ward; some posts are vacant."""
    test = await started(city, None)
    await city.settle()
    assert (await latest(city))["outcomes"] == {"not_confirmed": len(test["contacts"])}
    assert len(test["contacts"]) > 60
    assert sorted(line["recipient"] for line in city.sent) == [c["holder_id"] for c in test["contacts"]]


async def test_looking_at_the_link_confirms_nothing_and_its_button_once(city: WholeCity) -> None:
    await started(city)
    await city.settle()
    link = link_to(city, CHAIR_HERE)
    page = await city.client.get(link)
    assert (page.status_code, "Tôi đã nhận được tin thử" in page.text) == (200, True)
    await city.client.head(link)
    assert (await outcomes(city))[CHAIR_HERE, "outbox"] == "not_confirmed"
    pages = await asyncio.gather(*(city.client.post(link) for _ in range(4)))
    assert {p.status_code for p in pages} == {200}
    again = await city.client.post(link)
    assert "Kênh này nhận được tin" in again.text
    assert await outcomes(city) == {
        (CHAIR_HERE, "outbox"): "confirmed",
        (SECRETARY_HERE, "outbox"): "not_confirmed",
    }
    confirmed, begun = await recorded(city, ContactConfirmed), await recorded(city, ChannelTestStarted)
    assert (confirmed.holder_id, confirmed.channel) == (CHAIR_HERE, "outbox")
    assert confirmed.who == Who(subject=CHAIR_HERE, role="official", means="link")
    assert (begun.people, begun.contacts, begun.without_channel, begun.unit) == (2, 2, (), BA_DINH)
    assert begun.who == Who(subject="mau-admin", role="admin", means="api")


async def test_without_its_signature_or_after_three_days_a_link_confirms_nothing(city: WholeCity) -> None:
    await started(city)
    await city.settle()
    link = link_to(city, CHAIR_HERE)
    assert (await city.client.post(link.partition("?")[0])).status_code == 404
    assert (await city.client.post(link.replace("&s=", "&s=x"))).status_code == 404
    city.clock.set(MORNING + timedelta(days=3, seconds=1))
    assert (await city.client.post(link)).status_code == 410
    assert (await outcomes(city))[SECRETARY_HERE, "outbox"] == "not_confirmed"


async def test_each_channel_is_confirmed_by_itself(city: WholeCity) -> None:
    async with receiving() as receiver:
        await contacts_are(city, CHAIR_HERE, f"outbox://{CHAIR_HERE}", f"webhook://{receiver.host}/x?secret={SECRET}")
        await started(city)
        await city.settle()
        (request,) = receiver.requests
    assert request.json["data"]["notices"][0]["purpose"] == "channel_test"
    await city.client.post(link_to(city, CHAIR_HERE))
    found = await outcomes(city)
    assert (found[CHAIR_HERE, "outbox"], found[CHAIR_HERE, "webhook"]) == ("confirmed", "not_confirmed")


async def test_who_has_no_channel_is_listed_as_such(city: WholeCity) -> None:
    await contacts_are(city, CHAIR_HERE, None)
    test = await started(city)
    (without,) = (c for c in test["contacts"] if c["holder_id"] == CHAIR_HERE)
    assert (without["outcome"], without["channel"]) == ("no_channel", None)
    assert (await recorded(city, ChannelTestStarted)).without_channel == (CHAIR_HERE,)


async def test_a_channel_that_refuses_is_listed_with_why_and_tells_nobody_else(city: WholeCity) -> None:
    async with receiving(always=None) as receiver:
        receiver.script.append(410)
        await contacts_are(city, CHAIR_HERE, f"webhook://{receiver.host}/x?secret={SECRET}")
        await started(city)
        await city.settle()
    whole = (await city.get(f"{TESTS}/latest", "admin")).json()
    (failed,) = (c for c in whole["contacts"] if c["holder_id"] == CHAIR_HERE)
    assert (failed["outcome"], "410" in failed["error"]) == ("failed", True)
    for role in ("desk", "leader", "auditor"):
        shown = (await city.get(f"{TESTS}/latest", Principal(f"mau-{role}", role))).json()
        assert {c["error"] for c in shown["contacts"]} == {None, "the channel did not take it"}
    assert not [n for n in await stored(city, Notice) if n.recipient in {"desk", "leadership"}]


async def test_it_waits_for_quiet_hours_and_never_rings_at_night(city: WholeCity) -> None:
    await contacts_are(city, CHAIR_HERE, f"outbox://{CHAIR_HERE}", quiet_from="12:00", quiet_to="13:30")
    city.clock.set(at("2023-01-21 12:10"))
    test = await started(city)
    by = {c["holder_id"]: c for c in test["contacts"]}
    assert by[CHAIR_HERE]["not_before"] == "2023-01-21T06:30:00Z"
    assert by[SECRETARY_HERE]["not_before"] is None
    await city.settle()
    assert [line["recipient"] for line in city.sent] == [SECRETARY_HERE]
    refused = await start(city, "14758")
    assert refused.status_code == 409
    assert "until 13:30 21/01, when quiet hours end" in refused.json()["detail"]
    assert test["id"] in refused.json()["detail"]
    city.clock.set(at("2023-01-21 13:31"))
    await city.settle()
    assert len(city.sent) == 2
    city.clock.set(NIGHT)
    again = await started(city)
    assert {c["not_before"] for c in again["contacts"]} == {"2023-01-21T23:00:00Z"}, (
        "06:00, with or without quiet hours"
    )


async def test_two_that_start_at_once_are_one_test(city: WholeCity) -> None:
    answers = await asyncio.gather(*(start(city, None) for _ in range(3)))
    assert sorted(a.status_code for a in answers) == [201, 409, 409]
    await city.settle()
    assert len(city.sent) == len({line["recipient"] for line in city.sent})


async def test_an_old_link_still_counts_for_its_own_test_only(city: WholeCity) -> None:
    first = await started(city)
    await city.settle()
    old = link_to(city, CHAIR_HERE)
    await started(city)
    await city.settle()
    await city.client.post(old)
    assert (await outcomes(city))[CHAIR_HERE, "outbox"] == "not_confirmed"
    earlier = (await city.get(f"{TESTS}/{first['id']}", "auditor")).json()
    assert earlier["outcomes"] == {"confirmed": 1, "not_confirmed": 1}
    listed = (await city.get(TESTS, "leader", params={"limit": 1})).json()
    assert len(listed["items"]) == 1
    rest = (await city.get(TESTS, "leader", params={"cursor": listed["next"]})).json()
    assert [t["id"] for t in rest["items"]] == [first["id"]]


async def test_a_holder_of_two_wards_is_tested_once_with_both_posts(city: WholeCity) -> None:
    for unit, post in ((DONG_THO, CHAIR), (BA_DINH, SECRETARY)):
        old = f"mau-{unit.code}-{'chu-tich' if post == CHAIR else 'bi-thu'}"
        await leave(city, old, MORNING, unit=unit, post=post)
        await appoint(city, "mau-hai-noi", MORNING, unit=unit, post=post)
    test = await started(city, None)
    (both,) = (c for c in test["contacts"] if c["holder_id"] == "mau-hai-noi")
    assert [(p["ward"]["code"], p["post"]) for p in both["posts"]] == [
        (DONG_THO.code, CHAIR),
        (BA_DINH.code, SECRETARY),
    ]
    await city.settle()
    (line,) = (line for line in city.sent if line["recipient"] == "mau-hai-noi")
    assert "phường Ba Đình" in line["body"]
    assert f"phường {DONG_THO.name}" in line["body"]


async def test_what_changes_meanwhile_is_listed_and_a_channel_that_was_taken_gets_nothing(city: WholeCity) -> None:
    for holder in (CHAIR_HERE, SECRETARY_HERE):
        await contacts_are(city, holder, f"outbox://{holder}", quiet_from="08:00", quiet_to="10:00")
    await started(city)
    await contacts_are(city, CHAIR_HERE, "outbox://so-moi")
    city.clock.set(at("2023-01-21 10:01"))
    await city.settle()
    assert [line["recipient"] for line in city.sent] == [SECRETARY_HERE]
    contacts = [c for c in (await latest(city))["contacts"] if c["holder_id"] == CHAIR_HERE]
    assert [c["outcome"] for c in contacts] == ["called_off", "not_tested"]


async def test_who_has_left_office_may_confirm_and_is_listed_as_gone(city: WholeCity) -> None:
    await started(city)
    await city.settle()
    await leave(city, CHAIR_HERE, city.clock.now())
    await appoint(city, "mau-moi", city.clock.now())
    await city.client.post(link_to(city, CHAIR_HERE))
    found = {c["holder_id"]: (c["in_office"], c["outcome"]) for c in (await latest(city))["contacts"]}
    assert found[CHAIR_HERE] == (False, "confirmed")
    assert found["mau-moi"] == (True, "not_tested")
    unconfirmed = await channel_tests.find_unconfirmed(city.escalation, timedelta(days=30))
    assert BA_DINH in unconfirmed.wards, "who has left reaches nobody in office"


async def test_it_touches_no_incident_and_readiness_says_nothing_of_it(core: City) -> None:
    """Nothing is sent meanwhile, as in an outage of all channels."""
    await route_reports(core.escalation, [received(kind="officer", occurred_at=MORNING)])
    await deliveries_are(core, "sent")
    before = await stored(core, Incident), await stored(core, DueTime)
    await channel_tests.start(core.escalation, Principal("mau-admin", "admin"), None)
    core.clock.set(MORNING + timedelta(minutes=7))
    assert set((await Watchman(core.escalation).health_failures()).values()) == {None}
    assert (await stored(core, Incident), await stored(core, DueTime)) == before
    (test,) = await channel_tests.list_tests(core.escalation, None, 9)
    found = await channel_tests.look(core.escalation, test.test_id)
    assert found is not None
    assert {contact.outcome for contact in found.contacts} == {"waiting"}
    core.clock.set(MORNING + timedelta(days=3, minutes=1))
    again = await channel_tests.start(core.escalation, Principal("mau-admin", "admin"), Place("14776"))
    assert again.is_running, "what was never sent holds up no test once its links would have expired"
    claimed = await claim_deliveries(
        core.escalation, Limits(Rate(99, SECOND), Rate(99, SECOND), messages=99, per_host=99), UnderWay()
    )
    assert len(claimed.messages) == 2, "what cannot be confirmed any more is not sent"


async def test_notices_go_before_it_and_it_shares_no_message_with_them(core: City) -> None:
    """All wait at one contact, whose server takes one message now. Of what comes later nothing is put together."""
    limits = Limits(Rate(3, timedelta(seconds=30)), Rate(1, timedelta(minutes=1)), messages=9, per_host=9)
    await channel_tests.start(core.escalation, Principal("mau-admin", "admin"), Place("14776"))
    core.clock.set(MORNING + timedelta(minutes=1))
    for _ in range(4):
        await route_reports(core.escalation, [received(kind="officer", occurred_at=core.clock.now())])
        core.clock.set(core.clock.now() + timedelta(hours=1))
    await sent_by(core, "webhook://mot-may-chu.example/x", CHAIR_HERE)
    sent: list[list[str]] = []
    for _ in range(10):
        claimed = await claim_deliveries(core.escalation, limits, UnderWay())
        sent += [[d.purpose for d in m.deliveries] for m in claimed.messages if m.channel.startswith("webhook")]
        core.clock.set(core.clock.now() + timedelta(seconds=61))
        await deliveries_are(core, "sent", of="sending")
    assert sent.count(["channel_test"]) == 1
    assert sent[-1] == ["channel_test"]
    assert all("channel_test" not in message for message in sent[:-1])


async def test_one_server_is_given_no_more_than_it_is_given_of_notices(core: City) -> None:
    """Every channel of the city is at one server, two for each person."""
    await channel_tests.start(core.escalation, Principal("mau-admin", "admin"), None)
    people = {d.recipient for d in await stored(core, Delivery)}
    await sent_by(core, "webhook://mot-may-chu.example/{}", *people)
    for person in people:
        await sent_later_too(core, person, f"webhook://mot-may-chu.example/{person}", timedelta(0))
    limits = Limits(Rate(3, timedelta(seconds=30)), GATEWAY, messages=MESSAGES_A_CLAIM, per_host=PER_HOST_AT_ONCE)
    counts: list[int] = []
    while sum(counts) < 2 * len(people):
        claimed = await claim_deliveries(core.escalation, limits, UnderWay())
        assert all(len(message.deliveries) == 1 for message in claimed.messages)
        counts.append(len(claimed.messages))
        await deliveries_are(core, "sent", of="sending")
        core.clock.set(core.clock.now() + SECOND)
        assert len(counts) < 60, "all are sent within a minute"
    assert max(counts) <= PER_HOST_AT_ONCE


@pytest.mark.parametrize("role", ["officer", "official", "leader", "auditor"])
async def test_the_desk_and_administrators_start_it(city: WholeCity, role: str) -> None:
    caller = Principal("mau", role, "14776", CHAIR)  # type: ignore[arg-type]
    assert (await city.post(TESTS, caller, json={})).status_code == 403
    assert (await start(city, by="desk")).status_code == 201
    await city.settle()


async def test_a_ward_that_is_none_is_answered_with_candidates(city: WholeCity) -> None:
    wrong = await start(city, "Ba Dinhh")
    assert wrong.status_code == 422
    assert (await city.get(f"{TESTS}/latest", "desk")).status_code == 404
