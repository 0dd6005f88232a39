"""Playing the sample: each row is sent at its own time on the moved clock."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from services.cli.demo.comparison import Comparison
from services.cli.demo.sample import COUNTED_PURPOSES
from services.cli.demo.system import POLL_SECONDS, SampleSystem
from shared.http.identity import Principal, Role, TokenIssuer

ROUTED_WITHIN_SECONDS = 30
A_MOMENT = timedelta(seconds=5)
"""A shorter time between two rows is not waited for: one person does both."""


@dataclass
class NightResult:
    """What the closing lines of the demo count, and every difference. Exercises count as rows and outcomes only."""

    rows: int = 0
    reports: int = 0
    incidents: int = 0
    decisions: int = 0
    notices: set[str] = field(default_factory=set[str])
    """Ids of the notices of `COUNTED_PURPOSES`."""
    differences: Sequence[str] = ()
    outcomes: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True)
class SampleTokens:
    """Headers with a token for those who act in the sample."""

    issuer: TokenIssuer

    def header(self, principal: Principal) -> dict[str, str]:
        return {"authorization": f"Bearer {self.issuer.issue(principal, days=1)}"}

    def role_header(self, role: Role) -> dict[str, str]:
        return self.header(Principal(subject=f"sample-{role}", role=role))


class Night:
    """Plays rows against running services, and compares what came of each."""

    def __init__(self, client: httpx.AsyncClient, tokens: SampleTokens, system: SampleSystem) -> None:
        self._client, self._tokens, self._system = client, tokens, system
        self._admin, self._desk = tokens.role_header("admin"), tokens.role_header("desk")
        self._comparison = Comparison()
        self._incident_of_report: dict[str, str] = {}
        self._own_id: dict[str, str] = {}
        """Our id of each report, by the sample's."""
        self._result = NightResult()
        self._kinds: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "report": self._send_report,
            "acknowledge": self._acknowledge,
            "command": self._send_command,
            "deadlines": self._look_at_incident,
            "directory": self._change_directory,
        }

    async def play(self, sample: Sequence[dict[str, Any]], progress: Callable[[], None]) -> NightResult:
        """Play all rows. Calls `progress` after each."""
        for row in sample:
            await self._move_clock(datetime.fromisoformat(row["at"]))
            self._comparison.compare(row, await self._play(row))
            self._result.rows += 1
            progress()
        await self._system.settle()
        await self._sum_up()
        return self._result

    async def _play(self, row: dict[str, Any]) -> dict[str, Any]:
        """What came of the row, by the names of what it expects."""
        if row.get("report_id", "") not in {"", *self._incident_of_report}:
            return {"status": f"no incident has report {row['report_id']}"}
        return await self._kinds[row["kind"]](row)

    async def _move_clock(self, at: datetime) -> None:
        """Move to `at`, and stop at each due time before it, so that everything falls due in its order."""
        clock = self._system.clock
        if at - clock.now() > A_MOMENT:
            await self._system.settle()
        while (due := await self._system.next_due_at()) is not None and due <= at:
            clock.set(due)
            await self._system.settle()
        clock.set(at)

    async def _send_report(self, row: dict[str, Any]) -> dict[str, Any]:
        body = row["report"] | {"received_at": row["at"], "on_behalf_of": row["as"]}
        answer = await self._client.post("/intake/v1/reports", json=body, headers=self._admin)
        content = answer.json()
        found: dict[str, Any] = {"status": answer.status_code}
        found["outcome"] = content.get("outcome", {409: "conflict"}.get(answer.status_code, "rejected"))
        self._result.outcomes[found["outcome"]] += 1
        if answer.status_code >= 400:
            errors = content.get("errors") or [{}]
            return found | {"candidates": [c["name"] for c in errors[0].get("candidates", [])], "told": []}
        incident = await self._wait_routed(content["receipt"])
        if answer.status_code == 201:
            self._incident_of_report[row["report"]["report_id"]] = incident["id"]
            self._result.reports += not row["report"].get("exercise", False)
        seen = self._comparison.observe(await self._incident(incident["id"]), row)
        return seen | found | {"incident": incident["id"], "routed": incident["outcome"]}

    async def _wait_routed(self, receipt: str) -> dict[str, Any]:
        """The incident that the report came to, from its receipt."""
        async with asyncio.timeout(ROUTED_WITHIN_SECONDS):
            while True:
                answer = await self._client.get(f"/intake/v1/receipts/{receipt}")
                if incident := answer.raise_for_status().json().get("incident"):
                    return incident
                await asyncio.sleep(POLL_SECONDS)

    async def _acknowledge(self, row: dict[str, Any]) -> dict[str, Any]:
        return await self._post(row, "acknowledgements", None)

    async def _send_command(self, row: dict[str, Any]) -> dict[str, Any]:
        body = dict(row["body"])
        if "into" in body:
            body["into"] = self._incident_of_report.get(body["into"], "")
        if "reports" in body:
            body["reports"] = [self._own_id.get(report_id, report_id) for report_id in body["reports"]]
        found = await self._post(row, row["command"], body)
        if found["status"] == 201 and row["command"] in {"merges", "splits"}:
            await self._follow_reports(body.get("into") or found["new_incident"])
        return found

    async def _post(self, row: dict[str, Any], route: str, body: dict[str, Any] | None) -> dict[str, Any]:
        incident_id = self._incident_of_report[row["report_id"]]
        caller = self._tokens.header(Principal(**row["as"]))
        path = f"/escalation/v1/incidents/{incident_id}/{route}"
        answer = await self._client.post(path, json=body, headers=caller)
        found = {"status": answer.status_code}
        if answer.is_error:
            return found
        content = answer.json()
        if not set(row["expected"]) <= {"status", "state"}:
            found |= self._comparison.observe(await self._incident(incident_id), row)
        return found | {"state": content["state"], "new_incident": content.get("new_incident")}

    async def _follow_reports(self, incident_id: str) -> None:
        """Later rows that name a report of this incident mean this incident."""
        incident = await self._incident(incident_id)
        self._incident_of_report |= {r["report_id"]: incident_id for r in incident["reports"]}

    async def _look_at_incident(self, row: dict[str, Any]) -> dict[str, Any]:
        return self._comparison.observe(await self._incident(self._incident_of_report[row["report_id"]]), row)

    async def _change_directory(self, row: dict[str, Any]) -> dict[str, Any]:
        if "file" in row:
            return {"recorded": await self._system.import_file_midway(row["file"])}
        path = f"/escalation/v1/directory/{row['put']}"
        answer = await self._client.put(path, json={"rows": row["rows"]}, headers=self._admin)
        return {"status": answer.status_code, "recorded": answer.json().get("recorded")}

    async def _incident(self, incident_id: str) -> dict[str, Any]:
        answer = await self._client.get(f"/escalation/v1/incidents/{incident_id}", headers=self._desk)
        self._comparison.meet(incident_id)
        incident = answer.raise_for_status().json()
        self._own_id |= {r["report_id"]: r["id"] for r in incident["reports"]}
        return incident

    async def _sum_up(self) -> None:
        """Count what is no exercise, and find notices that no row expected."""
        for incident_id in self._comparison.incidents:
            incident = await self._incident(incident_id)
            self._comparison.compare_rest(incident)
            if not incident["exercise"]:
                self._result.incidents += 1
                self._result.decisions += len(incident["decisions"])
            self._result.notices |= {
                notice["notice_id"]
                for notice in incident["notices"]
                if notice["purpose"] in COUNTED_PURPOSES and not notice["exercise"]
            }
        self._result.differences = self._comparison.differences
