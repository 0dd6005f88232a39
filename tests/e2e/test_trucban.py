"""`trucban` from outside: starting and stopping, and what each command says and returns."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cli.process import listening_socket
from shared.http.identity import Principal, Role, issuer
from tests.e2e.running import PATIENCE_SECONDS, Up, alive, trucban
from tests.support import SAMPLES, passable_folder

REPORT = {"category": "FIRE", "ward": "Ba Đình", "occurred_at": "2023-01-21T23:50:00+07:00"}


@pytest.fixture
def folder() -> Generator[Path]:
    with passable_folder("e2e") as data:
        yield data


@dataclass(frozen=True)
class System:
    """A running system that knows the wards of January 2023 and their sample post-holders."""

    up: Up

    @property
    def data(self) -> Path:
        return self.up.data

    def token(self, role: Role) -> str:
        return issuer(self.data / "keys").issue(Principal(f"thu-{role}", role), days=1)

    def get(self, path: str, role: Role) -> httpx.Response:
        header = {"authorization": f"Bearer {self.token(role)}"}
        return httpx.get(f"{self.up.url}{path}", headers=header, timeout=30).raise_for_status()


@pytest.fixture(scope="module")
def system() -> Generator[System]:
    with passable_folder("e2e") as data, Up(data) as up:
        for kind in ("wards", "directory"):
            done = trucban(data, "import", kind, SAMPLES / f"{kind}.csv")
            assert done.returncode == 0, f"import of {kind}: {done.stderr}"
        up.until_ready()
        yield System(up)


@pytest.fixture(scope="module")
def desk(system: System) -> str:
    """A token of the city duty desk, as an administrator issues it."""
    done = trucban(system.data, "token", "issue", "--role", "desk", "--subject", "truc-ban")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_busy_port_is_one_clear_line(folder: Path) -> None:
    with closing(listening_socket("127.0.0.1", 0)) as busy:
        busy.listen()
        port = busy.getsockname()[1]
        done = trucban(folder, "up", "--no-sample", "--port", str(port))
    assert_failed_with_one_line(done.returncode, done.stderr, f"port {port}", "--port")


def test_a_second_up_on_one_data_folder_is_one_clear_line(system: System) -> None:
    done = trucban(system.data, "up", "--no-sample", "--port", "0")
    assert_failed_with_one_line(done.returncode, done.stderr, str(system.data), str(system.up.pid), "TRUCBAN_DATA")


def test_one_report_prints_its_receipt(system: System, desk: str) -> None:
    """The receipt leads to what became of the report; the same id with other content is refused."""
    arguments = (
        "report",
        "--url",
        system.up.url,
        "--token",
        desk,
        "--report-id",
        "tu-dong-lenh-1",
        "--ward",
        "Ba Đình",
    )
    arguments = (*arguments, "--category", "FIRE", "--occurred-at", "2023-01-21T23:50:00+07:00")
    done = trucban(system.data, *arguments, "--deaths", "1")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["report_id"], answer["outcome"]) == ("tu-dong-lenh-1", "accepted")
    receipt = httpx.get(f"{system.up.url}/intake/v1/receipts/{answer['receipt']}", timeout=30).json()
    assert receipt["state"] in {"accepted", "routed"}
    refused = trucban(system.data, *arguments, "--deaths", "2")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["status"] == 409


def test_reports_from_standard_input_are_all_or_the_good_ones(system: System, desk: str) -> None:
    """One bad line: nothing is sent, and the line is named; with --keep-going the good ones are."""
    strange = "hai dòng\u2028trong một chuỗi"  # a line end to some, and not to NDJSON
    reports = [REPORT | {"report_id": f"tu-tep-{number}", "description": strange} for number in range(3)]
    lines = [json.dumps(report, ensure_ascii=False) for report in reports]
    lines.insert(1, '{"report_id": "tu-tep-hong", ')
    arguments = ("import", "reports", "-", "--url", system.up.url, "--token", desk)

    refused = trucban(system.data, *arguments, stdin="\n".join(lines))
    assert refused.returncode == 1
    assert "-:2: not JSON" in refused.stderr
    assert "4 lines, 0 recorded, 1 with errors" in refused.stdout
    assert known_reports(system, "tu-tep-") == set(), "nothing is sent when a line is bad"

    taken = trucban(system.data, *arguments, "--keep-going", "--json", stdin="\n".join(lines))
    assert taken.returncode == 1, "a line was not taken"
    summary = json.loads(taken.stdout)
    assert (summary["lines"], summary["recorded"]) == (4, 3)
    assert [error["line"] for error in summary["errors"]] == [2]
    again = trucban(system.data, *arguments, stdin="\n".join(line for line in lines if line != lines[1]))
    assert again.returncode == 0, f"an import is safe to repeat: {again.stderr}"
    assert "3 lines, 0 recorded, 3 known already, 0 with errors" in again.stdout


def known_reports(system: System, prefix: str) -> set[str]:
    """Ids of reports, as far as the ledger has them."""
    page: dict[str, Any] = system.get("/ledger/v1/entries?kind=report.received&limit=500", "auditor").json()
    ids = {item["body"]["data"]["report_id"] for item in page["items"]}
    return {id_ for id_ in ids if id_.startswith(prefix)}


def test_an_export_with_one_byte_changed_does_not_verify(system: System, tmp_path: Path) -> None:
    """At the source it verifies; of the changed copy the entry is named."""
    vkey = trucban(system.data, "ledger", "key").stdout.strip()
    verify = ("ledger", "verify", "--key", vkey)
    token = system.token("auditor")
    whole = trucban(system.data, *verify, "--token", token, system.up.url)
    assert whole.returncode == 0, whole.stderr
    assert re.search(r"ledger of \d+ entries verified", whole.stdout)

    export = system.get("/ledger/v1/export", "auditor").content
    lines = export.splitlines(keepends=True)
    changed = next(number for number, line in enumerate(lines) if "Ba Đình".encode() in line)
    lines[changed] = lines[changed].replace("Ba Đình".encode(), "Ba Đinh".encode(), 1)
    copy = tmp_path / "export.ndjson"
    copy.write_bytes(b"".join(lines))
    found = trucban(system.data, *verify, copy)
    assert found.returncode == 1
    assert f"entry {changed - 1}" in found.stderr, "the header is line 0, so entries are numbered one less"
    assert "NOT verified" in found.stdout


def test_a_kill_loses_nothing_and_a_signal_ends_it_in_order(system: System) -> None:
    """SIGKILL and SIGTERM leave no process behind, also where one is frozen; the next start takes over.

    The last test of this file: it ends the system that the others share.
    """
    killed, token = system.up, system.token("desk")
    children = killed.children()
    assert len(children) >= 5, "redis-server, the postmaster and three services at least"
    os.kill(killed.service_pid("ledger"), signal.SIGSTOP)
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    until_ended(children)
    with Up(system.data) as again:
        header = {"authorization": f"Bearer {token}"}
        known = httpx.get(f"{again.url}/escalation/v1/rulebooks", headers=header, timeout=30).json()["items"]
        assert [book["version"] for book in known] == ["2023-01-06", "2023-01-06.1"], (
            "what was committed before the kill"
        )
        children = again.children()
        assert again.end(signal.SIGTERM) == 0
        assert not alive(children), "left behind by SIGTERM"


def until_ended(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while alive(pids):
        assert time.monotonic() < deadline, f"left behind: {alive(pids)}"
        threading.Event().wait(0.01)


def assert_failed_with_one_line(code: int, said: str, *names: str) -> None:
    assert code == 1
    lines = [line for line in said.splitlines() if line.startswith("trucban:")]
    assert len(lines) == 1, f"expected one line, and it said: {said}"
    assert "Traceback" not in said
    for name in names:
        assert name in lines[0], f"{name} is not named in: {lines[0]}"
