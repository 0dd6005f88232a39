"""Every route as every role, about a ward of the caller, another, and a former one: the table says what happens."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from httpx import Response

from services.documents import rights_of_all
from services.escalation.api import stream
from shared.http.identity import ROLES, Principal, Role
from shared.http.rights import EXTENTS, THEIRS, YES
from tests.integration.directory_changes import appoint, posted
from tests.integration.escalation_support import Template, WholeCity, route_all, whole_city_in
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Decision, Incident
from tests.support import BA_DINH, CHAIR, DONG_THO, NGOC_TRAO, NIGHT, at, body, received

RIGHTS = {name: right for rights in rights_of_all().values() for name, right in rights.items()}
INCIDENT = "/escalation/v1/incidents/{incident_id}"
WHY = {"reason": "Đã kiểm tra tại chỗ"}
NOWHERE = {"code": "99999", "valid_from": "2023-01-22"}
SAID: dict[str, Any] = {
    f"{INCIDENT}/acknowledgements": None,
    f"{INCIDENT}/verifications": WHY | {"verdict": "confirmed"},
    f"{INCIDENT}/designations": WHY,
    f"{INCIDENT}/severity": WHY | {"harm": {"deaths": 1}},
    f"{INCIDENT}/merges": WHY | {"into": "khong-co"},
    f"{INCIDENT}/splits": WHY | {"reports": ["khong-co"]},
    f"{INCIDENT}/handoffs": WHY | {"to": "police"},
    f"{INCIDENT}/transfers": WHY | {"unit": NOWHERE},
    f"{INCIDENT}/corrections": WHY | {"exercise": True},
    f"{INCIDENT}/senders": WHY,
    f"{INCIDENT}/responses": {"text": "Đã dập tắt"},
    f"{INCIDENT}/escalations": WHY,
    f"{INCIDENT}/closure-proposals": WHY,
    f"{INCIDENT}/closures": WHY,
    f"{INCIDENT}/reopenings": WHY,
    "/escalation/v1/directory/tenures": {"rows": []},
    "/escalation/v1/directory/rosters": {"rows": []},
    "/escalation/v1/directory/postings": {"rows": []},
    "/escalation/v1/directory/contacts": {"rows": []},
    "/escalation/v1/contact-tests": {},
    "/escalation/v1/credentials/revocations": WHY | {"subject": "khong-co"},
    "/escalation/v1/links/{notice_id}": None,
}
"""What is said to each route that takes something; intake's take a report."""
ASKED = {
    "/ledger/v1/consistency": "?first=1&second=1",
    "/ledger/v1/entries/{index}/proof": "?size=1",
}
CHAIR_HERE = "mau-14776-chu-tich"
PLACES = {"own": BA_DINH, "other": NGOC_TRAO, "former": DONG_THO}
_hours = count()
PLACED = ("{incident_id}", "{decision_id}", "/reports", "/escalation/v1/incidents")
"""What of an address, or of what is said to it, is of a ward."""


@pytest.fixture(scope="module")
async def house(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template) as made:
        was, until = at("2023-01-07 00:00"), at("2023-01-10 00:00")
        await appoint(made, CHAIR_HERE, was, until, unit=DONG_THO, capacity="deputy")
        for role in ("officer", "device"):
            await posted(made, f"mau-{role}", DONG_THO, "2023-01-07", "2023-01-10")
            await posted(made, f"mau-{role}", BA_DINH, "2023-01-10")
        await made.settle()  # intake knows of them, and the ledger has entries
        yield made


def caller(role: Role) -> Principal:
    """Somebody of Ba Đình, and of Đông Thọ before, where the role has a ward; the official is the chair."""
    subject = CHAIR_HERE if role == "official" else f"mau-{role}"
    return Principal(subject, role, ward=BA_DINH.code, post=CHAIR)


class Asking:
    """Asks one route about things of one ward after another."""

    def __init__(self, house: WholeCity, name: str) -> None:
        self.house = house
        self.method, _, self.path = name.partition(" ")
        self.at = NIGHT - timedelta(hours=next(_hours))
        self.reports = 0

    async def happens(self) -> None:
        """In each ward a new incident, which nobody has done anything about."""
        for unit in PLACES.values():
            await route_all(self.house.escalation, [received(unit=unit, occurred_at=self.at)])

    async def ask(self, who: Principal | None, place: str) -> Response:
        headers = {} if who is None else self.house.bearer(who)
        unit = PLACES[place]
        happened = {"unit_code": unit.code, "occurred_at": self.at, "family": "explosive"}
        incident = (await only(self.house, Incident, **happened)).incident_id
        path = self.path.format(
            incident_id=incident,
            decision_id=(await stored(self.house, Decision, incident_id=incident))[-1].decision_id,
            notice_id="khong-co",
            version="2023-01-06",
            test_id="khong-co",
            index=0,
            receipt="TB-0000-0000-0000-0000",
        )
        path += ASKED.get(self.path, f"?ward={unit.code}" if self.path == "/escalation/v1/incidents" else "")
        return await self.house.client.request(self.method, path, headers=headers, **self._said(unit.code))

    def _said(self, ward: str) -> dict[str, Any]:
        if self.method == "GET":
            return {}
        if not self.path.startswith("/intake/"):
            return {"json": SAID[self.path]}
        self.reports += 1
        report = body(report_id=f"tin-{self.reports}", ward=ward, category="FIRE")
        return {"json": [report] if self.path.endswith(":batch") else report}


def refusal(answer: Response) -> int:
    """The status of the answer, or of the one item of a batch."""
    is_batch = answer.status_code == 200 and answer.request.url.path.endswith(":batch")
    return answer.json()["results"][0]["status"] if is_batch else answer.status_code


def test_every_route_of_the_three_documents_has_a_row_and_every_row_a_route(house: WholeCity) -> None:
    found = {
        f"{method.upper()} /{service.name}{path}"
        for service in house.services
        for path, methods in service.app.openapi()["paths"].items()
        for method in methods
    }
    rows = {name.partition("?")[0] for name in RIGHTS}
    assert found - rows == set()
    assert rows - found == set()


@pytest.mark.parametrize("name", RIGHTS)
async def test_each_role_reaches_as_far_as_the_table_says(
    house: WholeCity, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LONGEST_SECONDS", 0.05)
    right, asking = RIGHTS[name], Asking(house, name)
    await asking.happens()
    nobody = await asking.ask(None, "own")
    assert (nobody.status_code == 401) == bool(right.roles)
    if not right.roles:
        return
    assert "bearer" in nobody.headers["www-authenticate"].lower()
    for role in ROLES:
        reach = right.reach.get(role)
        if reach is None:
            refused = await asking.ask(caller(role), "own")
            assert refused.status_code == 403, role
            assert role in refused.json()["detail"]
            continue
        for place in PLACES:
            answer = await asking.ask(caller(role), place)
            told = (role, place, answer.status_code, answer.text[:200])
            if any(part in asking.path for part in PLACED) and getattr(EXTENTS[reach], place) not in {YES, THEIRS}:
                assert refusal(answer) == 403, told
            else:
                assert refusal(answer) not in {401, 403}, told
                assert answer.status_code < 500
