"""The file of all fault runs, one line a seed. Nothing is taken out of it, whatever a seed showed."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pydantic import TypeAdapter

RESULTS = Path(__file__).parent / "results.csv"
LAST = 100
"""So many faults, the latest, must be clean."""


@dataclass(frozen=True)
class Result:
    """What a seed showed. `date`: when the run began (UTC). `drawn`: the installation and the faults, in order."""

    date: str
    commit: str
    seed: int
    kinds: str
    faults: int
    accepted: int
    lost: int
    doubled: int
    stuck: int
    untruthful: int
    wrong: int
    seconds: int
    starved: int
    """Per cent of the time in which the city's processes wanted to run and waited for a processor: above 50 or so, what
    took too long may be the machine's fault."""
    drawn: str
    failed: str
    """What was broken, in words; empty for a clean run."""

    @property
    def is_clean(self) -> bool:
        return not self.failed


_RESULTS = TypeAdapter(list[Result])


def append(result: Result, path: Path = RESULTS) -> None:
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Result)], lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(result))


def every(path: Path = RESULTS) -> list[Result]:
    """In the order of the file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return _RESULTS.validate_python(list(csv.DictReader(file)))


def summary(run_now: Sequence[Result], file: Sequence[Result]) -> list[str]:
    """Lines for a person: of the runs just made, and of the latest faults of the file."""
    last = list(_latest(file, LAST))
    failed = [r for r in last if not r.is_clean]
    seeds = f"; not clean: seeds {', '.join(str(r.seed) for r in failed)}" if failed else ""
    return [
        f"{len(run_now)} runs with {_faults(run_now)} faults; clean: {_clean(run_now)}",
        *(f"  seed {r.seed}{f' KINDS={r.kinds}' if r.kinds else ''}: {r.failed}" for r in run_now if not r.is_clean),
        f"the last {_faults(last)} faults of {RESULTS.name} are of {len(last)} runs; clean: {_clean(last)}{seeds}",
    ]


def _clean(results: Sequence[Result]) -> str:
    clean = [result for result in results if result.is_clean]
    return f"{len(clean)} runs with {_faults(clean)} faults"


def _latest(file: Sequence[Result], faults: int) -> Iterable[Result]:
    """As many of the last runs as it takes for so many faults."""
    left = faults
    for result in reversed(file):
        if left <= 0:
            return
        left -= result.faults
        yield result


def _faults(results: Iterable[Result]) -> int:
    return sum(result.faults for result in results)
