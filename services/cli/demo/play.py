"""Playing the whole sample and saying whether all came out as expected."""

import asyncio
import json
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import Progress

from services.cli.demo.night import Night, NightResult, SampleTokens
from services.cli.demo.sample import COUNTED_PURPOSES, read_sample
from services.cli.demo.system import SampleSystem
from services.cli.verify_ledger import verify_ledger
from services.ledger.app import load_signer
from services.ledger.domain.verify import Verification
from shared.http.identity import issuer


async def play_sample(system: SampleSystem, done: Path) -> int:
    """Import the wards and the directory, play all rows, verify the ledger. Returns 0 if all is as expected, else 1.

    Writes that code to `done`.
    """
    console = system.console
    for name in ("wards.csv", "directory.csv"):
        await system.import_file(name)
    await system.settle()
    sample = read_sample()
    tokens = SampleTokens(issuer(system.settings.keys_dir))
    async with httpx.AsyncClient(base_url=system.address, timeout=60) as client:
        night = Night(client, tokens, system)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("sample night", total=len(sample))
            result = await night.play(sample, lambda: progress.advance(task))
    verification = await _verify(system, tokens)
    delivered = await asyncio.to_thread(_delivered_notices, system.settings.data / "outbox.ndjson")
    problems = _find_problems(result, delivered, verification)
    _print_result(console, result, problems, delivered, verification)
    code = 0 if verification.is_verified and not problems else 1
    await asyncio.to_thread(done.write_text, json.dumps({"code": code}))
    return code


async def _verify(system: SampleSystem, tokens: SampleTokens) -> Verification:
    vkey = load_signer(system.settings).verifier.vkey()
    token = tokens.role_header("auditor")["authorization"].removeprefix("Bearer ")
    return await asyncio.to_thread(verify_ledger, system.address, vkey, token, None)


def _delivered_notices(file: Path) -> set[str]:
    """Ids of the counted notices that reached their channel: for the sample, the file that stands in for one."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    sent = [json.loads(line) for line in lines]
    return {s["notice_id"] for s in sent if s["purpose"] in COUNTED_PURPOSES and not s["exercise"]}


def _find_problems(result: NightResult, delivered: set[str], verification: Verification) -> list[str]:
    return [
        *result.differences,
        *(f"notice {notice_id} did not reach its channel" for notice_id in sorted(result.notices - delivered)),
        *(f"ledger: {failure}" for failure in verification.failures),
    ]


def _print_result(
    console: Console, result: NightResult, problems: list[str], delivered: set[str], verification: Verification
) -> None:
    for problem in problems:
        console.print(f"[red]differs[/red] {problem}", soft_wrap=True)
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(result.outcomes.items()))
    console.print(f"{result.rows} rows played: reports {outcomes}; {len(problems)} differences", soft_wrap=True)
    console.print(
        f"demo: {result.reports} reports, {result.incidents} incidents, {result.decisions} decisions, "
        f"{len(delivered)} notices delivered, ledger of {verification.entries} entries "
        f"{'verified' if verification.is_verified else 'NOT verified'}",
        soft_wrap=True,
        highlight=False,
    )
