"""Where somebody is posted says what they may do: a unit is its code and its first day, and a posting ends."""

from collections.abc import AsyncGenerator
from datetime import date, timedelta
from itertools import count
from typing import Any

import pytest

from services.escalation.application.import_directory import import_directory, import_wards
from services.escalation.application.route_reports import route_reports
from shared.events import PostingRecorded, UnitRef
from shared.http.identity import Principal
from tests.integration.directory_changes import appoint, leave, on_duty, posted
from tests.integration.escalation_support import Template, WholeCity, whole_city_in
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Incident, Notice
from tests.support import BA_DINH, CHAIR, DONG_THO, NGOC_TRAO, NIGHT, SAMPLES, SINCE, at, body, received

INCIDENTS = "/escalation/v1/incidents"
DIRECTORY = "/escalation/v1/directory"
REPORTS = "/intake/v1/reports"
DONG_HAI = UnitRef(code="14797", valid_from=SINCE, name="Đông Hải")
HAC_THANH = UnitRef(code="14797", valid_from=date(2025, 7, 1), name="Hạc Thành")
CHAIR_HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
DAY = timedelta(days=1)
WHY = {"reason": "Đã kiểm tra tại chỗ"}
AFTER = at("2025-07-02 08:00")


_reports = count()


@pytest.fixture
async def house(template: Template) -> AsyncGenerator[WholeCity]:
    """One that no other test has touched."""
    async with whole_city_in(template) as made:
        yield made


@pytest.fixture
async def merged(template: Template) -> AsyncGenerator[WholeCity]:
    """The day after Đông Hải ended, whose code Hạc Thành has now; one incident in each."""
    async with whole_city_in(template, at("2025-06-20 08:00")) as city:
        imported = await import_wards(city.escalation, (SAMPLES / "wards-2025.csv").read_bytes())
        holders = await import_directory(city.escalation, (SAMPLES / "directory-2025.csv").read_bytes())
        assert not [*imported.errors, *holders.errors]
        city.clock.set(AFTER)
        for unit, when in ((DONG_HAI, at("2025-06-30 20:00")), (HAC_THANH, at("2025-07-01 20:00"))):
            await route_reports(city.escalation, [received(unit=unit, occurred_at=when, received_at=when)])
        await known_to_intake(city)
        yield city


async def seen(city: WholeCity, who: Principal) -> set[tuple[str, date]]:
    """Of which units they are shown incidents: in the list, and each by itself."""
    listed = await city.get(INCIDENTS, who)
    assert listed.status_code == 200, listed.text
    of_list = {item["id"] for item in listed.json()["items"]}
    found: set[tuple[str, date]] = set()
    for incident in await stored(city, Incident):
        answer = await city.get(f"{INCIDENTS}/{incident.incident_id}", who)
        assert answer.status_code == (200 if incident.incident_id in of_list else 403)
        if answer.status_code == 200:
            found.add((incident.unit_code, incident.unit_valid_from))
    return found


async def report(city: WholeCity, who: Principal, ward: str, occurred: str, **more: Any) -> int:
    said = body(report_id=f"tin-{next(_reports)}", ward=ward, **more)
    answer = await city.post(REPORTS, who, json=said | {"occurred_at": f"{occurred}:00+07:00".replace(" ", "T")})
    return answer.status_code


async def known_to_intake(city: WholeCity) -> None:
    """At once; by itself it looks every two seconds."""
    await city.settle()
    city.services.intake.intake.forget_units()


# --- a code is used again ---


async def test_a_token_of_a_ward_that_ended_has_no_right_in_the_ward_that_has_its_code_now(merged: WholeCity) -> None:
    old = Principal("cb-dong-hai", "officer", "14797@2021-02-01")
    new = Principal("cb-hac-thanh", "officer", "14797@2025-07-01")
    assert await seen(merged, old) == set()
    assert await seen(merged, new) == {(DONG_HAI.code, DONG_HAI.valid_from), (HAC_THANH.code, HAC_THANH.valid_from)}, (
        "Hạc Thành took the place of Đông Hải, so its people act on what is still open there"
    )
    there = (await only(merged, Incident, unit_valid_from=HAC_THANH.valid_from)).incident_id
    revision = WHY | {"harm": {"deaths": 1}}
    assert (await merged.post(f"{INCIDENTS}/{there}/severity", old, json=revision)).status_code == 403
    assert (await merged.post(f"{INCIDENTS}/{there}/severity", new, json=revision)).status_code == 201
    assert await report(merged, old, "14797", "2025-07-01 21:00") == 403
    assert await report(merged, old, "14797", "2025-06-30 21:00") == 201, "of Đông Hải, which it was then"
    assert await report(merged, new, "14797", "2025-07-01 21:30") == 201
    assert await report(merged, Principal("cam-bien", "device", "14797@2021-02-01"), "14797", "2025-07-01 22:00") == 403


async def test_a_token_that_names_a_code_alone_is_of_the_unit_in_force_when_it_was_issued(merged: WholeCity) -> None:
    by_code = Principal("cb-moi", "officer", "14797")
    assert (HAC_THANH.code, HAC_THANH.valid_from) in await seen(merged, by_code)
    assert await report(merged, by_code, "14797", "2025-07-01 21:00") == 201
    token = merged.bearer(by_code)
    merged.clock.set(AFTER - 5 * DAY)  # as if it had been issued five days earlier, when the code was Đông Hải's
    assert {i["ward"]["valid_from"] for i in (await merged.client.get(INCIDENTS, headers=token)).json()["items"]} == {
        "2021-02-01"
    }


# --- officials ---


async def test_an_official_reads_on_only_what_they_were_told_of(house: WholeCity) -> None:
    await route_reports(house.escalation, [received()])
    told_of = await house.incident()
    await leave(house, CHAIR_HERE.subject, NIGHT + timedelta(minutes=1))
    house.clock.set(NIGHT + timedelta(hours=1))
    await route_reports(house.escalation, [received("FIRE")])
    await house.settle()
    (fire,) = [i.incident_id for i in await stored(house, Incident) if i.incident_id != told_of]
    assert [i["id"] for i in (await house.get(INCIDENTS, CHAIR_HERE)).json()["items"]] == [told_of]
    assert (await house.get(f"{INCIDENTS}/{told_of}", CHAIR_HERE)).status_code == 200
    assert (await house.get(f"{INCIDENTS}/{fire}", CHAIR_HERE)).status_code == 403
    assert (await house.get(f"{INCIDENTS}/khong-co", CHAIR_HERE)).status_code == 403
    handover = (await house.get("/escalation/v1/handover", CHAIR_HERE)).json()
    assert {item["id"] for item in handover["items"]} <= {told_of}
    for path in (DIRECTORY, "/escalation/v1/rulebooks", "/escalation/v1/rulebooks/2023-01-06"):
        assert (await house.get(path, CHAIR_HERE)).status_code == 403, path
    answer = await house.post(f"{INCIDENTS}/{told_of}/responses", CHAIR_HERE, json={"text": "Đã dập"})
    assert answer.status_code == 403


async def test_who_holds_posts_in_two_wards_has_one_credential(house: WholeCity) -> None:
    both = Principal(CHAIR_HERE.subject, "official")
    await leave(house, "mau-14779-chu-tich", NIGHT - DAY, unit=NGOC_TRAO)
    await appoint(house, both.subject, NIGHT - DAY, unit=NGOC_TRAO)
    for unit in (BA_DINH, NGOC_TRAO, DONG_THO):
        await route_reports(house.escalation, [received(unit=unit)])
    await house.settle()
    assert await seen(house, both) == {(unit.code, unit.valid_from) for unit in (BA_DINH, NGOC_TRAO)}
    for unit in (BA_DINH, NGOC_TRAO):
        incident = (await only(house, Incident, unit_code=unit.code)).incident_id
        assert (await house.post(f"{INCIDENTS}/{incident}/acknowledgements", both)).status_code == 201
        for command in ("escalations", "responses"):
            said = {"text": "Đã dập"} if command == "responses" else WHY
            assert (await house.post(f"{INCIDENTS}/{incident}/{command}", both, json=said)).status_code == 201


async def test_whoever_is_on_duty_in_a_ward_sees_it_until_their_turn_is_over(house: WholeCity) -> None:
    on_call = Principal("mau-truc-phuong", "official")
    await on_duty(house, on_call.subject, "ward", unit=BA_DINH)
    await route_reports(house.escalation, [received("FIRE"), received("FIRE", unit=NGOC_TRAO)])
    await house.run("DELETE FROM escalation.notice WHERE recipient = :who", who=on_call.subject)
    assert await seen(house, on_call) == {(BA_DINH.code, BA_DINH.valid_from)}
    house.clock.set(NIGHT + 2 * DAY)
    assert await seen(house, on_call) == set()


async def test_a_link_shows_the_one_notice_to_whoever_has_left_the_post_and_no_more(house: WholeCity) -> None:
    await route_reports(house.escalation, [received()])
    notice = await only(house, Notice, recipient=CHAIR_HERE.subject)
    await leave(house, CHAIR_HERE.subject, NIGHT + timedelta(minutes=1))
    house.clock.set(NIGHT + timedelta(hours=1))
    signer = house.services.escalation.app.state.link_signer
    link = (
        "/escalation"
        + signer.of_notice(notice.notice_id, notice.recipient, notice.issued_at).partition("/escalation")[2]
    )
    shown = await house.client.get(link, headers={"accept": "application/json"})
    assert (shown.status_code, shown.json()["notice_id"]) == (200, notice.notice_id)
    other = await only(house, Notice, recipient="mau-14776-bi-thu")
    assert (await house.client.get(link.replace(notice.notice_id, other.notice_id))).status_code == 404


# --- officers ---


async def test_a_queue_that_was_filled_while_posted_is_taken_after_the_posting_ended(house: WholeCity) -> None:
    officer = Principal("cb-09", "officer", "14776")
    await posted(house, "cb-09", BA_DINH, "2023-01-10", "2023-01-21")
    await posted(house, "cb-09", NGOC_TRAO, "2023-01-21")
    await known_to_intake(house)
    assert await report(house, officer, "14776", "2023-01-20 21:00") == 201
    assert await report(house, officer, "14776", "2023-01-20 22:00", captured_at="2023-01-20T22:01:00+07:00") == 201
    assert await report(house, officer, "14776", "2023-01-20 23:00", captured_at="2023-01-21T22:01:00+07:00") == 403
    assert await report(house, officer, "14776", "2023-01-21 21:00") == 403
    assert await report(house, officer, "14776", "2023-01-09 21:00") == 403
    assert await report(house, officer, "14779", "2023-01-21 21:00") == 201
    assert await report(house, officer, "14779", "2023-01-20 21:00") == 201, "posted there now, and told of it now"
    assert await report(house, officer, "14758", "2023-01-20 21:00") == 403
    await known_to_intake(house)
    assert await seen(house, officer) == {(NGOC_TRAO.code, NGOC_TRAO.valid_from)}


async def test_a_posting_makes_a_new_ward_of_an_old_token_and_a_withdrawn_one_is_none(merged: WholeCity) -> None:
    officer = Principal("cb-dong-hai", "officer", "14797@2021-02-01")
    await posted(merged, "cb-dong-hai", HAC_THANH, "2025-07-01")
    await known_to_intake(merged)
    assert (HAC_THANH.code, HAC_THANH.valid_from) in await seen(merged, officer)
    assert await report(merged, officer, "14797", "2025-07-01 21:00") == 201
    await posted(merged, "cb-dong-hai", HAC_THANH, "2025-07-01", "2025-07-02")
    await known_to_intake(merged)
    assert await seen(merged, officer) == set()
    assert await report(merged, officer, "14797", "2025-07-02 07:00") == 403
    assert await report(merged, officer, "14797", "2025-07-01 22:00") == 201


async def test_events_name_the_officer_by_pseudonym_and_the_administrator_sees_who_it_is(house: WholeCity) -> None:
    await posted(house, "cb-bi-mat", BA_DINH, "2023-01-10")
    rows = await house.rows("SELECT body FROM escalation.timeline WHERE type = 'vn.trucban.posting.recorded.v1'")
    (event,) = [PostingRecorded.model_validate_json(row.body) for row in rows]
    assert event.data.sender == house.escalation.pseudonym_of("cb-bi-mat")
    assert event.data.who is not None
    assert "cb-bi-mat" not in rows[0].body.decode()
    items = (await house.get(f"{DIRECTORY}?kind=postings&ward=14776", "admin")).json()["items"]
    assert [(item["subject"], item["unit_code"], item["valid_to"]) for item in items] == [("cb-bi-mat", "14776", None)]
    assert (await house.get(f"{DIRECTORY}?kind=postings", "desk")).status_code == 403


async def test_postings_are_imported_from_a_table_and_what_cannot_be_is_refused(house: WholeCity) -> None:
    head = "unit_code,unit_valid_from,subject,valid_from,valid_to,document\n"
    good = f"{head}14776,2021-02-01,cb-11,2023-01-10,,QĐ mẫu\n14779,2021-02-01,cb-11,2023-01-10,2023-02-01,QĐ mẫu\n"
    for recorded in (2, 0):
        done = await import_directory(house.escalation, good.encode())
        assert (done.errors, done.recorded) == ([], recorded)
    bad = f"{head}14700,2021-02-01,cb-12,2023-01-10,,QĐ mẫu\n14776,2021-02-01,cb-12,2023-01-10,2023-01-10,QĐ mẫu\n"
    done = await import_directory(house.escalation, bad.encode())
    assert [(e.line, e.field) for e in done.errors] == [(2, "unit_code"), (3, "valid_to")]
