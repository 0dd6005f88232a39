"""Nothing that was answered is lost or done twice, whichever process is killed and whatever Redis forgets.

Escalation runs in two to four processes; meanwhile people acknowledge and act, and due times pass.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom

import pytest

from shared.clock import monotonic
from tests.faults import audit
from tests.faults.city import reports
from tests.faults.load import Load
from tests.faults.stack import FAULTS, Fault, House, running_house

TET = datetime(2023, 1, 22, tzinfo=UTC)
"""What is reported happened in the hours before: the rulebook was in force."""
PAST_EVERY_DEADLINE = timedelta(minutes=20)
SEED = int(os.environ.get("TRUCBAN_FAULT_SEED", "0"))
LONG_RUNS, LONG_FAULTS = 4, 45
LULL = 150
"""Reports accepted while nothing happens to the city: what is done then is done by all processes at once."""
PATIENCE_SECONDS = 90.0
"""Far more than any recovery takes, also on a machine that has other work to do."""


@pytest.mark.timeout(180)
async def test_each_kind_of_fault_once_loses_nothing() -> None:
    """One fault of each kind, in a seeded order, under load, with two processes of escalation."""
    seed = SEED or 20230122
    order = list(FAULTS)
    Random(seed).shuffle(order)
    await _survives(seed, order, apart=60, replicas=2)


@pytest.mark.fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", range(LONG_RUNS))
async def test_many_faults_lose_nothing(run: int) -> None:
    """Many faults, often before the last one is over. TRUCBAN_FAULT_SEED repeats a schedule."""
    seed = SEED + run if SEED else SystemRandom().randrange(1, 10**6)
    await _survives(seed, Random(seed).choices(FAULTS, k=LONG_FAULTS), apart=30, replicas=2 + seed % 3)


async def _survives(seed: int, faults: Sequence[Fault], apart: int, replicas: int) -> None:
    """`apart`: at most so many reports are accepted between one fault and the next."""
    schedule = f"TRUCBAN_FAULT_SEED={seed}, {replicas} processes of escalation: {', '.join(faults)}"
    sys.stderr.write(f"\n{schedule}\n")
    began = monotonic()
    async with running_house(replicas, Random(seed + 3)) as house:
        load = Load(house, reports(Random(seed), TET), Random(seed + 1))
        sending = asyncio.create_task(load.run())
        try:
            await _under_load(house, load, faults, Random(seed + 2), apart)
        finally:
            load.stop()
            await sending
        recovering = monotonic()
        house.leap(PAST_EVERY_DEADLINE)
        await audit.until_recovered(house, seconds=PATIENCE_SECONDS)
        at = await house.end("escalation")
        found = load.refused + load.people.refused + await audit.findings(house, load, at)
        await _tell(house, load, began, recovering)
        assert not found, f"{schedule}\n" + "\n".join(found)


async def _under_load(house: House, load: Load, faults: Sequence[Fault], random: Random, apart: int) -> None:
    await _more_accepted(house, load, 20)
    for fault in faults:
        if random.random() < 0.75:  # else at once, while the system still recovers from the last one
            await _more_accepted(house, load, random.randrange(1, apart))
        await asyncio.sleep(random.uniform(0, 0.15))
        await house.strike(fault)
        if fault == "lull":
            await _more_accepted(house, load, LULL)
    await _more_accepted(house, load, 20)


async def _more_accepted(house: House, load: Load, count: int) -> None:
    try:
        await load.more_accepted(count, PATIENCE_SECONDS)
    except TimeoutError:
        state = [*await house.not_ready(), *house.deaths, f"intake said: {house.last_words('intake', 20)}"]
        raise AssertionError(
            f"no {count} reports more were accepted in {PATIENCE_SECONDS:.0f} s: " + "\n".join(state)
        ) from None


async def _tell(house: House, load: Load, began: float, recovering: float) -> None:
    counts = await audit.counts(house)
    now = monotonic()
    people = load.people
    lines = [
        f"{len(load.accepted)} reports, {len(people.acknowledged)} acknowledgements, {len(people.said)} commands",
        f"answers: {sorted(people.answers.items())}",
        f"stored: {counts}",
        f"met on the way: {dict(load.setbacks + people.setbacks)}; ended by themselves: {len(house.deaths)}",
        f"{now - began:.0f} s in all, {now - recovering:.1f} s from the last fault to rest",
        *house.deaths,
    ]
    sys.stderr.write("\n".join(lines) + "\n")
