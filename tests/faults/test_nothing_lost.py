"""Nothing that was answered is lost or done twice, whichever process is killed and whatever Redis forgets.

One fault of each kind that is quick, one after another or at once; `make faults` draws from all kinds, for as long as
it is told (tests/faults/__main__.py). How fast all recovers, and whether readiness was true meanwhile, is judged there
only: beside this test the machine runs others.
"""

import pytest

from tests.faults.kinds import chosen
from tests.faults.run import say, survive
from tests.faults.schedule import each_once
from tests.faults.stack import Shape

SEED = 20230122
QUICK = "kill,flush,outage,freeze-escalation,trim,group-destroy"
PATIENCE_SECONDS = 120.0
"""Far more than any recovery takes, also on a machine that has other work to do."""
MOST_SECONDS = 3.0
"""Longer than another replica waits before it takes over what a frozen one had in hand."""


@pytest.mark.timeout(240)
async def test_each_quick_kind_of_fault_once_loses_nothing() -> None:
    plan = each_once(SEED, chosen(QUICK), Shape(escalations=2), MOST_SECONDS)
    say(f"\n{plan}")
    outcome = await survive(plan, PATIENCE_SECONDS)
    broken = [b for b in outcome.broken if b.sort != "untruthful"]
    assert not broken, f"{plan}\n" + "\n".join(map(str, broken))
