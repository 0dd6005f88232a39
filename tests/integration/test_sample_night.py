"""One part of the sample, played and compared as `trucban up --demo` does with all of it; `make demo` is the whole."""

import io
import json
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from services.cli.all_services import build_all
from services.cli.demo import play
from services.cli.demo.sample import START, read_rows
from services.cli.demo.system import SampleSystem
from services.cli.embedded import Servers
from services.cli.infrastructure import migrate_all
from services.cli.process import listening_socket, serving
from shared.clock import Clock
from shared.settings import Settings
from tests.servers import new_database, new_redis

Rows = list[dict[str, Any]]
CLOSING_LINE = re.compile(
    r"demo: (\d+) reports, (\d+) incidents, (\d+) decisions, (\d+) notices delivered, ledger of (\d+) entries verified"
)


@pytest.fixture
def part() -> Rows:
    """The last part, after the one appointment of an earlier part that it needs: rows of every kind."""
    earlier = read_rows("after-tet")
    (appointment,) = (row for row in earlier if row["kind"] == "directory" and row["case"] == "late-appointment")
    return [appointment, *read_rows("units-2025")]


@dataclass(frozen=True)
class Played:
    code: int
    lines: Sequence[str]
    kept: dict[str, Any]

    @property
    def differences(self) -> list[str]:
        return [line.removeprefix("differs ") for line in self.lines if line.startswith("differs ")]


async def played(sample: Rows, servers: Servers, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    """On empty databases."""
    monkeypatch.setattr(play, "read_sample", lambda: sample)
    said = io.StringIO()
    async with running(servers, folder, Console(file=said, width=200)) as night:
        code = await play.play_sample(night, folder / "sample.json")
    return Played(code, said.getvalue().splitlines(), json.loads((folder / "sample.json").read_bytes()))


@asynccontextmanager
async def running(servers: Servers, folder: Path, console: Console) -> AsyncGenerator[SampleSystem]:
    given = {"database_url": await new_database(servers), "redis_url": await new_redis(servers)}
    settings = Settings().model_copy(update=given | {"data": folder, "keys": None})
    await migrate_all(settings)
    clock = Clock(START)
    services = build_all(settings, clock)
    sock = listening_socket("127.0.0.1", 0)
    address = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with serving(list(services), settings, sock):
        system = SampleSystem(settings, clock, services, address, console)
        try:
            yield system
        finally:
            await system.aclose()


async def test_a_part_that_comes_to_what_it_should_ends_with_its_line_and_exit_code_0(
    part: Rows, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {row["kind"] for row in part} == {"report", "acknowledge", "command", "deadlines", "directory"}
    done = await played(part, servers, tmp_path, monkeypatch)
    assert (done.code, done.kept, done.differences) == (0, {"code": 0}, [])
    *_, summary, last = done.lines
    assert re.fullmatch(rf"{len(part)} rows played: reports .*; 0 differences", summary)
    found = CLOSING_LINE.fullmatch(last)
    assert found, f"the closing line is {last!r}"
    assert all(int(figure) > 0 for figure in found.groups())


async def test_whatever_comes_to_something_else_is_named_and_the_exit_code_is_1(
    part: Rows, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = ("merged-into-one-that-goes-on", "ward-of-another-time")
    begun = [row for row in part if row["case"] not in late][:11]
    _, units, _, fire, seen, _, shots, *_, fire_goes_over, shots_go_over = begun
    units["expected"]["recorded"] = 42
    fire["expected"] |= {"status": 200, "told": ["party_secretary"]}
    seen["expected"]["state"] = "acknowledged"
    shots["expected"]["incident"] = one = fire["expected"]["incident"]
    del fire_goes_over["expected"]["told"]
    told = shots_go_over["expected"]["told"]
    shots_go_over["expected"]["told"] = []
    done = await played(begun, servers, tmp_path, monkeypatch)
    assert (done.code, done.kept) == (1, {"code": 1})
    assert done.differences == [
        differs(units, "recorded should be 42 and is 43"),
        differs(fire, "status should be 200 and is 201"),
        differs(fire, "told should be ['party_secretary'] and is ['chair', 'party_secretary']"),
        differs(seen, "state should be 'acknowledged' and is 'notified'"),
        differs(shots, f"incident should be {one!r} and is 'another incident than the earlier {one}'"),
        differs(shots_go_over, f"told should be [] and is {told}"),
        f"{one}: no row expects ['chair', 'party_secretary']",
    ]
    assert done.lines[-2].endswith("; 7 differences")
    assert CLOSING_LINE.fullmatch(done.lines[-1])


def differs(row: dict[str, Any], how: str) -> str:
    return f"{row['at']} {row['case']}: {how} ({row['why']})"
