"""One night in one city, told over HTTP, and every kind of answer that the three services give about it."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import orjson
from httpx import Response

from shared.events import UnitRef
from shared.http.identity import Principal, Role
from tests.integration.directory_changes import end_unit
from tests.integration.escalation_support import WholeCity
from tests.support import CHAIR, NIGHT, SECRETARY, body

INCIDENTS = "/escalation/v1/incidents"
WHY = "Đã kiểm tra tại chỗ"
OFFICER = Principal("cb-14776", "officer", "14776")
CHAIR_HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
SECRETARY_HERE = Principal("mau-14776-bi-thu", "official", "14776", SECRETARY)
PARTS = (
    UnitRef(code="14758", valid_from=date(2023, 1, 22), name="Phần một (mẫu)"),
    UnitRef(code="14797", valid_from=date(2023, 1, 22), name="Phần hai (mẫu)"),
)
Caller = Principal | Role | None


@dataclass(frozen=True)
class Answer:
    """One answer, and the path under which its route is documented."""

    name: str
    method: str
    route: str
    response: Response


class Night:
    """Asks, and keeps every answer."""

    def __init__(self, house: WholeCity) -> None:
        self.house = house
        self.answers: list[Answer] = []
        self.incidents: dict[str, str] = {}

    async def ask(
        self, name: str, method: str, route: str, caller: Caller = None, *, query: str = "", **given: Any
    ) -> Any:
        """The answer's JSON. `given`: what fills the route's path, and httpx's own `json`, `content`, `headers`."""
        sent = {key: given.pop(key) for key in ("json", "content") if key in given}
        headers = given.pop("headers", {}) | ({} if caller is None else self.house.bearer(caller))
        response = await self.house.client.request(method, route.format(**given) + query, headers=headers, **sent)
        self.answers.append(Answer(name, method, route, response))
        return orjson.loads(response.content) if "json" in response.headers["content-type"] else response.text

    async def report(self, name: str, caller: Caller, **fields: Any) -> None:
        """Sent and routed; its incident is kept under `name`."""
        sent = body(report_id="tin-" + name.replace(" ", "-"), **fields)
        told = await self.ask(f"report {name}", "POST", "/intake/v1/reports", caller, json=sent)
        await self.house.settle()
        receipt = await self.ask(f"receipt {name}", "GET", "/intake/v1/receipts/{receipt}", receipt=told["receipt"])
        self.incidents[name] = receipt["incident"]["id"]

    async def act(self, name: str, incident: str, command: str, caller: Caller = "desk", **said: Any) -> Any:
        route = f"{INCIDENTS}/{{incident_id}}/{command}"
        told = await self.ask(name, "POST", route, caller, incident_id=self.incidents[incident], json=said)
        await self.house.settle()
        return told


async def told_in(house: WholeCity) -> AsyncGenerator[Answer]:
    """Every answer in order, its body read."""
    night = Night(house)
    await _reports(night)
    await _commands(night)
    await _incidents(night)
    await _directory(night)
    await _ledger(night)
    await _others(night)
    for answer in night.answers:
        yield answer


async def _reports(night: Night) -> None:
    said = {"description": "Nghe ba tiếng nổ sau chợ", "neighbourhood": "Tổ 3"}
    where = {"location": {"latitude": 19.8, "longitude": 105.77, "accuracy_m": 30}}
    evidence = [{"sha256": "ab" * 32, "bytes": 10, "media_type": "image/jpeg"}]
    firecracker = {"explosion_sound": True, "licensed": False}
    first = said | where | {"evidence": evidence, "firecracker": firecracker, "harm": {"injured": 1}}
    await night.report("first", Principal("cam-bien-1", "device"), **first, captured_at="2023-01-21T23:50:01+07:00")
    await night.report("second", OFFICER, harm={"deaths": 1}, reporter={"name": "Mẫu", "phone": "0912345678"})
    same = body(report_id="tin-second", harm={"deaths": 1}, reporter={"name": "Mẫu", "phone": "0912345678"})
    wait = {"prefer": "wait=10"}
    await night.ask("report again", "POST", "/intake/v1/reports", OFFICER, json=same, headers=wait)
    await night.ask("report otherwise", "POST", "/intake/v1/reports", OFFICER, json=same | {"ward": "14776"} | said)
    for name, hours in (("fire one", 9), ("fire two", 6), ("fire three", 3)):
        occurred = (NIGHT - timedelta(hours=hours)).isoformat()
        await night.report(name, Principal("cam-bien-2", "device"), category="FIRE", occurred_at=occurred)
        await night.report(f"{name} too", Principal("cam-bien-3", "device"), category="FIRE", occurred_at=occurred)
    await night.report("exercise", "desk", ward="14779", exercise=True)
    batch = [body(report_id="tin-batch", ward="14779"), body(report_id="tin-bad", category="STRIKE"), 7]
    await night.ask("batch", "POST", "/intake/v1/reports:batch", "desk", json=batch)
    await night.house.settle()
    lines = orjson.dumps(batch[0]) + b"\n{\n"
    await night.ask("batch of lines", "POST", "/intake/v1/reports:batch", "desk", content=lines)
    await night.ask("own reports", "GET", "/intake/v1/reports", Principal("cam-bien-2", "device"), query="?limit=2")
    await night.ask("own report", "GET", "/intake/v1/reports", OFFICER, query="?report_id=tin-second")


async def _commands(night: Night) -> None:
    await night.act("acknowledged", "first", "acknowledgements", CHAIR_HERE)
    await night.act("acknowledged again", "first", "acknowledgements", CHAIR_HERE)
    await night.act("acknowledged by the other", "first", "acknowledgements", SECRETARY_HERE)
    await night.act("response", "first", "responses", CHAIR_HERE, text="Đã dập tắt")
    await night.act("severity", "first", "severity", OFFICER, reason=WHY, harm={"deaths": 2})
    for holder in (CHAIR_HERE, SECRETARY_HERE):  # it is graver now, so they are asked again
        await night.house.post(f"{INCIDENTS}/{night.incidents['first']}/acknowledgements", holder)
    await night.act(
        "verification", "first", "verifications", reason=WHY, verdict="confirmed", firecrackers_exploded=True
    )
    await night.act("designation", "first", "designations", reason=WHY)
    await night.act("designation again", "first", "designations", reason=WHY)
    await night.act("closure proposed", "first", "closure-proposals", CHAIR_HERE, reason=WHY)
    await night.act("closed too early", "fire one", "closures", reason=WHY)
    await night.act("closed", "first", "closures", reason=WHY)
    await night.act("reopened", "first", "reopenings", reason=WHY)
    await night.act("merged", "fire two", "merges", reason=WHY, into=night.incidents["fire one"])
    await night.act("split", "fire three", "splits", reason=WHY, reports=["tin-fire-three-too"])
    await night.act("dismissed", "exercise", "verifications", reason=WHY, verdict="false")
    await night.act("handed off", "fire three", "handoffs", reason=WHY, to="police")
    night.house.clock.set(NIGHT + timedelta(minutes=16))
    await night.house.settle()
    night.house.clock.set(NIGHT + timedelta(minutes=40))
    await night.house.settle()
    await end_unit(night.house, PARTS)
    await night.house.settle()
    unit = {"code": PARTS[0].code, "valid_from": str(PARTS[0].valid_from)}
    night.house.clock.set(NIGHT + timedelta(minutes=52))
    await night.house.settle()
    await night.act("reassigned", "fire one", "handoffs", reason=WHY, to="unit", unit=unit)
    await night.act("transferred again", "fire one", "transfers", reason=WHY, unit=unit)
    await night.act("forbidden", "first", "closures", CHAIR_HERE, reason=WHY)


async def _incidents(night: Night) -> None:
    seen: tuple[tuple[Caller, str, tuple[str, ...]], ...] = (
        ("desk", "desk", ("first", "fire one", "fire two", "fire three", "exercise")),
        ("leader", "leader", ("fire three",)),
        (CHAIR_HERE, "official", ("first",)),
    )
    for caller, who, names in seen:
        await night.ask(f"incidents for the {who}", "GET", INCIDENTS, caller)
        for name in names:
            route, incident = f"{INCIDENTS}/{{incident_id}}", night.incidents[name]
            await night.ask(f"{name} for the {who}", "GET", route, caller, incident_id=incident)
    route = f"{INCIDENTS}/{{incident_id}}/senders"
    await night.ask("senders", "POST", route, "desk", incident_id=night.incidents["first"], json={"reason": WHY})
    await night.ask("some incidents", "GET", INCIDENTS, "desk", query="?limit=2")
    await night.ask("bad question", "GET", INCIDENTS, "desk", query="?limit=0&severity=9")
    await night.ask("no incident", "GET", f"{INCIDENTS}/{{incident_id}}", "desk", incident_id="khong-co")
    await night.ask("no token", "GET", INCIDENTS)
    decision = await night.house.one(
        "SELECT decision_id FROM escalation.decision WHERE incident_id = :id ORDER BY number DESC LIMIT 1",
        id=night.incidents["first"],
    )
    for name, path in (("decision", ""), ("replay", "/replay")):
        route = "/escalation/v1/decisions/{decision_id}" + path
        await night.ask(name, "GET", route, "auditor", decision_id=decision)
    await night.house.run(
        "UPDATE escalation.decision SET inputs = inputs - 'incident' WHERE decision_id = :id", id=decision
    )
    await night.ask(
        "no replay", "GET", "/escalation/v1/decisions/{decision_id}/replay", "auditor", decision_id=decision
    )


async def _directory(night: Night) -> None:
    route = "/escalation/v1/directory"
    unit = {"unit_code": "14779", "unit_valid_from": "2021-02-01"}
    who = {"holder_id": "mau-moi", "holder_name": "Người mới (mẫu)", "document": "QĐ mẫu"}
    tenure = unit | who | {"post": CHAIR, "valid_from": "2023-01-20", "channel": "outbox://mau-moi", "sample": True}
    gone = unit | who | {"post": CHAIR, "holder_id": "mau-ai-do", "valid_from": "2023-01-10", "withdrawn": True}
    turn = (
        unit
        | who
        | {"level": "ward", "valid_from": "2023-01-21T18:00:00+07:00", "valid_to": "2023-02-01T06:00:00+07:00"}
    )
    office = who | {"level": "desk", "valid_from": "2023-01-21 18:00", "valid_to": "2023-02-01 06:00"}
    contact = {
        "holder_id": "mau-14776-chu-tich",
        "channel": "mailto://mail.example.org?from=a@example.org&to=b@example.org",
        "quiet_from": "22:00",
        "quiet_to": "05:00",
    }
    for kind, rows in (("tenures", [tenure, gone]), ("rosters", [turn, office]), ("contacts", [contact])):
        for dry_run in ("?dry_run=true", ""):
            name = f"put {kind} {dry_run or 'for good'}"
            await night.ask(name, "PUT", f"{route}/{kind}", "admin", query=dry_run, json={"rows": rows})
    await night.ask("put nonsense", "PUT", f"{route}/tenures", "admin", json={"rows": [{"post": 1}]})
    await night.house.settle()
    for kind in ("tenures", "rosters", "contacts", "units"):
        for ward in ("14779", "14776"):
            await night.ask(f"{kind} of {ward}", "GET", route, "desk", query=f"?kind={kind}&ward={ward}")
    await night.ask("duty", "GET", route, "desk", query="?kind=rosters&as_of=2023-01-22T00:00:00Z")
    await night.ask("rulebooks", "GET", "/escalation/v1/rulebooks", "desk")
    for version in ("2023-01-06", "2023-01-06.1"):
        await night.ask(f"rulebook {version}", "GET", "/escalation/v1/rulebooks/{version}", "desk", version=version)


async def _ledger(night: Night) -> None:
    index = 0
    for kind in ("tenure.recorded", "decision.made", "incident.verified", "report.received"):
        query = f"?ward=14776&kind={kind}&limit=2"
        page = await night.ask(f"entries of {kind}", "GET", "/ledger/v1/entries", "auditor", query=query)
        index = page["items"][0]["index"]
    await night.ask("entry", "GET", "/ledger/v1/entries/{index}", "auditor", index=index)
    await night.ask("proof", "GET", "/ledger/v1/entries/{index}/proof", "auditor", index=index)
    await night.ask("no entry", "GET", "/ledger/v1/entries/{index}", "auditor", index=10**6)
    await night.ask("consistency", "GET", "/ledger/v1/consistency", "auditor", query="?first=2")
    await night.ask("checkpoint", "GET", "/ledger/v1/checkpoint")


async def _others(night: Night) -> None:
    signer = night.house.services.escalation.app.state.link_signer
    sql = (
        "SELECT notice_id, recipient, issued_at FROM escalation.notice WHERE purpose = 'accountable'"
        " AND incident_id = :id ORDER BY recipient LIMIT 1"
    )
    (row,) = await night.house.rows(sql, id=night.incidents["first"])
    link = signer.of_notice(row.notice_id, row.recipient, row.issued_at)
    for name, method in (("link", "GET"), ("link pressed", "POST")):
        await night.ask(
            name,
            method,
            "/escalation/v1/links/{notice_id}",
            notice_id=row.notice_id,
            query="?" + link.partition("?")[2],
            headers={"accept": "application/json"},
        )
    await night.ask(
        "link of nobody",
        "GET",
        "/escalation/v1/links/{notice_id}",
        notice_id="x",
        headers={"accept": "application/json"},
    )
    await night.ask("wards", "GET", "/intake/v1/wards", query="?q=quang th&limit=2")
    for service in ("intake", "escalation", "ledger"):
        await night.ask(f"{service} is alive", "GET", f"/{service}/healthz")
        await night.ask(f"{service} is ready", "GET", f"/{service}/readyz")


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(Z|[+-]\d\d:\d\d)")
_MADE_UP = (
    (re.compile(r"\b\d{4}-[A-Z]\d[A-Z]\d[A-Z]\b"), "<number>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\bp_[a-z2-7]{16}\b"), "<pseudonym>"),
    (re.compile(r"TB(-[0-9A-Z]{4}){4}"), "<receipt>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"(?s)^\S+/ledger\n\d+\n.*"), "<checkpoint>"),
)
_UNORDERED = {"notices", "deliveries", "deadlines", "related", "waits_for"}
"""Lists whose order goes by times that may be equal."""


def plain(value: Any, name: str = "") -> Any:
    """The same JSON without what differs from run to run: ids, hashes, instants; the offset of an instant stays."""
    if isinstance(value, dict):
        if "delivery_id" in value and "officials" in value:  # whichever of two was delivered first
            value = value | {"officials": ["<official>"] * len(value["officials"])}
        return {key: plain(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        if name == "path":
            return ["<hash>"] if value else []
        items = [plain(inner) for inner in value]
        return sorted(items, key=orjson.dumps) if name in _UNORDERED else items
    if name == "index":
        return "<index>"
    if not isinstance(value, str):
        return value
    if name == "next":
        return "<cursor>"
    value = _TIME.sub(r"<time \1>", value)
    for pattern, word in _MADE_UP:
        value = pattern.sub(word, value)
    return value
