"""One run of `make faults` as a process: SEED KINDS MISSING FILE. What it found goes to FILE as JSON."""

import asyncio
import json
import signal
import sys
from pathlib import Path

from tests.faults.broken import counted
from tests.faults.kinds import chosen
from tests.faults.run import Outcome, say, survive
from tests.faults.schedule import Plan, draw_plan, without


def main() -> None:
    seed, kinds, missing, told = sys.argv[1:]
    plan = without(draw_plan(int(seed), chosen(kinds)), missing.split(",") if missing else [])
    outcome = asyncio.run(_survive(plan))
    for broken in outcome.broken:
        say(str(broken))
    found = {
        "faults": outcome.faults,
        "accepted": outcome.accepted,
        "starved": outcome.starved,
        "broken": [str(b) for b in outcome.broken],
        **counted(outcome.broken),
    }
    Path(told).write_text(json.dumps(found), encoding="utf-8")


async def _survive(plan: Plan) -> Outcome:
    """SIGTERM cancels it, so that servers and processes end with us."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    return await survive(plan)


if __name__ == "__main__":
    main()
