"""`python -m tests.faults.hostile.attacker NAME [PORT,DEVICE,OFFICER] SECONDS`: one attack, in a process of its own.

`idle` is none. Tells as JSON how often it got each status, and the largest answer.
"""

import asyncio
import json
import sys

from services.cli.connections import raise_open_files
from tests.faults.hostile.attacks import ATTACKS, Target, until_cancelled


async def _attack(name: str, target: Target, seconds: float) -> None:
    if name == "idle":
        return
    (attack,) = (attack for attack in ATTACKS if attack.__name__ == name)
    await until_cancelled(attack, target, seconds)


if __name__ == "__main__":
    _, wanted, known, duration = sys.argv
    raise_open_files()
    aim = Target(*json.loads(known))
    asyncio.run(_attack(wanted, aim, float(duration)))
    sys.stdout.write(json.dumps([aim.answers, aim.largest]))
