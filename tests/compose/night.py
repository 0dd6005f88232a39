"""The sample night's reports through the entry of running containers, with escalation killed while they come in.

The clock is the real one, so an administrator's token says when each report came in. What must hold after: every
report that was accepted is routed, in exactly one incident, with each of its two events in the ledger once, and each
notice is in the outbox file of escalation's volume. Only the standard library: this runs outside the containers.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[2] / "samples" / "tet-night.ndjson"
SERVICES = ("intake", "escalation", "ledger")
PATIENCE_SECONDS = 120.0
UNROUTED = {422: "rejected", 409: "conflict", 403: "rejected"}


class Failure(Exception):
    """What was expected and what is, in one line."""


@dataclass(frozen=True)
class Answer:
    status: int
    content: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """The entry proxy at `url`. Tokens by role."""

    url: str
    tokens: Mapping[str, str]

    def get(self, path: str, role: str | None = None) -> Answer:
        return self._ask(urllib.request.Request(self.url + path), role)

    def post(self, path: str, body: Mapping[str, Any], role: str) -> Answer:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), method="POST")
        request.add_header("content-type", "application/json")
        return self._ask(request, role)

    def _ask(self, request: urllib.request.Request, role: str | None) -> Answer:
        if role is not None:
            request.add_header("authorization", f"Bearer {self.tokens[role]}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, json.load(answer))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.loads(error.read()))

    def items(self, path: str, role: str) -> Iterator[dict[str, Any]]:
        """All items of a list, page after page. Raises Failure when a page is refused."""
        query: dict[str, str] = {"limit": "100"}
        while True:
            answer = self.get(f"{path}{'&' if '?' in path else '?'}{urllib.parse.urlencode(query)}", role)
            if answer.status != 200:
                raise Failure(f"{path} answered {answer.status}: {answer.content.get('detail')}")
            yield from answer.content["items"]
            if answer.content["next"] is None:
                return
            query["cursor"] = answer.content["next"]


@dataclass
class Sent:
    """What the reports came to when they were sent: receipts by report id, and incident labels expected of them."""

    receipts: dict[str, str] = field(default_factory=dict[str, str])
    labels: dict[str, str] = field(default_factory=dict[str, str])
    outcomes: Counter[str] = field(default_factory=Counter[str])


def wait_until(what: str, missing: Callable[[], object]) -> None:
    """Until `missing` returns nothing. Raises Failure that shows what is missing still."""
    until = time.monotonic() + PATIENCE_SECONDS
    while left := missing():
        if time.monotonic() > until:
            raise Failure(f"{what}: after {PATIENCE_SECONDS:.0f} s still not so: {str(left)[:500]}")
        time.sleep(0.1)


def not_ready(entry: Entry) -> dict[str, Any]:
    answers = {name: entry.get(f"/{name}/readyz") for name in SERVICES}
    return {name: answer.content for name, answer in answers.items() if answer.status != 200}


def send(entry: Entry, rows: Sequence[dict[str, Any]], sent: Sent) -> None:
    """Raises Failure when a report is answered in another way than the sample says."""
    for row in rows:
        report, expected = row["report"], row["expected"]
        body = report | {"received_at": row["at"], "on_behalf_of": row["as"]}
        answer = entry.post("/intake/v1/reports", body, "admin")
        outcome = answer.content.get("outcome") or UNROUTED.get(answer.status)
        if (answer.status, outcome) != (expected["status"], expected["outcome"]):
            raise Failure(f"{row['at']} {row['case']}: {answer} should be {expected['status']} {expected['outcome']}")
        sent.outcomes[expected["outcome"]] += 1
        if answer.status == 201:
            sent.receipts[report["report_id"]] = answer.content["receipt"]
            sent.labels[report["report_id"]] = expected["incident"]


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout


def kill(container: str) -> None:
    """SIGKILL to all that the container's user runs in it: a crash, so that Docker's restart policy must answer.

    `docker kill` would not do: Docker takes it for the operator's wish and leaves the container down.
    """
    subprocess.run(["docker", "exec", container, "sh", "-c", "kill -9 -1"], check=False, capture_output=True)


def restarts(container: str) -> int:
    return int(docker("inspect", "-f", "{{.RestartCount}}", container))


def incidents_of(entry: Entry, sent: Sent) -> dict[str, str]:
    """Incident id by report id, from the public receipts, once all are routed."""
    found: dict[str, str] = {}

    def missing() -> list[str]:
        for report_id in sent.receipts.keys() - found.keys():
            answer = entry.get(f"/intake/v1/receipts/{sent.receipts[report_id]}")
            if incident := answer.content.get("incident"):
                found[report_id] = incident["id"]
        return sorted(sent.receipts.keys() - found.keys())

    wait_until("every accepted report is routed", missing)
    return found


def check_labels(sent: Sent, incident_of: Mapping[str, str]) -> None:
    """The same incidents as in the sample: one id a label, and one label an id."""
    pairs = {(sent.labels[report_id], incident) for report_id, incident in incident_of.items()}
    for side, name in ((0, "label"), (1, "incident")):
        twice = [value for value, count in Counter(pair[side] for pair in pairs).items() if count > 1]
        if twice:
            raise Failure(f"reports are not grouped as the sample says: {name} {twice} in {sorted(pairs)}")


def check_once(entry: Entry, incident_of: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Each report in the one incident that its receipt names. Returns notice ids and our report ids. Raises Failure."""
    routed: list[tuple[str, str]] = []
    own_ids: list[str] = []
    notices: list[str] = []
    for incident in list(entry.items("/escalation/v1/incidents", "desk")):
        whole = entry.get(f"/escalation/v1/incidents/{incident['id']}", "desk").content
        routed += [(report["report_id"], incident["id"]) for report in whole["reports"]]
        own_ids += [report["report_id"] for report in whole["reports"]]
        notices += [notice["notice_id"] for notice in whole["notices"]]
    if sorted(routed) != sorted(incident_of.items()):
        odd = Counter(routed)
        odd.subtract(incident_of.items())
        raise Failure(f"reports are not each in one incident: {[pair for pair, count in odd.items() if count]}")
    return notices, own_ids


def check_ledger(entry: Entry, report_ids: Sequence[str]) -> None:
    for kind in ("report.received", "report.correlated"):

        def odd(kind: str = kind) -> dict[str, int]:
            entries = entry.items(f"/ledger/v1/entries?kind={kind}", "auditor")
            count = Counter(e["body"]["data"]["report_id"] for e in entries)
            count.subtract(report_ids)
            return {report_id: surplus for report_id, surplus in count.items() if surplus}

        wait_until(f"one {kind} in the ledger for each report", odd)


def check_notices(container: str, notices: Sequence[str]) -> None:
    """Each notice at least once: one killed between the sending and the commit is sent again."""

    def untold() -> list[str]:
        lines = docker("exec", container, "cat", "/data/outbox.ndjson").splitlines()
        return sorted(set(notices) - {json.loads(line)["notice_id"] for line in lines})

    if not notices:
        raise Failure("no notice was issued at all")
    wait_until("each notice is in the outbox file", untold)


def run(entry: Entry, container: str) -> None:
    """Raises Failure."""
    wait_until("all services are ready", lambda: not_ready(entry))
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines() if line.strip()]
    reports = [row for row in rows if row["kind"] == "report"]
    sent, half, before = Sent(), len(reports) // 2, restarts(container)
    began = time.monotonic()
    send(entry, reports[:half], sent)
    kill(container)
    send(entry, reports[half:], sent)
    wait_until("escalation was started again", lambda: restarts(container) == before)
    incident_of = incidents_of(entry, sent)
    seconds = time.monotonic() - began
    check_labels(sent, incident_of)
    notices, own_ids = check_once(entry, incident_of)
    check_ledger(entry, own_ids)
    check_notices(container, notices)
    wait_until("all services are ready again", lambda: not_ready(entry))
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(sent.outcomes.items()))
    counts = f"{len(set(incident_of.values()))} incidents, {len(notices)} notices"
    sys.stdout.write(f"reports: {outcomes}; {counts}; all routed {seconds:.1f} s after the first, with one crash\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="address of the entry proxy")
    parser.add_argument("--container", required=True, help="id of escalation's container, which is killed midway")
    arguments = parser.parse_args()
    tokens = {role: os.environ[f"{role.upper()}_TOKEN"] for role in ("admin", "desk", "auditor")}
    try:
        run(Entry(arguments.url, tokens), arguments.container)
    except Failure as failure:
        sys.stderr.write(f"night.py: {failure}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
