"""What holds for every route of the three documents, whoever calls it."""

from collections.abc import Iterator

import pytest
from httpx import Response

from shared.http.identity import Principal
from tests.integration.escalation_support import WholeCity
from tests.support import CHAIR, at, body

SERVICES = ("intake", "escalation", "ledger")
OFFICER = Principal("can-bo-14776-01", "officer", "14776")
CHAIR_HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
BODIES = {
    "acknowledgements": {},
    "severity": {"reason": "lý do", "harm": {"deaths": 1}},
    "verifications": {"reason": "lý do", "verdict": "confirmed"},
    "merges": {"reason": "lý do", "into": "khong-co"},
    "splits": {"reason": "lý do", "reports": ["khong-co"]},
    "handoffs": {"reason": "lý do", "to": "police"},
    "transfers": {"reason": "lý do", "unit": {"code": "14776", "valid_from": "2021-02-01"}},
    "corrections": {"reason": "lý do", "exercise": True},
    "responses": {"text": "đã đến"},
    "closure-proposals": {"reason": "lý do"},
    "escalations": {"reason": "lý do"},
}


def routes(city: WholeCity) -> Iterator[tuple[str, str]]:
    """(method, path) of all that is documented."""
    for name in SERVICES:
        paths = getattr(city.services, name).app.openapi()["paths"]
        yield from ((method.upper(), f"/{name}{path}") for path, methods in paths.items() for method in methods)


async def ask(city: WholeCity, method: str, path: str, caller: Principal | None) -> Response:
    headers = {} if caller is None else city.bearer(caller)
    said = BODIES.get(path.rpartition("/")[2], {"reason": "lý do"})
    return await city.client.request(method, path, headers=headers, json=None if method == "GET" else said)


async def test_no_answer_is_kept_or_guessed(house: WholeCity) -> None:
    for method, path in routes(house):
        if path.endswith("/stream"):
            continue  # it does not end; its own tests look at its head
        for caller in (None, Principal("mau-quan-tri", "admin"), Principal("mau-truc-ban", "desk"), CHAIR_HERE):
            answer = await ask(house, method, path.replace("{index}", "0"), caller)
            assert answer.headers["x-content-type-options"] == "nosniff", (method, path)
            assert answer.headers["cache-control"] == "no-store", (method, path)


@pytest.mark.parametrize("caller", [OFFICER, CHAIR_HERE], ids=lambda caller: caller.role)
async def test_whoever_is_bound_to_a_ward_learns_of_no_other_which_ids_there_are(
    house: WholeCity, caller: Principal
) -> None:
    house.clock.set(at("2023-01-22 00:30"))
    elsewhere = await house.report(body(ward="Đông Thọ"))
    shown = (await house.get(f"/escalation/v1/incidents/{elsewhere}", "desk")).json()
    decision = shown["decision"]["decision_id"]
    by_id = [(m, p) for m, p in routes(house) if "{incident_id}" in p or "{decision_id}" in p]
    assert len(by_id) > 10
    for method, path in by_id:
        theirs = path.replace("{incident_id}", elsewhere).replace("{decision_id}", decision)
        nobodys = path.replace("{incident_id}", "khong-co").replace("{decision_id}", "khong-co")
        answers = [await ask(house, method, each, caller) for each in (theirs, nobodys)]
        assert [a.status_code for a in answers] == [403, 403], (method, path, [a.text for a in answers])
        details = [a.json()["detail"] for a in answers]
        assert details[0] == details[1]
        assert not [word for word in ("14758", "Đông Thọ") for detail in details if word in detail]
