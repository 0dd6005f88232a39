"""One run of `make faults` as a process: SEED KINDS MISSING FILE. What it found goes to FILE as JSON."""

import asyncio
import json
import signal
import sys
from pathlib import Path

from tests.faults.broken import counted
from tests.faults.kinds import chosen
from tests.faults.run import say, survive
from tests.faults.schedule import draw_plan, without


def main() -> None:
    seed, kinds, missing, told = sys.argv[1:]
    plan = without(draw_plan(int(seed), chosen(kinds)), missing.split(","))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers and processes end with us
    outcome = asyncio.run(survive(plan))
    for broken in outcome.broken:
        say(str(broken))
    found = {"accepted": outcome.accepted, "broken": [str(b) for b in outcome.broken], **counted(outcome.broken)}
    Path(told).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
