"""What `trucban import reports` says became of the lines: recorded, known already, or refused."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from services.cli.send_reports import ATTEMPTS, SendTotals, send_reports

TOKEN = "e30.e30.e30"


def answers(monkeypatch: pytest.MonkeyPatch, *batches: Sequence[int]) -> None:
    """Each batch is answered with these statuses, one an item."""
    left = list(batches)

    def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        del transport
        statuses = left.pop(0)
        assert len(json.loads(request.content)) == len(statuses)
        problems = {503: {"problem": {"detail": "later"}}, 409: {"problem": {"detail": "another content"}}}
        results = [{"status": status} | problems.get(status, {}) for status in statuses]
        return httpx.Response(200, json={"results": results}, request=request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    monkeypatch.setattr(time, "sleep", _at_once)


def _at_once(_: float) -> None:
    """Waits for nothing."""


def _unseen(_done: int, _of: int) -> None:
    """Shows no progress."""


def sent(tmp_path: Path, count: int) -> SendTotals:
    file = tmp_path / "tin.ndjson"
    file.write_text("{}\n" * count, encoding="utf-8")
    return send_reports(str(file), "http://127.0.0.1:1", TOKEN, _unseen, keep_going=False)


def test_what_was_sent_before_is_known_and_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [201, 200, 409])
    done = sent(tmp_path, 3)
    assert (done.lines, done.recorded, done.known, len(done.errors)) == (3, 1, 1, 1)


def test_what_an_earlier_attempt_of_this_import_recorded_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, [201, 503, 200], [200, 201, 200])
    done = sent(tmp_path, 3)
    assert (done.lines, done.recorded, done.known, len(done.errors)) == (3, 2, 1, 0)


def test_an_import_waits_as_often_as_it_is_too_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = httpx.Response(200, json={"results": [{"report_id": "r", "status": 201}]})
    left = [*(httpx.Response(429, headers={"Retry-After": "7"}) for _ in range(ATTEMPTS + 2)), taken]
    waited: list[float] = []

    def answer(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        del request
        return left.pop(0)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    monkeypatch.setattr(time, "sleep", waited.append)
    assert sent(tmp_path, 1).recorded == 1
    assert waited == [7.0] * (ATTEMPTS + 2)
