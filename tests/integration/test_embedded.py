# ruff: noqa: ASYNC240 - nothing else waits on this loop while a test looks at its files
"""The embedded servers keep what they acknowledged, whoever dies, and say in one line what is in the way."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from services.cli.embedded import EmbeddedError, embedded_servers, erase
from services.cli.embedded.account import Account
from services.cli.embedded.child import Child
from services.cli.embedded.data_folder import VAR_LIB, lock_data, open_data
from services.cli.embedded.postgres import Postgres, find_binaries
from services.cli.embedded.redis import Redis as RedisServer
from tests.integration.embedded_support import (
    Parent,
    clients,
    is_alive,
    is_running,
    read,
    read_once_back,
    wait_for,
    write,
)
from tests.support import passable_folder

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root runs PostgreSQL as another user")


@pytest.fixture
def folder() -> Generator[Path]:
    """A folder that every user can pass through, which pytest's own tmp_path is not."""
    made = Path(tempfile.mkdtemp(prefix="embedded-", dir="/tmp"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def data(folder: Path) -> Generator[Path]:
    yield folder / "var"
    erase(folder / "var")


@pytest.fixture(scope="module")
async def used() -> AsyncGenerator[Path]:
    """For what is not about a first start, which computes for a second: it is past in this folder."""
    with passable_folder("embedded") as data:
        async with embedded_servers(data):
            pass
        yield data


def ends_in_order(data: Path) -> int:
    """How often PostgreSQL ended in order so far."""
    return (data / "log" / "postgres.log").read_text().count("database system is shut down")


async def test_what_was_written_is_there_after_a_restart_that_is_quick(used: Path) -> None:
    async with embedded_servers(used) as servers:
        await write(servers, "pháo nổ")
        pids = [servers.redis_pid, servers.postgres_pid]
    assert not any(map(is_alive, pids)), "a server outlived its parent's block"
    began = time.monotonic()
    async with embedded_servers(used) as servers:
        seconds = time.monotonic() - began
        assert await read(servers) == ("pháo nổ", "pháo nổ")
    assert seconds < 5, "the second start was slow (0.1 s on an idle machine)"


async def test_the_servers_are_durable_and_open_no_port(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    async with embedded_servers(used) as servers, clients(servers) as (redis, postgres):
        settings = await redis.config_get("append*")
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "everysec")
        assert (await redis.config_get("port"))["port"] == "0"
        for setting, value in {"fsync": "on", "synchronous_commit": "on", "listen_addresses": ""}.items():
            assert await postgres.fetchval("SELECT current_setting($1)", setting) == value
        engine = create_async_engine(servers.database_url)
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT lower('ĐÔNG THỌ')")) == "đông thọ"
        await engine.dispose()


async def test_nobody_is_let_in_without_a_password_or_as_another_user(data: Path) -> None:
    async with embedded_servers(data) as servers:
        socket = servers.redis_url.rpartition("@")[2]
        stranger = Redis.from_url(f"unix://{socket}")
        with pytest.raises(RedisError, match="authenticated"):
            await stranger.get("note")
        await stranger.aclose()
        private = [*(data / "redis").glob("*.key"), data / "redis" / "users.acl"]
        assert len(private) == 5
        assert {path.stat().st_mode & 0o777 for path in private} == {0o600}


@as_root
async def test_a_cluster_of_before_that_trusted_everybody_goes_on_and_trusts_them_no_longer(data: Path) -> None:
    async with embedded_servers(data) as servers:
        await write(servers, "trước")
    cluster, psql = data / "postgres" / "cluster", find_binaries(Account.unprivileged()) / "psql"
    (cluster / "pg_hba.conf").write_text("local all all trust\n")
    async with embedded_servers(data) as servers:
        assert await read(servers) == ("trước", "trước")
        host = str(make_url(servers.database_url).query["host"])
        for role in ("trucban", "trucban_ledger"):
            done, said = Account.unprivileged().run(psql, "-h", host, "-U", role, "-c", "SELECT 1", "trucban")
            assert not done
            assert "Peer authentication failed" in said


async def test_the_servers_end_with_their_parent(used: Path) -> None:
    before = ends_in_order(used)
    for number in (signal.SIGINT, signal.SIGTERM):
        parent = Parent(used)
        _, pids = parent.up()
        parent.end(number)
        assert not any(map(is_alive, pids)), f"a server outlived its parent's {number.name}"
    assert ends_in_order(used) == before + 2


async def test_the_servers_end_by_themselves_when_their_parent_is_killed_and_the_next_start_has_its_data(
    used: Path,
) -> None:
    before = ends_in_order(used)
    parent = Parent(used)
    orphaned, pids = parent.up()
    await write(orphaned, "trước khi chết")
    parent.end(signal.SIGKILL)
    await asyncio.to_thread(wait_for, lambda: not any(map(is_alive, pids)), "the end of both servers")
    assert ends_in_order(used) == before + 1
    async with embedded_servers(used) as servers:
        assert servers.redis_url == orphaned.redis_url
        assert await read(servers) == ("trước khi chết", "trước khi chết")


async def test_a_start_ends_servers_that_were_left_behind_all_the_same(used: Path) -> None:
    """As a kernel without that signal leaves them, or a moment before it comes."""
    folder = open_data(used)
    left = [RedisServer(folder), Postgres(folder)]
    await asyncio.gather(*(child.start() for child in left))
    pids = [child.pid for child in left]
    async with embedded_servers(used) as servers:
        assert not any(map(is_alive, pids)), "two servers on one data folder"
        await write(servers, "sau đó")
    for child in left:
        await child.stop()


async def test_a_second_parent_is_refused_in_one_line_that_names_the_first(used: Path) -> None:
    async with embedded_servers(used) as servers:
        parent = Parent(used)
        assert parent.finish() == (
            f"data folder {used} is in use by process {os.getpid()}: stop it, or set TRUCBAN_DATA to another\n"
        )
        with pytest.raises(EmbeddedError, match="is in use by process"):
            erase(used)
        await write(servers, "still served")


async def test_a_killed_server_comes_back_with_what_it_acknowledged(used: Path) -> None:
    async with embedded_servers(used) as servers:
        await write(servers, "đã nhận")
        for victim in ("redis", "postgres"):
            killed = getattr(servers, f"{victim}_pid")
            os.kill(killed, signal.SIGKILL)
            await asyncio.to_thread(wait_for, lambda pid=killed: not is_alive(pid), f"the end of {victim}")
            assert await read_once_back(servers) == ("đã nhận", "đã nhận")
            assert getattr(servers, f"{victim}_pid") != killed


async def test_postgres_is_not_kept_waiting_by_a_query_that_outlives_its_postmaster(used: Path) -> None:
    async with embedded_servers(used) as servers:
        await write(servers, "đã nhận")
        async with clients(servers) as (_, postgres):
            query = asyncio.create_task(postgres.execute("DO 'BEGIN LOOP END LOOP; END'"))
            await is_running(servers, "DO %")
            os.kill(servers.postgres_pid, signal.SIGKILL)
            with pytest.raises((OSError, asyncpg.PostgresError)):
                await query
        assert await read_once_back(servers) == ("đã nhận", "đã nhận")


async def test_an_initdb_that_was_cut_off_is_done_again(data: Path) -> None:
    parent = Parent(data)
    wait_for(lambda: list(data.glob("postgres/initdb-*/base/1/PG_VERSION")), "a half-made database")
    parent.end(signal.SIGKILL)
    assert not (data / "postgres" / "cluster").exists(), "initdb was quicker than this test"
    async with embedded_servers(data, redis=False) as servers:
        assert servers.redis_url == ""
        assert not list(data.glob("postgres/initdb-*"))


@pytest.mark.parametrize("left", ["*", "postgres", "postgres/cluster", "postgres/cluster/postmaster.pid"])
async def test_a_parent_killed_at_any_moment_of_its_first_start_is_no_hindrance(data: Path, left: str) -> None:
    parent = Parent(data)
    await asyncio.to_thread(wait_for, lambda: list(data.glob(left)), left)
    parent.end(signal.SIGKILL)
    async with embedded_servers(data) as servers:
        await write(servers, "sau khi bị ngắt")


def test_what_a_killed_process_was_just_starting_holds_the_folder_only_for_a_moment(data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = os.open(data / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.write(lock, f"{dead.pid}\n".encode())
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(1)"], stdin=-1, pass_fds=[lock])
    os.close(lock)
    ending = threading.Timer(0.1, child.communicate)
    ending.start()
    with lock_data(data):
        assert child.wait() == 0
    ending.join()


async def test_a_postmaster_killed_before_it_wrote_its_number_is_no_hindrance(used: Path) -> None:
    async with embedded_servers(used, redis=False):
        pass
    (used / "postgres" / "cluster" / "postmaster.pid").touch()
    async with embedded_servers(used, redis=False) as servers:
        assert servers.database_url


@pytest.mark.parametrize("kind", [RedisServer, Postgres])
async def test_a_server_that_is_killed_while_it_starts_is_started_again(
    used: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Child]
) -> None:
    spawn, killed = kind.spawn, list[int]()

    def spawn_and_kill(child: Child) -> None:
        spawn(child)
        if len(killed) < 2:
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)

    monkeypatch.setattr(kind, "spawn", spawn_and_kill)
    async with embedded_servers(used) as servers:
        await write(servers, "lần thứ ba")
    assert len(killed) == 2


async def test_a_path_too_long_or_too_odd_for_a_socket_serves_all_the_same(folder: Path) -> None:
    data = folder / "công an phường, ca trực #1" / ("x" * 120) / "var"
    data.parent.mkdir(mode=0o711, parents=True)
    data.parent.parent.chmod(0o711)
    async with embedded_servers(data) as servers:
        await write(servers, "dài")
    async with embedded_servers(data) as again:
        assert again == servers, "the address changed"
        assert await read(again) == ("dài", "dài")
    sockets = [Path((data / f"{name}-socket").read_text()) for name in ("redis", "postgres")]
    assert [socket.stat().st_mode & 0o777 for socket in sockets] == [0o700, 0o700]
    erase(data)
    assert not any(socket.exists() for socket in sockets)


async def test_a_process_id_used_anew_by_another_program_does_not_hinder_the_start(used: Path) -> None:
    async with embedded_servers(used, redis=False):
        pid_file = used / "postgres" / "cluster" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    with Account.unprivileged().spawn(["/bin/sleep", "60"], subprocess.DEVNULL) as other:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]))
        async with embedded_servers(used, redis=False):
            assert other.poll() is None
        other.kill()


async def test_a_server_that_will_not_start_says_why_and_where_to_read(data: Path) -> None:
    async with embedded_servers(data) as servers:
        pids = [servers.redis_pid, servers.postgres_pid]
    (data / "redis" / "appendonly.aof").write_text("no such command\r\n")
    with pytest.raises(EmbeddedError, match=r"^redis did not start: .*Bad file format.*redis\.log\)$"):
        async with embedded_servers(data):
            pytest.fail("redis started on a broken file")
    assert not (data / "postgres" / "cluster" / "postmaster.pid").exists(), "the other server was left running"
    assert not any(map(is_alive, pids))


async def test_a_file_in_the_place_of_the_folder_is_named(folder: Path) -> None:
    (folder / "var").write_text("")
    with pytest.raises(EmbeddedError, match=r"var is a file: set TRUCBAN_DATA to a folder"):
        async with embedded_servers(folder / "var"):
            pytest.fail("a file served as a folder")


@as_root
async def test_root_keeps_the_database_elsewhere_when_nobody_cannot_reach_the_folder(folder: Path) -> None:
    folder.chmod(0o700)
    data = folder / "var"
    async with embedded_servers(data) as servers:
        await write(servers, "kín")
    kept = (data / "postgres").readlink()
    assert kept.parent.parent == VAR_LIB
    assert folder.stat().st_mode & 0o777 == 0o700, "a folder above the data was opened"

    data.rename(folder / "moved")
    async with embedded_servers(folder / "moved") as servers:
        assert await read(servers) == ("kín", "kín")
    shutil.copytree(folder / "moved", data, symlinks=True)
    with pytest.raises(EmbeddedError, match=r"leads to the database of .*moved"):
        async with embedded_servers(data):
            pytest.fail("two data folders shared one database")
    erase(folder / "moved")
    assert not kept.parent.exists()


@as_root
async def test_root_does_not_take_a_lost_way_to_the_database_for_a_first_start(data: Path) -> None:
    async with embedded_servers(data, redis=False):
        pass
    data.chmod(0o700)
    with pytest.raises(EmbeddedError, match=r"holds a database that uid \d+ can no longer reach"):
        async with embedded_servers(data, redis=False):
            pytest.fail("a new database hid the old one")
    data.chmod(0o711)


@as_root
async def test_an_ordinary_user_is_served_and_kept_apart_from_root(folder: Path) -> None:
    nobody = Account.unprivileged()
    environment = Path(asyncpg.__file__).parent.parent
    if not nobody.run("/bin/ls", environment)[0]:
        pytest.skip(f"nobody cannot reach the servers' binaries in {environment}")
    os.chown(folder, nobody.uid, nobody.gid)
    parent = Parent(folder / "var", nobody)
    servers, pids = parent.up()
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids} == {nobody.uid}
    assert (folder / "var").stat().st_mode & 0o777 == 0o700
    await write(servers, "người thường")
    parent.end(signal.SIGTERM)
    with pytest.raises(EmbeddedError, match=rf"belongs to uid {nobody.uid}, not to uid 0"):
        async with embedded_servers(folder / "var"):
            pytest.fail("root took over a user's folder")
