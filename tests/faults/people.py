"""People at work while faults happen: post-holders and offices that acknowledge, a desk that acts, an administrator.

Each says what they have to say until they have an answer. Two never act on the same incident at once, so that what is
said again is the same, and recorded once.
"""

import asyncio
from collections import Counter
from datetime import datetime
from random import Random
from typing import Any

import httpx

from shared.clock import local
from shared.http.identity import Principal
from tests.faults.asking import Asking, pause
from tests.faults.city import ADMINISTRATOR, DESK, LEADER, OFFICIALS, changes_of_hands
from tests.faults.stack import House

API = "escalation/v1"
ACKNOWLEDGERS = 4
COMMANDERS = 4
NOT_THEIRS = {403, 404, 409}
"""Answers to what was not theirs to do, or not any more."""
FINAL = {"closed", "dismissed", "handed_off"}
STATES = (*("received", "notified", "acknowledged", "responding") * 2, *sorted(FINAL))


class People:
    """`acknowledged` and `said` hold only what was answered with success."""

    def __init__(self, house: House, random: Random, stop: asyncio.Event, asking: Asking) -> None:
        self.acknowledged: dict[str, datetime] = {}
        """When, by the clocks of escalation, somebody had heard that this notice is acknowledged."""
        self.said: set[str] = set()
        """Reasons of commands, each given once."""
        self.refused: list[str] = []
        """Answers that no fault explains."""
        self.answers: Counter[tuple[str, int]] = Counter()
        self._house, self._random, self._stop, self._asking = house, random, stop, asking
        self._busy: set[str] = set()
        self._number = 0

    def start(self, group: asyncio.TaskGroup, client: httpx.AsyncClient) -> None:
        for _ in range(ACKNOWLEDGERS):
            group.create_task(self._acknowledge(client))
        for _ in range(COMMANDERS):
            group.create_task(self._command(client))
        group.create_task(self._change_hands(client))

    # --- acknowledging ---

    async def _acknowledge(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            await pause(self._random, 0.1, 1.0)
            caller = self._random.choice([*OFFICIALS, DESK, LEADER])
            found = await self._listed(client, caller, "notified")
            if not found:
                continue
            path = f"incidents/{self._random.choice(found)['id']}/acknowledgements"
            answer = await self._until_answered(client, "POST", path, caller, None)
            if answer.is_success:
                now = self._house.now()
                for notice_id in answer.json()["acknowledged"]:
                    self.acknowledged.setdefault(notice_id, now)

    # --- commands ---

    async def _command(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            await pause(self._random, 0.1, 1.0)
            state = self._random.choice(STATES)
            found = [i for i in await self._listed(client, DESK, state) if i["id"] not in self._busy]
            if not found:
                continue
            about = self._random.choice(found)
            alike = [i for i in found if _may_be_one(i, about)]
            busy = {i["id"] for i in (about, *alike[:1])}
            self._busy |= busy
            try:
                await self._say(client, about, alike[:1])
            finally:
                self._busy -= busy

    async def _say(self, client: httpx.AsyncClient, about: dict[str, Any], alike: list[dict[str, Any]]) -> None:
        self._number += 1
        reason = f"lệnh {self._number}"
        caller, name, body = await self._something(client, about, alike)
        path = f"incidents/{about['id']}/{name}"
        answer = await self._until_answered(client, "POST", path, caller, body | {_reason(name): reason})
        if answer.is_success:
            self.said.add(reason)

    async def _something(
        self, client: httpx.AsyncClient, about: dict[str, Any], alike: list[dict[str, Any]]
    ) -> tuple[Principal, str, dict[str, Any]]:
        if about["state"] in FINAL:
            again = {"closed": "closures", "dismissed": "verifications", "handed_off": "handoffs"}[about["state"]]
            what = {"verifications": {"verdict": "false"}, "handoffs": {"to": "police"}}.get(again, {})
            stands = about["waits_for"] and self._random.random() < 0.5
            return (DESK, again, what) if stands else (DESK, "reopenings", {})
        of_ward = [o for o in OFFICIALS if o.ward == about["ward"]["code"]]
        official = self._random.choice(of_ward)
        choices: list[tuple[Principal, str, dict[str, Any]]] = [
            (DESK, "verifications", {"verdict": "confirmed", "firecrackers_exploded": self._random.random() < 0.5}),
            (DESK, "verifications", {"verdict": "confirmed"}),
            (DESK, "verifications", {"verdict": "false"}),
            (DESK, "designations", {"prominent": self._random.random() < 0.7}),
            (DESK, "severity", {"harm": {"deaths": self._random.choice((0, 1, 3)), "injured": 0, "property_vnd": 0}}),
            (DESK, "handoffs", {"to": "police"}),
            (DESK, "closures", {}),
            (DESK, "closures", {}),
            (official, "responses", {}),
            (official, "closure-proposals", {}),
        ]
        choices += [(DESK, "merges", {"into": other["id"]}) for other in alike]
        if reports := await self._some_reports(client, about["id"]):
            choices.append((DESK, "splits", {"reports": reports}))
        return self._random.choice(choices)

    async def _some_reports(self, client: httpx.AsyncClient, incident: str) -> list[str]:
        """Some of an incident's reports, not all."""
        answer = await self._asking.ask(client, "GET", f"{API}/incidents/{incident}", DESK)
        if answer is None:
            return []
        reports = [r["report_id"] for r in answer.json()["reports"]] if answer.is_success else []
        return reports[: len(reports) // 2]

    # --- the directory ---

    async def _change_hands(self, client: httpx.AsyncClient) -> None:
        changes = changes_of_hands(local(self._house.now()).date())
        while not self._stop.is_set():
            await pause(self._random, 0.5, 4.0)
            await self._until_answered(client, "PUT", "directory/tenures", ADMINISTRATOR, {"rows": next(changes)})

    # --- speaking ---

    async def _listed(self, client: httpx.AsyncClient, caller: Principal, state: str) -> list[dict[str, Any]]:
        query = {"state": state, "limit": "50"} | ({"ward": caller.ward} if caller.ward else {})
        answer = await self._asking.ask(client, "GET", f"{API}/incidents", DESK, params=query)
        return answer.json()["items"] if answer is not None and answer.is_success else []

    async def _until_answered(
        self, client: httpx.AsyncClient, method: str, path: str, caller: Principal, body: Any
    ) -> httpx.Response:
        """By whichever process answers, the same again until one does."""
        while True:
            answer = await self._asking.ask(client, method, f"{API}/{path}", caller, body)
            if answer is not None and answer.status_code < 500:
                break
            await asyncio.sleep(0.1)
        self.answers[path.rpartition("/")[2], answer.status_code] += 1
        if not answer.is_success and answer.status_code not in NOT_THEIRS:
            self.refused.append(f"{path} was answered {answer.status_code}: {answer.text[:300]}")
        return answer


def _reason(command: str) -> str:
    return "text" if command == "responses" else "reason"


def _may_be_one(one: dict[str, Any], other: dict[str, Any]) -> bool:
    same = one["ward"] == other["ward"] and one["exercise"] == other["exercise"]
    return same and one["id"] != other["id"]
