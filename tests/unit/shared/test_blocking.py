"""The gauge of blocking shows the longest time in which the process did one thing only, for a minute."""

import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from shared.background import in_background
from shared.blocking import WITHIN_SECONDS, Longest, watch_blocking

STEPS = st.lists(st.tuples(st.floats(0, 40), st.floats(0, 10)), min_size=1, max_size=30)


@given(STEPS)
def test_it_is_the_largest_value_of_the_last_minute(steps: list[tuple[float, float]]) -> None:
    longest, now, seen = Longest(), 0.0, list[tuple[float, float]]()
    for seconds, value in steps:
        now += seconds
        seen.append((now, value))
        assert longest.add(now, value) == max(v for at, v in seen if at >= now - WITHIN_SECONDS)


async def test_what_blocks_the_process_is_seen() -> None:
    async with in_background(watch_blocking(), "watch"):
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - what it is about
        async with asyncio.timeout(20):
            while not (REGISTRY.get_sample_value("trucban_event_loop_blocked_seconds") or 0) > 0.15:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
