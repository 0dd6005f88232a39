"""The sample: each row sent at its own time on the moved clock, and what came of it compared with what should."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx

from shared.clock import Clock
from shared.http.identity import Principal, Role, TokenIssuer

COUNTED_PURPOSES = ("accountable", "reminder", "still_open", "not_acknowledged", "not_reviewed", "exhausted")
"""Notices to post-holders, and step-ups."""
SAMPLES = Path(__file__).parents[3] / "samples"
PARTS = ("tet-night", "after-tet", "units-2025")
"""Played in this order."""
OFFICES = ("desk", "leadership")
IN_ANY_ORDER = frozenset({"told", "candidates", "related"})
POLL_SECONDS = 0.005
ROUTED_WITHIN_SECONDS = 30
A_MOMENT = timedelta(seconds=5)
"""A shorter time between two rows is not waited for: one person does both."""


@dataclass
class Result:
    """Counts as the closing line of `make demo` gives them, and every difference found. Exercises are in no count."""

    rows: int = 0
    reports: int = 0
    incidents: int = 0
    decisions: int = 0
    differences: list[str] = field(default_factory=list[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True)
class Tokens:
    """Bearer headers of the roles that play in the sample."""

    issuer: TokenIssuer

    def header(self, principal: Principal) -> dict[str, str]:
        return {"authorization": f"Bearer {self.issuer.issue(principal, days=1)}"}

    def role(self, role: Role) -> dict[str, str]:
        return self.header(Principal(subject=f"sample-{role}", role=role))


class Stage(Protocol):
    """What a night plays on: running services."""

    async def settle(self) -> None:
        """Until all that was set off has been done."""
        ...

    async def next_due(self) -> datetime | None: ...

    async def bring_in(self, name: str) -> int:
        """Import a file of the sample; returns how many lines changed something. Raises when a line is wrong."""
        ...


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def whole_sample() -> list[dict[str, Any]]:
    return [row for part in PARTS for row in rows(SAMPLES / f"{part}.ndjson")]


class Night:
    """Plays rows against running services."""

    def __init__(self, client: httpx.AsyncClient, tokens: Tokens, clock: Clock, stage: Stage) -> None:
        self._client, self._tokens, self._clock, self._stage = client, tokens, clock, stage
        self._admin, self._desk = tokens.role("admin"), tokens.role("desk")
        self._incident_of_report: dict[str, str] = {}
        self._label_of: dict[str, str] = {}
        """By incident id."""
        self._seen: dict[str, set[str]] = {}
        self.result = Result()

    async def play(self, sample: Sequence[dict[str, Any]], progress: Callable[[], None]) -> Result:
        for row in sample:
            await self._move_to(datetime.fromisoformat(row["at"]))
            self._compare(row, await self._play(row))
            self.result.rows += 1
            progress()
        await self._stage.settle()
        await self._sum_up()
        return self.result

    async def _play(self, row: dict[str, Any]) -> dict[str, Any]:
        if row.get("report_id", "") not in {"", *self._incident_of_report}:
            return {"status": f"no incident has report {row['report_id']}"}
        return await getattr(self, f"_{row['kind']}")(row)

    async def _move_to(self, at: datetime) -> None:
        """Jump to `at`, stopping at each due time before, so that steps are raised in their order."""
        if at - self._clock.now() > A_MOMENT:
            await self._stage.settle()
        while (due := await self._stage.next_due()) is not None and due <= at:
            self._clock.set(due)
            await self._stage.settle()
        self._clock.set(at)

    async def _report(self, row: dict[str, Any]) -> dict[str, Any]:
        body = row["report"] | {"received_at": row["at"], "on_behalf_of": row["as"]}
        answer = await self._client.post("/intake/v1/reports", json=body, headers=self._admin)
        content = answer.json()
        found: dict[str, Any] = {"status": answer.status_code}
        found["outcome"] = content.get("outcome", {409: "conflict"}.get(answer.status_code, "rejected"))
        self.result.outcomes[found["outcome"]] += 1
        if answer.status_code >= 400:
            errors = content.get("errors") or [{}]
            return found | {"candidates": [c["name"] for c in errors[0].get("candidates", [])], "told": []}
        incident = await self._routed(content["receipt"])
        if answer.status_code == 201:
            self._incident_of_report[row["report"]["report_id"]] = incident["id"]
            self.result.reports += not row["report"].get("exercise", False)
        seen = self._look_at(await self._incident(incident["id"]), row)
        return seen | found | {"incident": incident["id"], "routed": incident["outcome"]}

    async def _routed(self, receipt: str) -> dict[str, Any]:
        """Which incident the report came to, as its receipt says."""
        async with asyncio.timeout(ROUTED_WITHIN_SECONDS):
            while True:
                answer = await self._client.get(f"/intake/v1/receipts/{receipt}")
                if incident := answer.raise_for_status().json().get("incident"):
                    return incident
                await asyncio.sleep(POLL_SECONDS)

    async def _acknowledge(self, row: dict[str, Any]) -> dict[str, Any]:
        return await self._post(row, "acknowledgements", None)

    async def _command(self, row: dict[str, Any]) -> dict[str, Any]:
        body = dict(row["body"])
        if "into" in body:
            body["into"] = self._incident_of_report.get(body["into"], "")
        found = await self._post(row, row["command"], body)
        if found["status"] == 201 and row["command"] in {"merges", "splits"}:
            await self._follow(row, body.get("into") or found["new_incident"])
        return found

    async def _post(self, row: dict[str, Any], route: str, body: dict[str, Any] | None) -> dict[str, Any]:
        incident = self._incident_of_report[row["report_id"]]
        caller = self._tokens.header(Principal(**row["as"]))
        path = f"/escalation/v1/incidents/{incident}/{route}"
        answer = await self._client.post(path, json=body, headers=caller)
        found = {"status": answer.status_code}
        if answer.is_error:
            return found
        content = answer.json()
        if not set(row["expected"]) <= {"status", "state"}:
            found |= self._look_at(await self._incident(incident), row)
        return found | {"state": content["state"], "new_incident": content.get("new_incident")}

    async def _follow(self, row: dict[str, Any], incident: str) -> None:
        """Reports that went to another incident are spoken of as that one's."""
        whole = await self._incident(incident)
        self._incident_of_report |= {r["report_id"]: incident for r in whole["reports"]}
        self._label_of.setdefault(incident, row["expected"].get("new_incident", ""))

    async def _deadlines(self, row: dict[str, Any]) -> dict[str, Any]:
        return self._look_at(await self._incident(self._incident_of_report[row["report_id"]]), row)

    async def _directory(self, row: dict[str, Any]) -> dict[str, Any]:
        if "file" in row:
            return {"recorded": await self._stage.bring_in(row["file"])}
        path = f"/escalation/v1/directory/{row['put']}"
        answer = await self._client.put(path, json={"rows": row["rows"]}, headers=self._admin)
        return {"status": answer.status_code, "recorded": answer.json().get("recorded")}

    async def _incident(self, incident_id: str) -> dict[str, Any]:
        answer = await self._client.get(f"/escalation/v1/incidents/{incident_id}", headers=self._desk)
        self._label_of.setdefault(incident_id, "")
        return answer.raise_for_status().json()

    def _look_at(self, whole: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        """What is expected of an incident, as it is; notices are new since a row last told of them."""
        decision = whole["decision"]["record"]
        parties = decision["parties"]
        new = self._new_notices(whole) if "told" in row["expected"] else []
        sent = Counter(d["notice_id"] for d in whole["deliveries"])
        return {
            "state": whole["state"],
            "decision": decision["outcome"],
            "standing": decision["standing"],
            "limb": decision.get("limb"),
            "severity": decision.get("severity"),
            "accountable": {p["post"]: _holder(p, "accountable") for p in parties},
            "present": {p["post"]: _holder(p, "deputy") or _holder(p, "present") for p in parties},
            "decisions": len(whole["decisions"]),
            "related": [self._label_of.get(r["id"], "") for r in whole["related"]],
            "told": [told(n, whole) for n in new],
            "channels": {told(n, whole): sent[n["notice_id"]] for n in whole["notices"]},
        }

    def _new_notices(self, whole: dict[str, Any]) -> list[dict[str, Any]]:
        seen = self._seen.setdefault(whole["id"], set())
        new = [n for n in whole["notices"] if n["notice_id"] not in seen]
        seen.update(n["notice_id"] for n in new)
        return new

    def _compare(self, row: dict[str, Any], found: Mapping[str, Any]) -> None:
        for name, expected in row["expected"].items():
            actual = found.get(name)
            if name in {"incident", "new_incident"}:
                actual = self._label(str(actual), expected)
            if name == "channels":
                actual = {key: found[name].get(key) for key in expected}
            if name in IN_ANY_ORDER:
                expected, actual = sorted(expected), sorted(actual or [])
            if actual != expected:
                where = f"{row['at']} {row['case']}"
                self.result.differences.append(
                    f"{where}: {name} should be {expected!r} and is {actual!r} ({row['why']})"
                )

    def _label(self, incident: str, expected: str) -> str:
        """The label that this incident goes by; a first sight gives it the expected one, if that one is free."""
        known = self._label_of.get(incident)
        if known:
            return known
        if expected in self._label_of.values():
            return f"another incident than the earlier {expected}"
        self._label_of[incident] = expected
        return expected

    async def _sum_up(self) -> None:
        """Count what is real, and find notices that no row speaks of."""
        for incident, label in self._label_of.items():
            whole = await self._incident(incident)
            untold = sorted(told(n, whole) for n in self._new_notices(whole))
            if untold:
                self.result.differences.append(f"{label}: no row expects {untold!r}")
            if not whole["exercise"]:
                self.result.incidents += 1
                self.result.decisions += len(whole["decisions"])


def _holder(party: dict[str, Any], role: str) -> str | None:
    return (party.get(role) or {}).get("holder_id")


def told(notice: dict[str, Any], whole: dict[str, Any]) -> str:
    """Who was told, and of what, as the sample writes it."""
    purpose, recipient = notice["purpose"], notice["recipient"]
    if recipient in OFFICES:
        to = f"{recipient}:{purpose}"
    elif purpose == "duty":
        to = "duty"
    else:
        posts = "+".join(sorted(notice["posts"]))
        records = [d["record"] for d in whole["decisions"]]
        stands_in = any(_holder(p, "deputy") == recipient for r in records for p in r["parties"])
        to = f"deputy of {posts}" if stands_in else posts
        to += "" if purpose == "accountable" else f":{purpose}"
    return f"log:{to}" if notice["exercise"] else to


def delivered(outbox: Path) -> set[str]:
    """Ids of the notices to post-holders and of step-ups that reached their channel, exercises apart."""
    return {
        line["notice_id"] for line in _lines(outbox) if not line["exercise"] and line["purpose"] in COUNTED_PURPOSES
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)
