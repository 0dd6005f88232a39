"""One run: a city under load, the faults of a plan, and what must hold meanwhile and afterwards."""

import asyncio
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from shared.clock import monotonic
from tests.faults import audit
from tests.faults.behind import open_transactions, until_caught_up
from tests.faults.broken import Broken
from tests.faults.city import reports
from tests.faults.load import Load
from tests.faults.readiness import Watcher, watching
from tests.faults.schedule import Drawn, Plan
from tests.faults.stack import House, running_house
from tests.faults.upgrade import upgrade

TET = datetime(2023, 1, 22, tzinfo=UTC)
"""What is reported happened in the hours before: the rulebook was in force."""
PAST_EVERY_DEADLINE = timedelta(minutes=20)
STUCK_SECONDS = 60.0
"""After this time from the end of the last cause, nothing may wait and all are ready."""
PATIENCE_SECONDS = 90.0
"""For what falls due all at once in the end, which is work and no fault; and for the first and the last reports."""
LULL = 50
"""Reports accepted while nothing happens to the city: what is done then is done by all processes at once."""
KEPT = Path(__file__).parents[2] / "var" / "faults"
Tell = Callable[[str], None]


@dataclass
class Outcome:
    broken: list[Broken] = field(default_factory=list[Broken])
    accepted: int = 0
    seconds: float = 0.0
    faults: int = 0
    """How many were done."""
    starved: int = 0
    """Per cent of the time in which the city's processes wanted to run and waited for a processor."""


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


async def survive(plan: Plan, stuck_seconds: float = STUCK_SECONDS, tell: Tell = say) -> Outcome:
    """Raises nothing that a fault may cause: what was broken is in the outcome."""
    began = monotonic()
    outcome = Outcome()
    async with running_house(plan.shape, Random(plan.seed + 3)) as house:
        load = Load(house, reports(Random(plan.seed), TET), Random(plan.seed + 1))
        async with watching(house) as watcher:
            sending = asyncio.create_task(load.run())
            try:
                await _UnderLoad(house, load, outcome, stuck_seconds, tell).all_of(plan)
            finally:
                load.stop()
                await sending
        outcome.starved = house.starved()
        house.leap_past(PAST_EVERY_DEADLINE)
        outcome.broken += await audit.until_recovered(house, PATIENCE_SECONDS)
        at = await house.end("escalation")
        outcome.broken += await audit.findings(house, load, watcher, at)
        for line in await audit.summary(house, load):
            tell(line)
        outcome.accepted = len(load.accepted)
        if outcome.broken:
            tell(f"what its processes said lies in {_kept(plan.seed, house, watcher)}")
    tell(f"its processes waited for a processor in {outcome.starved} % of the time in which they wanted to run")
    outcome.seconds = monotonic() - began
    return outcome


def _kept(seed: int, house: House, watcher: Watcher) -> Path:
    """Keep the logs of a run that is not clean, and what each /readyz said. Returns the folder."""
    folder = KEPT / str(seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, lines in {**house.said(), "postgres": house.database_log()}.items():
        (folder / f"{name}.log").write_text("\n".join(lines), encoding="utf-8")
    (folder / "readiness.log").write_text("\n".join(map(str, watcher.said)), encoding="utf-8")
    return folder


class _UnderLoad:
    def __init__(self, house: House, load: Load, outcome: Outcome, stuck_seconds: float, tell: Tell) -> None:
        self._stuck_seconds = stuck_seconds
        self._house, self._load, self._outcome, self._tell = house, load, outcome, tell
        self._under_way: set[asyncio.Task[None]] = set()

    async def all_of(self, plan: Plan) -> None:
        try:
            if plan.shape.upgraded_from:
                self._under_way.add(asyncio.create_task(self._upgrade(plan)))
            else:
                await self._more_accepted(20, "before any fault")
            for drawn in plan.faults:
                await asyncio.sleep(drawn.after)
                self._begin(drawn)
                if drawn.lull:
                    await self._lull()
                    await self._more_accepted(1 if drawn is plan.faults[-1] else LULL, "in a lull")
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _begin(self, drawn: Drawn) -> None:
        self._mark(f"{drawn.kind.name}{f' for {drawn.seconds:.1f} s' if drawn.kind.most else ''}")
        self._under_way.add(asyncio.create_task(self._do(drawn)))
        self._outcome.faults += 1

    async def _do(self, drawn: Drawn) -> None:
        await drawn.kind.do(self._house, Random(drawn.seed), drawn.seconds)
        self._mark(f"{drawn.kind.name} is over")

    async def _upgrade(self, plan: Plan) -> None:
        self._mark(f"upgrade from {plan.shape.upgraded_from}")
        await upgrade(self._house, Random(plan.seed + 4))
        self._mark("upgrade is over, and all processes start")

    async def _lull(self) -> None:
        """Wait until every cause is gone, and then for so long at most until nothing is left of it."""
        await asyncio.gather(*self._under_way)
        self._under_way.clear()
        began = monotonic()
        left = await until_caught_up(self._house, self._load, self._stuck_seconds)
        self._mark(f"{'; '.join(left) or 'all is well'} after {monotonic() - began:.1f} s")
        for line in await open_transactions(self._house) if left else ():
            self._tell(f"  {line}")
        late = f"{self._stuck_seconds:.0f} s after the last cause was gone"
        self._outcome.broken += [Broken("stuck", f"{late}: {line}") for line in left]

    def _mark(self, line: str) -> None:
        self._tell(f"{datetime.now(UTC):%H:%M:%S}  {line}")

    async def _more_accepted(self, count: int, when: str) -> None:
        try:
            await self._load.more_accepted(count, PATIENCE_SECONDS)
        except TimeoutError:
            state = "; ".join(await self._house.not_ready())
            text = f"no {count} reports more were accepted in {PATIENCE_SECONDS:.0f} s {when}: {state}"
            self._outcome.broken.append(Broken("stuck", text))
