"""`trucban up` runs each service as a process of its own: one that dies or hangs holds up no other."""

import json
import os
import signal
from collections.abc import Generator

import httpx
import pytest

from shared.database import SERVICES
from shared.http.identity import Principal, Role, issuer
from tests.e2e.running import PATIENCE_SECONDS, Up, alive, trucban, until
from tests.support import SAMPLES, passable_folder

pytestmark = pytest.mark.timeout(240)
BATCH_BYTES = 5_000_000
REPORT = {"category": "FIRE", "ward": "Ba Đình", "occurred_at": "2023-01-21T23:50:00+07:00"}


@pytest.fixture(scope="module")
def up() -> Generator[Up]:
    with passable_folder("processes") as data, Up(data) as up:
        assert trucban(data, "import", "wards", SAMPLES / "wards.csv").returncode == 0
        up.until_ready()
        yield up


@pytest.fixture
def ready(up: Up) -> Up:
    up.until_ready()
    return up


def token(up: Up, role: Role) -> dict[str, str]:
    return {"authorization": f"Bearer {issuer(up.data / 'keys').issue(Principal(f'thu-{role}', role), days=1)}"}


def failing(up: Up) -> set[str]:
    """The names of the checks that fail; 503 exactly if there are any."""
    answer = httpx.get(f"{up.url}/readyz", timeout=PATIENCE_SECONDS)
    found = {check["name"] for check in answer.json()["checks"] if not check["ok"]}
    assert answer.status_code == (503 if found else 200)
    return found


def is_refused(answer: httpx.Response, service: str) -> bool:
    if answer.status_code != 503:
        return False
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    return answer.json()["detail"].startswith(f"{service} ")


def test_a_killed_service_is_named_and_started_again(ready: Up) -> None:
    killed = ready.service_pid("ledger")
    os.kill(killed, signal.SIGKILL)
    until(lambda: is_refused(httpx.get(f"{ready.url}/ledger/healthz", timeout=20), "ledger"), "the ledger is refused")
    assert failing(ready) == {"ledger.process"}
    assert httpx.get(f"{ready.url}/intake/healthz", timeout=20).status_code == 200
    ready.until_ready()
    assert ready.service_pid("ledger") != killed
    assert httpx.get(f"{ready.url}/ledger/v1/checkpoint", timeout=20).status_code == 200


def test_a_frozen_service_holds_up_no_other_and_is_named(ready: Up) -> None:
    pid = ready.service_pid("escalation")
    os.kill(pid, signal.SIGSTOP)
    try:
        for path in ("/healthz", "/intake/healthz", "/ledger/healthz", "/intake/v1/wards?q=Ba"):
            assert httpx.get(f"{ready.url}{path}", timeout=20).status_code == 200
        waiting = httpx.get(f"{ready.url}/escalation/healthz", timeout=PATIENCE_SECONDS)
        assert is_refused(waiting, "escalation"), "it waits for ever"
        assert failing(ready) == {"escalation.process"}
    finally:
        os.kill(pid, signal.SIGCONT)
    ready.until_ready()
    assert ready.service_pid("escalation") == pid


def test_events_pass_through_as_they_come(ready: Up) -> None:
    desk = token(ready, "desk")
    report = {
        "report_id": "dong-su-kien",
        "category": "FIRE",
        "ward": "Ba Đình",
        "occurred_at": "2023-01-21T23:50:00+07:00",
    }
    with httpx.stream("GET", f"{ready.url}/escalation/v1/stream", headers=desk, timeout=PATIENCE_SECONDS) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry: ")
        assert listeners(ready) == 1
        sent = httpx.post(f"{ready.url}/intake/v1/reports", json=report, headers=desk, timeout=20)
        assert sent.status_code == 201
        assert any("incident.opened" in line for line in lines if line.startswith("data: "))
    until(lambda: listeners(ready) == 0, "the service notices that the client has gone")


def listeners(up: Up) -> float:
    text = httpx.get(f"{up.url}/metrics", timeout=20).raise_for_status().text
    line = next(li for li in text.splitlines() if li.startswith('trucban_stream_listeners{process="escalation"}'))
    return float(line.rpartition(" ")[2])


def test_a_batch_of_five_megabytes_passes_and_a_larger_one_is_refused_by_intake(ready: Up) -> None:
    device, url = token(ready, "device"), f"{ready.url}/intake/v1/reports:batch"
    content = json.dumps([REPORT | {"report_id": f"lon-{i}"} for i in range(100)]).encode().ljust(BATCH_BYTES)
    taken = httpx.post(url, content=content, headers=device, timeout=PATIENCE_SECONDS)
    assert taken.json()["accepted"] == 100
    refused = httpx.post(url, content=content + b" ", headers=device, timeout=PATIENCE_SECONDS)
    assert (refused.status_code, str(BATCH_BYTES) in refused.json()["detail"]) == (413, True)


@pytest.mark.parametrize("path", ["/metrics", "/intake/metrics"])
def test_metrics_are_for_this_machine_also_behind_a_proxy_on_it(up: Up, path: str) -> None:
    assert httpx.get(f"{up.url}{path}", timeout=20).status_code == 200
    proxied = {"X-Forwarded-For": "203.0.113.7"}
    assert httpx.get(f"{up.url}{path}", headers=proxied, timeout=20).status_code == 401


def test_metrics_are_those_of_every_process(ready: Up) -> None:
    text = httpx.get(f"{ready.url}/metrics", timeout=20).text
    for process in ("front", *SERVICES):
        assert f'trucban_event_loop_blocked_seconds{{process="{process}"}}' in text


def test_a_service_that_cannot_start_ends_up_with_its_one_line() -> None:
    with passable_folder("processes") as data:
        (data / "keys").mkdir(mode=0o711, parents=True)
        (data / "keys" / "content.key").write_bytes(b"short")
        done = trucban(data, "up", "--no-sample", "--port", "0")
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert done.returncode == 1
    assert len(said) == 1, done.stderr
    assert "content.key has 5 bytes" in said[0]


def test_an_interrupt_ends_every_process_in_order(ready: Up) -> None:
    """As Ctrl-C does. The last test of this file: it ends the system that the others share."""
    children = ready.children()
    assert ready.end(signal.SIGINT) == 0
    assert not alive(children)
