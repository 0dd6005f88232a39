"""The ward of a correction may be said as at intake: by code or by name, of the time of the incident."""

from datetime import date
from typing import Any

import pytest
from httpx import Response

from tests.integration.command_support import HOUR, PARTS, WHY, reported
from tests.integration.directory_changes import end_unit
from tests.integration.escalation_support import WholeCity
from tests.support import NGOC_TRAO, NIGHT, received


async def corrected(house: WholeCity, incident: str, unit: Any, **more: Any) -> Response:
    path = f"/escalation/v1/incidents/{incident}"
    answer = await house.post(f"{path}/corrections", "desk", json={"reason": WHY, "unit": unit} | more)
    return answer if answer.status_code >= 400 else await house.get(path, "desk")


@pytest.mark.parametrize("said", ["Ngọc Trạo", "phường ngoc trao", "14779", "14779@2021-02-01", " 14779 "])
async def test_a_code_or_a_name_is_enough(house: WholeCity, said: str) -> None:
    incident = await reported(house, received(occurred_at=NIGHT))
    assert (await corrected(house, incident, said)).json()["ward"]["code"] == NGOC_TRAO.code


async def test_the_same_ward_said_in_another_way_is_the_same_correction(house: WholeCity) -> None:
    incident = await reported(house, received(occurred_at=NIGHT))
    path = f"/escalation/v1/incidents/{incident}/corrections"
    key = {"code": NGOC_TRAO.code, "valid_from": str(NGOC_TRAO.valid_from)}
    answers = [await house.post(path, "desk", json={"reason": WHY, "unit": unit}) for unit in ("Ngọc Trạo", key)]
    assert [answer.status_code for answer in answers] == [201, 200]


@pytest.mark.parametrize(
    ("said", "candidates"), [("Quảng Th", ["Quảng Thắng", "Quảng Thành", "Quảng Thịnh"]), ("Hải Châu", []), ("9", [])]
)
async def test_what_is_not_one_ward_is_refused_with_candidates(
    house: WholeCity, said: str, candidates: list[str]
) -> None:
    incident = await reported(house, received(occurred_at=NIGHT))
    answer = await corrected(house, incident, said)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "#/unit"
    assert sorted(c["name"] for c in error.get("candidates", [])) == sorted(candidates)


async def test_a_name_is_looked_up_at_the_time_of_the_incident(house: WholeCity) -> None:
    """Ba Đình was divided the day after: of a later incident it is refused with what followed, of an earlier not."""
    house.clock.set(NIGHT)
    before = await reported(house, received(unit=NGOC_TRAO, occurred_at=NIGHT))
    await end_unit(house, PARTS)
    house.clock.set(NIGHT + 24 * HOUR)
    after = await reported(house, received(unit=NGOC_TRAO, occurred_at=NIGHT + 24 * HOUR))
    answer = await corrected(house, after, "Ba Đình")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/unit"
    assert f"ended on {date(2023, 1, 22)}" in answer.json()["detail"]
    assert all(part.name in answer.json()["detail"] for part in PARTS)
    assert (await corrected(house, before, "Ba Đình")).json()["ward"]["code"] == "14776"
    assert (await corrected(house, after, "Ba Đình", occurred_at="2023-01-21T12:00:00+07:00")).status_code == 200


async def test_of_an_incident_that_is_not_there_nothing_is_looked_up(house: WholeCity) -> None:
    answer = await corrected(house, "01860000-0000-7000-8000-ffffffffffff", "Ngọc Trạo")
    assert answer.status_code == 404
