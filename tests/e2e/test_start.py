"""`trucban` started at a bad moment or with wrong settings: it waits and says so, or ends with one line."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from sqlalchemy import make_url

from services.cli.embedded import Servers
from services.cli.process import listening_socket
from services.cli.program import main
from shared.database import SERVICES, migrate
from tests.e2e import running
from tests.e2e.running import PATIENCE_SECONDS, TRUCBAN, Up, environment
from tests.servers import new_database, new_redis, url_of
from tests.support import passable_folder

START_SECONDS = 100
"""A start computes for six seconds, which a busy machine may stretch."""
pytestmark = pytest.mark.timeout(240)
ORIGIN = {"TRUCBAN_LEDGER_ORIGIN": "thanh-hoa.gov.vn/so-cai"}


@pytest.fixture
def folder() -> Generator[Path]:
    with passable_folder("start") as data:
        data.mkdir(mode=0o711)
        yield data


until = partial(running.until, seconds=START_SECONDS)


# --- up ---


def test_an_up_whose_postgres_is_killed_while_it_starts_goes_on_and_so_does_one_after_a_killed_one(
    folder: Path,
) -> None:
    """First `up` is killed in its first start, when servers run and keys and schemas are under way; then PostgreSQL is
    killed at the same moment of the next. tests/integration/test_embedded.py has the moments before."""
    addresses = folder / "addresses.json"
    command = [TRUCBAN, "up", "--no-sample", "--port", "0"]
    with subprocess.Popen(command, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as up:
        try:
            until(addresses.exists, "the servers run")
        finally:
            up.kill()
    addresses.unlink()

    def kill_postgres() -> None:
        until(addresses.exists, "the servers run again")
        os.kill(int((folder / "postgres" / "cluster" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill_postgres)
    killer.start()
    with Up(folder) as again:
        killer.join()
        assert httpx.get(f"{again.url}/healthz", timeout=10).status_code == 200
        assert addresses.stat().st_mode & 0o777 == 0o600, "it holds passwords"
        assert again.end(signal.SIGTERM) == 0


# --- serve ---


@contextmanager
def serving(service: str, settings: dict[str, str], said: Path) -> Generator[tuple["subprocess.Popen[bytes]", str]]:
    """The process, and where it will answer. What it says goes into the file `said`."""
    with listening_socket("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [TRUCBAN, "serve", service, "--port", str(port)]
    with said.open("wb") as output:
        process = subprocess.Popen(command, env=environment(said.parent / "data") | settings, stderr=output)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def schemas(servers: Servers) -> str:
    """The name of a database with the schemas and nothing in them."""
    url = asyncio.run(_migrated(servers))
    return str(make_url(url).database)


async def _migrated(servers: Servers) -> str:
    database_url = await new_database(servers)
    for service in SERVICES:
        await migrate(database_url, service)
    return database_url


@pytest.fixture
def migrated(servers: Servers, schemas: str) -> dict[str, str]:
    """Settings of a service on a database of its own."""
    return asyncio.run(_settings(servers, schemas))


async def _settings(servers: Servers, schemas: str) -> dict[str, str]:
    return {"DATABASE_URL": await new_database(servers, schemas), "REDIS_URL": await new_redis(servers)}


@pytest.mark.parametrize("service", ["escalation", "ledger"])
def test_a_service_started_before_its_database_waits_and_says_so(
    folder: Path, migrated: dict[str, str], service: str
) -> None:
    """The database comes: its socket is behind a link that is not there at first. Intake needs none to start."""
    url, link, said = make_url(migrated["DATABASE_URL"]), folder / "socket", folder / "said"
    away = migrated | {"DATABASE_URL": str(url.update_query_dict({"host": str(link)}))}
    with serving(service, away, said) as (process, address):
        until(lambda: _waits(said, service), "it says that it waits")
        assert process.poll() is None
        link.symlink_to(str(url.query["host"]))
        until(lambda: _answers(address), "it serves")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in said.read_text()


def test_a_service_that_waits_for_its_database_ends_on_a_signal(folder: Path, migrated: dict[str, str]) -> None:
    said = folder / "said"
    away = migrated | {"DATABASE_URL": "postgresql://trucban@127.0.0.1:1/trucban"}
    with serving("ledger", away, said) as (process, _):
        until(lambda: _waits(said, "ledger"), "it says that it waits")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in said.read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_serves_while_redis_is_away(folder: Path, migrated: dict[str, str], service: str) -> None:
    said = folder / "said"
    with serving(service, migrated | {"REDIS_URL": "redis://127.0.0.1:1/0"}, said) as (process, address):
        until(lambda: _answers(address), "it serves")
        assert httpx.get(f"{address}/readyz", timeout=PATIENCE_SECONDS).status_code == 503
        until(lambda: any(line.get("check") == f"{service}.broker" for line in _log(said)), "the log says why")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in said.read_text()


def _waits(said: Path, service: str) -> bool:
    return any(line["event"] == f"start of {service} waits" for line in _log(said))


def _log(said: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.read_text().splitlines() if line.startswith("{") and line.endswith("}")]


def _answers(address: str) -> bool:
    asking = HTTPConnection(address.removeprefix("http://"), timeout=5)  # httpx would compute for 20 ms each time
    try:
        asking.request("GET", "/healthz")
        return asking.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        asking.close()


# --- one line ---


Ended = Callable[..., str]


@pytest.fixture
def ended(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Generator[Ended]:
    """Serves a service until it ends, with an exit code, and tells the one line on standard error, after lines of the
    log. In this process: a start of another would import for a second what is here."""

    def serve(service: str, settings: dict[str, str], code: int = 1) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", environment(folder / "data") | settings)
            patch.setattr(sys, "argv", ["trucban", "serve", service, "--port", "0"])
            with pytest.raises(SystemExit) as end:
                main()
        err = capfd.readouterr().err
        assert end.value.code == code, (end.value.code, err)
        said = [line for line in err.splitlines() if not line.startswith("{")]
        assert len(said) == 1, err
        return said[0]

    yield serve
    structlog.reset_defaults()  # the command's log goes to a stream that is closed by now


def test_a_database_that_is_not_migrated_is_said_with_the_command(ended: Ended, servers: Servers) -> None:
    settings = {"DATABASE_URL": asyncio.run(new_database(servers)), "REDIS_URL": servers.redis_url}
    for service in ("escalation", "ledger"):
        assert ended(service, settings).endswith(": run trucban migrate")


def test_a_database_that_there_is_not_is_named(ended: Ended, servers: Servers) -> None:
    settings = {"DATABASE_URL": url_of(servers, "nowhere"), "REDIS_URL": servers.redis_url}
    said = ended("ledger", settings)
    assert 'database "nowhere" does not exist' in said
    assert "check DATABASE_URL" in said


def test_a_role_that_there_is_not_is_named(ended: Ended, migrated: dict[str, str]) -> None:
    settings = migrated | {"DATABASE_URL": migrated["DATABASE_URL"].replace("trucban@", "somebody@")}
    said = ended("escalation", settings)
    assert "somebody" in said
    assert "check DATABASE_URL" in said


def test_a_ledger_under_another_name_is_not_continued(ended: Ended, folder: Path, migrated: dict[str, str]) -> None:
    with serving("ledger", migrated, folder / "said") as (_, address):
        until(lambda: _answers(address), "it serves")
    said = ended("ledger", migrated | ORIGIN)
    assert "the stored log is not 'thanh-hoa.gov.vn/so-cai'" in said
    assert "TRUCBAN_LEDGER_ORIGIN" in said


def test_a_name_that_no_ledger_may_have_is_said(ended: Ended, migrated: dict[str, str]) -> None:
    said = ended("ledger", migrated | {"TRUCBAN_LEDGER_ORIGIN": "two words"}, code=2)
    assert "TRUCBAN_LEDGER_ORIGIN" in said


def test_a_keys_folder_that_cannot_be_used_is_named(ended: Ended, folder: Path, migrated: dict[str, str]) -> None:
    (folder / "keys").write_text("no folder")
    said = ended("intake", migrated | {"TRUCBAN_KEYS": str(folder / "keys")})
    assert str(folder / "keys") in said
