"""The sample night: each row sent at its own time on the moved clock, and what came of it compared with what should."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from shared.clock import Clock
from shared.identity import Principal, Role, TokenIssuer

COUNTED_PURPOSES = ("accountable", "not_acknowledged")
SAMPLES = Path(__file__).parent.parent.parent / "samples"


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


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


class Night:
    """Plays rows against running services. `settle` returns once all that a row set off has been done."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        tokens: Tokens,
        clock: Clock,
        settle: Callable[[], Awaitable[None]],
        next_due: Callable[[], Awaitable[datetime | None]],
    ) -> None:
        self._client, self._clock, self._settle, self._next_due = client, clock, settle, next_due
        self._tokens = tokens
        self._admin, self._desk = tokens.role("admin"), tokens.role("desk")
        self._incident_of_report: dict[str, str] = {}
        self._incident_of_label: dict[str, str] = {}
        self._seen: dict[str, set[str]] = {}
        self._exercises: set[str] = set()
        self._decisions: dict[str, int] = {}
        self.result = Result()

    async def play(self, sample: Sequence[dict[str, Any]], progress: Callable[[], None]) -> Result:
        for row in sample:
            await self._move_to(datetime.fromisoformat(row["at"]))
            found = await getattr(self, f"_{row['kind']}")(row)
            self._compare(row, found)
            self.result.rows += 1
            progress()
        real = [i for i in set(self._incident_of_report.values()) if i not in self._exercises]
        self.result.incidents = len(real)
        self.result.decisions = sum(self._decisions[i] for i in real)
        return self.result

    async def _move_to(self, at: datetime) -> None:
        """Jump to `at`, stopping at each deadline that falls due before, so that steps are raised in their order."""
        while (due := await self._next_due()) is not None and due <= at:
            self._clock.set(due)
            await self._settle()
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
        await self._settle()
        receipt = (await self._client.get(f"/intake/v1/receipts/{content['receipt']}")).json()
        incident = receipt.get("incident") or {}
        if answer.status_code == 201:
            self._incident_of_report[row["report"]["report_id"]] = str(incident.get("id"))
            self.result.reports += not row["report"].get("exercise", False)
        whole = await self._incident(str(incident.get("id")))
        decision = whole["decision"]["record"]
        return found | {
            "incident": incident.get("id"),
            "routed": incident.get("outcome"),
            "decision": decision["outcome"],
            "standing": decision["standing"],
            "limb": decision.get("limb"),
            "severity": decision.get("severity"),
            "accountable": {p["post"]: p.get("accountable", {}).get("holder_id") for p in decision["parties"]},
            "told": self._newly_told(whole),
        }

    async def _acknowledge(self, row: dict[str, Any]) -> dict[str, Any]:
        who = row["as"]
        caller = Principal(who["subject"], "official", who["ward"], row["post"])
        incident = self._incident_of_report[row["report_id"]]
        path = f"/escalation/v1/incidents/{incident}/acknowledgements"
        answer = await self._client.post(path, headers=self._tokens.header(caller))
        await self._settle()
        return {"status": answer.status_code, "state": answer.json().get("state")}

    async def _deadlines(self, row: dict[str, Any]) -> dict[str, Any]:
        await self._settle()
        return {"told": self._newly_told(await self._incident(self._incident_of_report[row["report_id"]]))}

    async def _incident(self, incident_id: str) -> dict[str, Any]:
        answer = await self._client.get(f"/escalation/v1/incidents/{incident_id}", headers=self._desk)
        whole = answer.raise_for_status().json()
        self._decisions[incident_id] = len(whole["decisions"])
        if whole["exercise"]:
            self._exercises.add(incident_id)
        return whole

    def _newly_told(self, whole: dict[str, Any]) -> list[str]:
        seen = self._seen.setdefault(whole["id"], set())
        new = [n for n in whole["notices"] if n["notice_id"] not in seen]
        seen.update(n["notice_id"] for n in new)
        return sorted(_told(n) for n in new)

    def _compare(self, row: dict[str, Any], found: dict[str, Any]) -> None:
        for name, expected in row["expected"].items():
            actual = found.get(name)
            if name == "incident":
                actual = self._label_of(str(actual), expected)
            if name in {"told", "candidates"}:
                expected, actual = sorted(expected), sorted(actual or [])
            if actual != expected:
                where = f"{row['at']} {row['case']}"
                self.result.differences.append(
                    f"{where}: {name} should be {expected!r} and is {actual!r} ({row['why']})"
                )

    def _label_of(self, incident: str, expected: str) -> str:
        """The label that this incident goes by; a first sight gives it the expected one, if that one is free."""
        known = {id_: label for label, id_ in self._incident_of_label.items()}
        if incident in known:
            return known[incident]
        if expected in self._incident_of_label:
            return f"another incident than the earlier {expected}"
        self._incident_of_label[expected] = incident
        return expected


def _told(notice: dict[str, Any]) -> str:
    desk = notice["recipient"] == "desk"
    to = f"desk:{notice['purpose']}" if desk else "+".join(sorted(notice["posts"]))
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
