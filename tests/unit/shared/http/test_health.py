"""Readiness answers whatever happens, and the log tells when it changes."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from structlog.testing import capture_logs

from shared.http import health
from shared.http.health import Check, ask, logged

WELL = Check("relay", True)
ILL = Check("relay", False, "see the log")


async def test_checks_that_hang_are_answered_with_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.01)

    async def hang() -> Sequence[Check]:
        await asyncio.Event().wait()
        return [WELL]

    (found,) = await ask(hang)
    assert not found.ok
    assert "hangs" in found.detail


async def test_checks_that_raise_are_answered_with_not_ready() -> None:
    async def fail() -> Sequence[Check]:
        raise ConnectionRefusedError("postgresql://user:secret@host")

    (found,) = await ask(fail)
    assert not found.ok
    assert "secret" not in found.detail


async def test_the_log_tells_once_when_a_check_begins_to_fail_and_once_when_it_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "LOG_SECONDS", 0.001)
    asked = 0
    now = [WELL]

    async def checks() -> Sequence[Check]:
        nonlocal asked
        asked += 1
        return now

    async def until_asked_more() -> None:
        seen = asked
        await _until(lambda: asked >= seen + 3)

    with capture_logs() as lines:
        async with logged(checks):
            await until_asked_more()
            assert lines == []
            now[:] = [ILL]
            await until_asked_more()
            now[:] = [WELL]
            await until_asked_more()
    assert [(line["event"], line["log_level"]) for line in lines] == [("not ready", "warning"), ("ready again", "info")]
    assert lines[0]["detail"] == "see the log"


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the checks set no event
            await asyncio.sleep(0.001)
