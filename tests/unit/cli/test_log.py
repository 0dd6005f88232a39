"""`TRUCBAN_LOG_LEVEL` decides from which level on a process says something."""

import logging
from collections.abc import Generator
from pathlib import Path

import orjson
import pytest
import structlog

from services.cli.log import start_log
from services.cli.options import read_settings
from services.cli.process import listening_socket, serving
from shared.http.identity import issuer
from shared.settings import Settings

LEVELS = ("debug", "info", "warning", "error")


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    """Each test reads its own settings; the log goes to a stream that is closed after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRUCBAN_LOG_LEVEL", raising=False)
    yield
    structlog.reset_defaults()


def said_at_each_level(capsys: pytest.CaptureFixture[str]) -> tuple[str, ...]:
    log = structlog.get_logger()
    for level in LEVELS:
        getattr(log, level)("something", number=1)
    told = capsys.readouterr()
    assert told.out == ""
    lines = [orjson.loads(line) for line in told.err.splitlines()]
    assert all(line["event"] == "something" and line["number"] == 1 for line in lines)
    return tuple(line["level"] for line in lines)


def test_before_the_settings_are_read_the_log_begins_at_info(capsys: pytest.CaptureFixture[str]) -> None:
    start_log()
    assert said_at_each_level(capsys) == LEVELS[1:]


@pytest.mark.parametrize("level", LEVELS)
def test_the_log_begins_at_the_level_that_is_set(
    level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start_log()
    monkeypatch.setenv("TRUCBAN_LOG_LEVEL", level)
    read_settings()
    assert said_at_each_level(capsys) == LEVELS[LEVELS.index(level) :]


def test_a_level_in_the_file_of_settings_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_log()
    (tmp_path / ".env").write_text("TRUCBAN_LOG_LEVEL=error\n", encoding="utf-8")
    read_settings()
    assert said_at_each_level(capsys) == ("error",)


@pytest.mark.parametrize(
    ("level", "of_uvicorn"), [("debug", "DEBUG"), ("info", "WARNING"), ("warning", "WARNING"), ("error", "ERROR")]
)
async def test_uvicorn_follows_and_tells_of_its_start_at_debug_only(
    level: str,
    of_uvicorn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRUCBAN_LOG_LEVEL", level)
    issuer(tmp_path)
    with listening_socket("127.0.0.1", 0) as sock:
        async with serving([], Settings(keys=tmp_path), sock):
            assert logging.getLogger("uvicorn.error").level == logging.getLevelNamesMapping()[of_uvicorn]
    told = capsys.readouterr().err
    assert ("Started server process" in told) is (level == "debug")
    assert level == "debug" or told == ""
