"""What a run does: how the system is installed, which faults come when, and for how long. All of it from the seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from random import Random

from tests.faults.kinds import Kind
from tests.faults.stack import Shape
from tests.integration.landed import STATES

FAULTS_A_RUN = 10
AT_ONCE_SECONDS = 2.0
APART_SECONDS = 15.0
UPGRADED = 0.2
"""Of all runs."""


@dataclass(frozen=True)
class Drawn:
    """One fault of a run."""

    kind: Kind
    after: float
    """Seconds after the one before it began, or after the lull before it."""
    seconds: float
    seed: int
    """For what else the fault draws."""
    lull: bool
    """Whether nothing follows before all is well again."""

    def __str__(self) -> str:
        lasting = f" {self.seconds:.0f}s" if self.kind.most else ""
        return f"{self.kind.name}{lasting} +{self.after:.0f}s{' | lull' if self.lull else ''}"


@dataclass(frozen=True)
class Plan:
    seed: int
    shape: Shape
    faults: Sequence[Drawn]

    def __str__(self) -> str:
        return f"{self.shape}: {', '.join(map(str, self.faults))}"


def draw_plan(seed: int, kinds: Sequence[Kind]) -> Plan:
    """The same for the same seed and kinds, whatever this machine has.

    An upgrade is drawn last, so that each seed has the faults that it had before there were upgrades.
    """
    random = Random(seed)
    shape = Shape(
        intakes=random.choice((1, 1, 2)),
        escalations=random.choice((1, 2, 2, 3)),
        ledgers=random.choice((1, 1, 2)),
        partitions=random.choice((1, 4)),
        one_name=random.random() < 0.3,
        proxied=random.random() < 0.3,
        small_disks=True,
    )
    faults = [_draw_fault(random, kinds, last=n == FAULTS_A_RUN - 1) for n in range(FAULTS_A_RUN)]
    return Plan(seed, _perhaps_upgraded(random, shape), faults)


def _perhaps_upgraded(random: Random, shape: Shape) -> Shape:
    """From one of the landed states, with the number of partitions that all of them had."""
    if random.random() >= UPGRADED:
        return shape
    state, killed = random.choice(STATES), random.choice((0, 0, 1, 2))
    return replace(shape, upgraded_from=state, migrations_killed=killed, partitions=1)


def _draw_fault(random: Random, kinds: Sequence[Kind], *, last: bool) -> Drawn:
    kind = random.choice(kinds)
    most = AT_ONCE_SECONDS if random.random() < 0.6 else APART_SECONDS
    seconds = math.exp(random.uniform(math.log(kind.least), math.log(kind.most))) if kind.most else 0.0
    return Drawn(kind, random.uniform(0, most), seconds, random.randrange(2**31), random.random() < 0.2 or last)


def each_once(seed: int, kinds: Sequence[Kind], shape: Shape, most_seconds: float) -> Plan:
    """Each kind once in a seeded order, soon after one another, none for longer than `most_seconds`."""
    random = Random(seed)
    order = random.sample(kinds, k=len(kinds))
    drawn = [_draw_fault(random, [kind], last=kind is order[-1]) for kind in order]
    return Plan(seed, shape, [_shortened(d, most_seconds, d.kind is order[-1]) for d in drawn])


def _shortened(drawn: Drawn, seconds: float, last: bool) -> Drawn:
    return replace(drawn, seconds=min(drawn.seconds, seconds), after=min(drawn.after, AT_ONCE_SECONDS), lull=last)


def without(plan: Plan, missing: Sequence[str]) -> Plan:
    """What this machine can do. `missing`: fields of Shape that it cannot have."""
    kept = [drawn for drawn in plan.faults if drawn.kind.needs not in missing]
    shape = Shape(**{f.name: getattr(plan.shape, f.name) for f in fields(Shape) if f.name not in missing})
    return Plan(plan.seed, shape, kept)
