"""A night in which wards are renamed, merged and divided: one explosion is one incident on both sides of midnight.

By the real succession of the 34 wards, over HTTP.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from httpx import Response

from services.escalation.application import import_directory
from shared.http.identity import Principal
from tests.integration.escalation_support import Template, WholeCity, whole_city_in
from tests.support import CHAIR, SAMPLES, at, body

API = "/escalation/v1"
WHY = "Cùng một vụ (mẫu)"


async def recorded(city: WholeCity, *names: str) -> None:
    """These files of the samples are imported, and intake knows the wards."""
    for name in names:
        run = import_directory.import_wards if name.startswith("wards") else import_directory.import_directory
        imported = await run(city.escalation, (SAMPLES / name).read_bytes())
        assert not imported.errors
    await city.settle()
    city.services.intake.intake.forget_units()


@asynccontextmanager
async def city_on(template: Template, evening: str) -> AsyncGenerator[WholeCity]:
    """With the wards of 2025."""
    async with whole_city_in(template, at(evening)) as city:
        await recorded(city, "wards-2025.csv", "directory-2025.csv")
        yield city


async def heard(city: WholeCity, ward: str, when: str, **more: Any) -> str:
    """Somebody reports an explosion at the very time; the id of its incident."""
    if city.clock.now() < at(when):
        city.clock.set(at(when))
    await city.settle()
    return await city.report(body(ward=ward, occurred_at=at(when).isoformat(), **more))


async def shown(city: WholeCity, incident: str) -> dict[str, Any]:
    return (await city.get(f"{API}/incidents/{incident}", "desk")).json()


async def said(city: WholeCity, incident: str, command: str, **what: Any) -> Response:
    return await city.post(f"{API}/incidents/{incident}/{command}", "desk", json={"reason": WHY, **what})


async def merged(city: WholeCity, incident: str, into: str) -> Response:
    return await said(city, incident, "merges", into=into)


async def test_a_commune_that_becomes_a_ward_at_midnight_keeps_its_incident(template: Template) -> None:
    """15925 of 2021 and of 2025: one code, two units."""
    async with city_on(template, "2024-12-31 23:50") as city:
        incident = await heard(city, "Hoằng Quang", "2024-12-31 23:55")
        assert await heard(city, "Hoằng Quang", "2025-01-01 00:03") == incident
        found = await shown(city, incident)
        assert found["ward"]["valid_from"] == "2021-02-01"
        assert found["successor"]["valid_from"] == "2025-01-01"
        assert {n["recipient"] for n in found["notices"]} >= {"mau-15925-bi-thu", "mau-15925-chu-tich"}


async def test_a_ward_merged_into_one_that_goes_on_is_part_of_it_from_midnight_and_not_before(
    template: Template,
) -> None:
    async with city_on(template, "2024-12-31 23:30") as city:
        tan_son = await heard(city, "Tân Sơn", "2024-12-31 23:40")
        phu_son = await heard(city, "Phú Sơn", "2024-12-31 23:35")
        assert phu_son != tan_son, "two wards while it lasts"
        assert (await merged(city, tan_son, phu_son)).status_code == 409
        assert await heard(city, "Phú Sơn", "2025-01-01 00:03") == tan_son, "the nearest in time"
        ngoc_trao = await heard(city, "Ngọc Trạo", "2025-01-01 00:03")
        refused = await merged(city, ngoc_trao, tan_son)
        assert refused.status_code == 409
        assert "14779" in refused.json()["detail"]
        assert "14788" in refused.json()["detail"]


async def test_incidents_of_a_ward_and_of_what_it_became_under_another_code_are_merged(template: Template) -> None:
    """15970 became a part of 15925; a report from the old ward comes after the merge."""
    async with city_on(template, "2025-06-30 23:10") as city:
        before = await heard(city, "Hoằng Đại", "2025-06-30 23:20")
        after = await heard(city, "Nguyệt Viên", "2025-07-01 00:03")
        assert before != after, "too far apart in time"
        assert (await merged(city, after, before)).status_code == 201
        assert (await shown(city, after))["merged_into"] == before
        assert await heard(city, "Nguyệt Viên", "2025-07-01 00:05") == before
        assert await heard(city, "Hoằng Đại", "2025-06-30 23:58") == before, (
            "the anchor of 00:03 is near, in its successor"
        )
        assert await heard(city, "Long Anh", "2025-06-30 23:58") != before, (
            "which is a part of it too, but not this one"
        )
        replayed = await city.get(
            f"{API}/decisions/{(await shown(city, before))['decision']['decision_id']}/replay", "auditor"
        )
        assert replayed.json()["equal"] is True


async def test_a_divided_ward_goes_on_only_where_the_desk_said(template: Template) -> None:
    async with city_on(template, "2025-06-30 23:50") as city:
        dong_tho = await heard(city, "Đông Thọ", "2025-06-30 23:55")
        ham_rong = await heard(city, "Hàm Rồng", "2025-07-01 00:03")
        assert ham_rong != dong_tho, "nobody guesses"
        refused = await merged(city, ham_rong, dong_tho)
        assert refused.status_code == 409
        assert "transfer" in refused.json()["detail"]
        part = {"code": "14758", "valid_from": "2025-07-01"}
        assert (await said(city, dong_tho, "transfers", unit=part)).status_code == 201
        assert (await merged(city, ham_rong, dong_tho)).status_code == 201
        assert await heard(city, "Hàm Rồng", "2025-07-01 00:05") == dong_tho
        assert await heard(city, "Hạc Thành", "2025-07-01 00:05") != dong_tho, "the other part"


async def test_a_rename_that_is_recorded_in_the_morning_holds_of_the_night(template: Template) -> None:
    async with whole_city_in(template, at("2024-12-31 23:50")) as city:
        incident = await heard(city, "Hoằng Quang", "2025-01-01 00:10")
        assert (await shown(city, incident))["ward"]["valid_from"] == "2021-02-01", "as far as was known"
        city.clock.set(at("2025-01-01 08:00"))
        await recorded(city, "wards-2025.csv", "directory-2025.csv")
        assert await heard(city, "Hoằng Quang", "2025-01-01 00:20") == incident
        chair = Principal("mau-15925-chu-tich", "official", "15925", CHAIR)
        assert (await city.get(f"{API}/incidents/{incident}", chair)).status_code == 200


async def test_what_ended_before_midnight_gets_the_late_reports_of_the_ward_that_follows(template: Template) -> None:
    async with city_on(template, "2024-12-31 23:50") as city:
        incident = await heard(city, "Hoằng Quang", "2024-12-31 23:55")
        assert (await said(city, incident, "verifications", verdict="false")).status_code == 201
        assert await heard(city, "Hoằng Quang", "2025-01-01 00:03") == incident
        assert (await shown(city, incident))["late_reports"]["count"] == 1
