"""What the documents say can be done, done: the README's commands against a system that runs."""

import asyncio
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import orjson
import pytest

from services.cli.process import joined
from services.escalation.application.handlers import Escalation
from services.escalation.application.import_directory import import_directory, import_wards
from shared.clock import Clock
from shared.database import connect
from shared.settings import Settings
from tests.e2e.running import TRUCBAN, Up, environment
from tests.support import CHANNELS, SAMPLES, passable_folder

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.vi.md")
PAGES = [
    *READMES,
    "ARCHITECTURE.md",
    *sorted(f"docs/decisions/{p.name}" for p in (ROOT / "docs/decisions").glob("*.md")),
]
END_OF_THE_SAMPLE = "2023-01-29T20:00:00+07:00"
"""Where `make run` leaves the clock."""
READY_SECONDS = 60
_BLOCK = re.compile(r"(<!-- tested -->\n)?```sh\n(.*?)```", re.DOTALL)
_COMMENT = re.compile(r"[ \t]+# .*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    is_tested: bool
    commands: str


def blocks(readme: str) -> list[Block]:
    """The shell commands of a README, without their comments, which are in its own language."""
    found = _BLOCK.findall((ROOT / readme).read_text(encoding="utf-8"))
    return [Block(bool(mark), _COMMENT.sub("", text)) for mark, text in found]


@pytest.fixture(scope="module")
def empty() -> Iterator[Up]:
    """As after `make run`, but for what the sample brought: its clock is at the end of the sample."""
    with passable_folder("docs") as data, Up(data, {"TRUCBAN_CLOCK": END_OF_THE_SAMPLE}) as up:
        yield up
        up.end(signal.SIGINT)


@pytest.fixture(scope="module")
async def system(empty: Up) -> Up:
    """With the sample's wards and post-holders; imported here, for `trucban` would take seconds to start."""
    async with joined(Settings().model_copy(update={"data": empty.data})) as settings:
        assert settings.database_url is not None
        clock = Clock(datetime.fromisoformat(END_OF_THE_SAMPLE))
        escalation = Escalation(connect(settings.database_url), clock, settings.partitions, CHANNELS)
        for name, run in (("wards", import_wards), ("directory", import_directory)):
            assert not (await run(escalation, (SAMPLES / f"{name}.csv").read_bytes())).errors
        await escalation.engine.dispose()
    await _until_wards_are_known(empty.url)
    return empty


async def _until_wards_are_known(url: str) -> None:
    """Intake learns the wards from escalation's events."""
    async with httpx.AsyncClient(base_url=url, timeout=10) as client, asyncio.timeout(READY_SECONDS):
        while not (await client.get("/intake/v1/wards")).json()["items"]:  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.02)


def test_both_readmes_give_the_same_commands() -> None:
    """Whoever reads Vietnamese is told to type the same."""
    english, vietnamese = (blocks(name) for name in READMES)
    assert english == vietnamese
    assert sum(block.is_tested for block in english) >= 5


@pytest.mark.parametrize("readme", READMES)
def test_the_table_of_settings_is_complete(readme: str) -> None:
    """Every setting that the code knows is explained, under the name that an operator sets."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"TRUCBAN_{name.upper()}")
        assert f"`{variable}`" in text, f"{readme} does not explain {variable}"


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_points_to_is_there(page: str) -> None:
    """Links to files of this repository, and paths that the text names."""
    text = (ROOT / page).read_text(encoding="utf-8")
    links = {(ROOT / page).parent / target for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)}
    named = {ROOT / path for path in re.findall(r"`((?:services|shared|tests|docs|samples|deploy)/[\w./-]+)`", text)}
    missing = sorted(str(path.relative_to(ROOT)) for path in links | named if not path.exists())
    assert not missing, f"{page} points to {', '.join(missing)}"


@pytest.mark.timeout(300)
@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="the commands use bash and curl")
def test_the_first_five_minutes(system: Up) -> None:
    """Officer, sensor, post-holder, desk and auditor each get done what the README promises them."""
    setup, *parts = (block.commands for block in blocks("README.md") if block.is_tested)
    _, sent_again = next(part for part in parts if "SENSOR=" in part).split("\n", 1)
    script = [
        "set -euo pipefail",
        'curl() { command curl --fail-with-body "$@"; }',
        setup,
        f"export TRUCBAN_URL={system.url} TRUCBAN_DATA={system.data}",
        *parts,
        sent_again,
    ]
    env = environment(system.data) | system.env
    env["PATH"] = f"{TRUCBAN.parent}:{env['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    for promised in (
        '"outcome": "accepted"',  # the officer's report
        '"state":"routed"',  # its receipt
        '"outcome":"merged"',  # the sensor joins the incident
        '"state":"notified"',  # one of two has acknowledged
        '"acknowledged_by": "mau-14776-chu-tich"',  # as the desk sees it
        '"state":"acknowledged"',  # both have
        "the desk does, for the city confirms",  # no ward closes its own
        '"state":"closed"',
        '"kind":"vn.trucban.decision.made.v1"',  # as the auditor finds it
        '"outcome":"duplicate"',  # the sensor again
    ):
        assert promised in done.stdout, f"{promised} is not in what the commands printed:\n{done.stdout}"
    assert len(re.findall(r"ledger of \d+ entries verified", done.stdout)) == 2
    told = [orjson.loads(line) for line in (system.data / "outbox.ndjson").read_bytes().splitlines()]
    assert sorted((line["recipient"], line["purpose"]) for line in told) == [
        ("desk", "closure"),
        ("mau-14776-bi-thu", "accountable"),
        ("mau-14776-chu-tich", "accountable"),
    ], "nobody is told twice of one incident"
