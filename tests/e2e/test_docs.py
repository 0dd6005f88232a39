"""What the documents say can be done, done: the README's commands against a system that runs."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import httpx
import orjson
import pytest

from services.cli.infrastructure import shared_infrastructure
from services.escalation.application.escalation import Escalation
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
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/operations.md",
    "docs/security.md",
    *sorted(f"docs/decisions/{p.name}" for p in (ROOT / "docs/decisions").glob("*.md")),
]
END_OF_THE_SAMPLE = "2025-07-01T09:40:00+07:00"
"""Where `make run` leaves the clock: on the day on which the wards of `wards-2025.csv` begin."""
READY_SECONDS = 60
_BLOCK = re.compile(r"(<!-- tested -->\n)?```sh\n(.*?)```", re.DOTALL)
_DECISION = re.compile(
    r"# (?P<number>\d+)\. (?P<title>.+)\n\nDate: (?P<date>\d{4}-\d\d-\d\d)\. "
    r"Status: (?P<status>accepted|superseded(?: in part)?)(?: \(.+\))?\.\n"
)
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
    """As after `make run`: the wards and post-holders in force at the end of the sample, and the clock there."""
    async with shared_infrastructure(Settings().model_copy(update={"data": empty.data})) as settings:
        assert settings.database_url is not None
        clock = Clock(datetime.fromisoformat(END_OF_THE_SAMPLE))
        escalation = Escalation(connect(settings.database_url), clock, settings.partitions, CHANNELS, bytes(32))
        for name, run in (("wards", import_wards), ("directory", import_directory)):
            assert not (await run(escalation, (SAMPLES / f"{name}-2025.csv").read_bytes())).errors
        await escalation.database.dispose()
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


def test_every_test_that_the_page_on_security_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/security.md").read_text(encoding="utf-8")))
    files = (ROOT / "tests").rglob("*.py")
    written = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))}
    assert sorted(named - written) == []
    assert len(named) > 30


def test_the_index_lists_every_decision_as_it_is_headed() -> None:
    """Number, title, date and status; numbers run from 1 without a gap."""
    folder = ROOT / "docs/decisions"
    expected: list[str] = []
    for number, path in enumerate(sorted(folder.glob("[0-9]*.md")), start=1):
        head = _DECISION.match(path.read_text(encoding="utf-8"))
        assert head, f"{path.name} has no line such as 'Date: 2026-11-24. Status: accepted.' below its title"
        assert path.name.startswith(f"{number:04}-"), f"{path.name} is number {number} of the folder"
        assert int(head["number"]) == number, f"{path.name} is headed as number {head['number']}"
        date.fromisoformat(head["date"])
        expected.append(f"| {number} | [{head['title']}]({path.name}) | {head['date']} | {head['status']} |")
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert [line for line in index.splitlines() if re.match(r"\| \d", line)] == expected


def test_make_help_lists_every_target_in_the_order_of_the_file() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE)
    listed = re.findall(r"^make (\S+) +\S", _make_help(), re.MULTILINE)
    assert listed == targets
    declared = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    assert sorted(" ".join(declared).split()) == sorted(targets)


def _make_help() -> str:
    # without what a `make test` around this hands down: it would print the folder that it enters
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(["make", "help"], cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


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
        '"acknowledged_by": "mau-2025-14797-chu-tich"',  # as the desk sees it
        '"state":"acknowledged"',  # both have
        "the desk does, for the city confirms",  # no ward closes its own
        '"state":"closure_proposed"',
        '"state":"closed"',
        '"kind":"vn.trucban.decision.made.v1"',  # as the auditor finds it
        '"outcome":"duplicate"',  # the sensor again
    ):
        assert promised in done.stdout, f"{promised} is not in what the commands printed:\n{done.stdout}"
    assert len(re.findall(r"ledger of \d+ entries verified", done.stdout)) == 2
    told = [orjson.loads(line) for line in (system.data / "outbox.ndjson").read_bytes().splitlines()]
    assert sorted((line["recipient"], line["purpose"]) for line in told) == [
        ("desk", "closure"),
        ("mau-2025-14797-bi-thu", "accountable"),
        ("mau-2025-14797-chu-tich", "accountable"),
    ], "nobody is told twice of one incident"
