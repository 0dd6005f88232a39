"""`make faults`: runs drawn at random, with several faults at once, until the minutes are over.

    make faults                             # ten minutes, from a random seed that is printed
    make faults MINUTES=40 SEED=7           # the same runs again, as far as the minutes reach
    make faults SEED=123456 RUNS=1          # one run alone; each run prints its seed
    make faults KINDS=trim,freeze           # only these kinds, by name or by the beginning of their names

Each run has a city of its own: servers, processes, people who report and act (stack.py, load.py, people.py). Its seed
gives the installation (replicas, partitions, consumer names, proxy) and the faults (schedule.py, kinds.py). One city in
five has the data of an older release and is migrated while the first faults happen (upgrade.py). Processes of the older
release are not there, so a rolling upgrade is not tried. Afterwards all that was answered must be there exactly once
(audit.py, invariants.py); within 60 seconds after the last cause is gone nothing may wait (behind.py); and readiness
must have been true at each moment (readiness.py, truth.py).

What each seed showed is added to results.csv, and stays there. The exit code is 1 if a run was not clean.

A fault that this machine cannot have is left out of each run that draws it: full disks where mounts are refused, the
proxy where nginx is not installed. A line says so.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random, SystemRandom

from shared.clock import monotonic
from tests.faults import results
from tests.faults.disks import PRIVATELY, can_mount
from tests.faults.kinds import chosen
from tests.faults.proxy import can_proxy
from tests.faults.results import Result
from tests.faults.run import say
from tests.faults.schedule import Plan, draw_plan, without

ROOT = Path(__file__).parents[2]
SEEDS = 10**6
LONGEST_RUN_SECONDS = 900
INTERRUPTED = "interrupted"
MOST_WORDS = 1_500
"""Of what failed, in a line of the file."""


def main() -> int:
    asked = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = asked.seed if asked.seed is not None else SystemRandom().randrange(1, SEEDS)
    kinds = chosen(asked.kinds)
    missing = _missing()
    say(f"SEED={seed}{f' KINDS={asked.kinds}' if asked.kinds else ''}, {asked.minutes:g} minutes")
    until = monotonic() + 60 * asked.minutes
    made: list[Result] = []
    for number, run_seed in enumerate(_seeds(seed), 1):
        if len(made) >= asked.runs or (made and (monotonic() > until or made[-1].failed.endswith(INTERRUPTED))):
            break
        plan = without(draw_plan(run_seed, kinds), missing)
        say(f"\nrun {number}: SEED={run_seed} RUNS=1{f' KINDS={asked.kinds}' if asked.kinds else ''}\n{plan}")
        made.append(_run(plan, asked.kinds, missing))
        results.append(made[-1])
        minutes = (until - monotonic()) / 60
        say(f"run {number} {'is clean' if made[-1].is_clean else 'FAILED'}; {max(minutes, 0):.0f} minutes left")
    say("\n" + "\n".join(results.summary(made, results.every())))
    return 0 if all(result.is_clean for result in made) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=10**9)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--kinds", default="")
    return parser.parse_args()


def _seeds(first: int) -> Iterator[int]:
    """The first run has the seed that was asked for, so that any run can be repeated alone."""
    random = Random(first)
    return itertools.chain([first], (random.randrange(1, SEEDS) for _ in itertools.count()))


def _missing() -> list[str]:
    """Fields of Shape that this machine cannot have."""
    missing: list[str] = []
    if not can_mount():
        missing.append("small_disks")
        say("left out: full disks, because mounts are refused (only root may mount, and not in every container)")
    if not can_proxy():
        missing.append("proxied")
        say("left out: the proxy, because nginx is not installed")
    return missing


def _run(plan: Plan, kinds: str, missing: Sequence[str]) -> Result:
    """In a process of its own, so that a run which hangs or breaks is a result too."""
    began = datetime.now(UTC)
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as told:
        command = [sys.executable, "-m", "tests.faults.one", str(plan.seed), kinds, ",".join(missing), told.name]
        privately = [] if "small_disks" in missing else PRIVATELY
        process = subprocess.Popen([*privately, *command], cwd=ROOT, env=os.environ)
        ended = _wait(process)
        found = json.loads(told.read() or "{}")
    broken: list[str] = found.get("broken", [])
    done = found.get("faults", 0)
    if done != len(plan.faults):
        broken = [*broken, f"only {done} of {len(plan.faults)} faults were done"]
    if ended:
        broken = [*broken, ended]
    return Result(
        date=began.isoformat(timespec="seconds"),
        commit=_commit(),
        seed=plan.seed,
        kinds=kinds,
        faults=done,
        accepted=found.get("accepted", 0),
        **{sort: found.get(sort, 0) for sort in ("lost", "doubled", "stuck", "untruthful", "wrong")},
        seconds=round((datetime.now(UTC) - began).total_seconds()),
        starved=found.get("starved", 0),
        drawn=str(plan),
        failed=" | ".join(broken)[:MOST_WORDS],
    )


def _wait(process: subprocess.Popen[bytes]) -> str:
    """How the run ended, if it did not by itself."""
    try:
        code = process.wait(LONGEST_RUN_SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
        return f"not at its end after {LONGEST_RUN_SECONDS} s"
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return INTERRUPTED
    return "" if code == 0 else f"the run itself broke with {code}: see its traceback"


def _commit() -> str:
    """With a plus sign where something but the results is not committed."""
    head = _git("rev-parse", "--short", "HEAD").stdout.strip()
    changed = _git("diff", "--quiet", "HEAD", "--", ".", f":!{results.RESULTS.relative_to(ROOT)}").returncode
    return f"{head}{'+' if changed else ''}" if head else "unknown"


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
