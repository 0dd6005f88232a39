"""An import that is too fast for its credential waits as long as it is told, and goes on."""

import json
from pathlib import Path

import httpx
import pytest

from services.cli import send_reports
from services.cli.send_reports import ATTEMPTS


def test_an_import_waits_as_often_as_it_is_too_fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taken = httpx.Response(200, json={"results": [{"report_id": "r", "status": 201}]})
    answers = [*(httpx.Response(429, headers={"Retry-After": "7"}) for _ in range(ATTEMPTS + 2)), taken]
    waited: list[float] = []

    def answer(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        return answers.pop(0)

    def progress(done: int, total: int) -> None:
        pass

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    monkeypatch.setattr(send_reports.time, "sleep", waited.append)
    file = tmp_path / "reports.ndjson"
    file.write_text(json.dumps({"report_id": "r"}), encoding="utf-8")
    done = send_reports.send_reports(str(file), "http://127.0.0.1:1", "token", progress, keep_going=False)
    assert done.recorded == 1
    assert waited == [7.0] * (ATTEMPTS + 2)
