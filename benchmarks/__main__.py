"""`python -m benchmarks [--quick]`: every figure, a table, and var/bench.json."""

import asyncio
import logging
import os
import sys
import tempfile
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from benchmarks import cost, escalation, intake, ledger, path, storm
from benchmarks.measure import Figure, write
from services.cli.embedded import erase

RESULT = Path("var/bench.json")
RUNS = {
    "intake": intake.run,
    "path": path.run,
    "split": path.run_split,
    "ledger": ledger.run,
    "escalation": escalation.run,
    "storm": storm.run,
    "cost": cost.run,
}


async def _all(folder: Path, *, quick: bool) -> list[Figure]:
    figures: list[Figure] = []
    for name, run in RUNS.items():
        data = folder / name
        try:
            figures += await run(data, quick=quick)
        finally:
            erase(data)
    return figures


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="trucban-bench-") as folder:
        Path(folder).chmod(0o711)
        figures = asyncio.run(_all(Path(folder), quick=quick))
    write(figures, RESULT)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    table = Table("name", "value", "unit", "against", "there", title=f"load {load}, {os.cpu_count()} cores")
    for figure in figures:
        there = f"{figure.against_value:,.1f}" if figure.against else ""
        table.add_row(figure.name, f"{figure.value:,.3f}", figure.unit, figure.against, there)
    Console(width=150).print(table)
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
