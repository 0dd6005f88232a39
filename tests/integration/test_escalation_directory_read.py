"""The directory and the rulebooks over HTTP: who held which post, as of any moment."""

from typing import Any

import pytest

from shared.http.identity import Principal
from tests.integration.escalation_support import WholeCity
from tests.support import BA_DINH, CHAIR, SECRETARY

HERE = Principal("mau-14776-chu-tich", "official")


async def test_the_directory_tells_who_held_each_post_in_every_ward(house: WholeCity) -> None:
    items = (await house.get("/escalation/v1/directory", "auditor", params={"limit": 500})).json()["items"]
    assert len({t["unit"]["code"] for t in items}) == 34
    ours = {t["post"]: t["holder_id"] for t in items if t["unit"]["code"] == BA_DINH.code}
    assert ours == {SECRETARY: "mau-14776-bi-thu", CHAIR: "mau-14776-chu-tich"}
    assert all(t["sample"] for t in items)


@pytest.mark.parametrize(
    ("as_of", "holder"),
    [
        ("2023-01-24T23:59:59+07:00", "mau-14773-chu-tich"),
        ("2023-01-25T00:00:00+07:00", "mau-14773-chu-tich-2"),
        ("2023-01-24T17:00:00Z", "mau-14773-chu-tich-2"),
    ],
)
async def test_the_directory_as_of_a_moment(house: WholeCity, as_of: str, holder: str) -> None:
    params = {"as_of": as_of, "ward": "14773"}
    items = (await house.get("/escalation/v1/directory", "admin", params=params)).json()["items"]
    assert [t["holder_id"] for t in items if t["post"] == CHAIR] == [holder]


async def test_the_directory_as_it_was_known_before_it_was_imported_is_empty(house: WholeCity) -> None:
    params = {"known_at": "2023-01-06T07:59:59+07:00", "as_of": "2023-01-21T00:00:00+07:00"}
    assert (await house.get("/escalation/v1/directory", "admin", params=params)).json()["items"] == []


async def test_pages_of_the_directory_give_each_tenure_once(house: WholeCity) -> None:
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 7}
    while True:
        page = (await house.get("/escalation/v1/directory", "desk", params=params)).json()
        seen += [t["tenure_id"] for t in page["items"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert len(set(seen)) == len(seen) > 60


async def test_a_rulebook_is_shown_with_its_sentence_and_its_hash(house: WholeCity) -> None:
    listed, later = (await house.get("/escalation/v1/rulebooks", HERE)).json()["items"]
    assert [listed["version"], later["version"]] == ["2023-01-06", "2023-01-06.1"]
    shown = (await house.get("/escalation/v1/rulebooks/2023-01-06", HERE)).json()
    assert len(listed["sha256"]) == 64
    assert shown["sha256"] == listed["sha256"]
    assert "phải chịu trách nhiệm" in shown["citation"]["vi"]
    assert shown["rulebook"]["correlation"] == {"window_minutes": 30, "radius_m": 300}
