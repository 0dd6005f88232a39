"""Halving a failed batch until the guilty item is alone."""

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.halving import Slices, work_in_halves


class Work:
    """Fails, with nothing done, if a guilty item is among the items. Notes what it did and was asked to do."""

    def __init__(self, guilty: set[int], outage_at: int | None = None) -> None:
        """`outage_at`: the number of the call that meets an outage."""
        self.guilty, self.outage_at = guilty, outage_at
        self.done: list[int] = []
        self.reported: list[tuple[int, str]] = []
        self.asked: list[list[int]] = []

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.asked.append(list(items))
        if len(self.asked) == self.outage_at:
            raise ConnectionError
        if found := self.guilty.intersection(items):
            raise ValueError(min(found))
        self.done += items
        return list(items)

    async def report(self, item: int, error: Exception) -> None:
        self.reported.append((item, str(error)))

    async def run(self, items: Sequence[int]) -> list[list[int]]:
        return await work_in_halves(items, self, self.report, lambda error: isinstance(error, OSError))


batches = st.integers(0, 70).flatmap(lambda n: st.tuples(st.just(range(n)), st.sets(st.integers(0, max(n - 1, 0)))))


@given(batches)
async def test_exactly_the_guilty_are_reported_and_all_others_worked_on_in_order(batch: tuple[range, set[int]]) -> None:
    items, guilty = batch
    work = Work(guilty)
    results = await work.run(items)
    assert work.reported == [(n, str(n)) for n in items if n in guilty], "each once, in order, with its own error"
    assert work.done == [n for n in items if n not in guilty], "each once, in order"
    assert [n for result in results for n in result] == work.done


@given(st.integers(1, 500))
async def test_a_batch_that_succeeds_is_worked_on_once(count: int) -> None:
    work = Work(set())
    assert await work.run(range(count)) == [list(range(count))]
    assert len(work.asked) == 1


@given(st.integers(0, 499))
async def test_one_guilty_item_of_500_costs_few_calls(guilty: int) -> None:
    work = Work({guilty})
    await work.run(range(500))
    assert len(work.asked) <= 1 + 2 * 9, "two calls a level, and 2**9 > 500"


async def test_of_no_items_no_work_is_asked() -> None:
    work = Work(set())
    assert await work.run([]) == []
    assert work.asked == []


@given(st.integers(1, 70), st.sets(st.integers(0, 69)), st.integers(0, 200))
async def test_a_transient_error_is_raised_at_once_and_blames_nobody(count: int, guilty: set[int], which: int) -> None:
    items, undisturbed = range(count), Work(guilty)
    await undisturbed.run(items)
    call = 1 + which % len(undisturbed.asked)
    work = Work(guilty, outage_at=call)
    with pytest.raises(ConnectionError):
        await work.run(items)
    assert work.asked == undisturbed.asked[:call], "nothing is asked after it"
    assert work.reported == undisturbed.reported[: len(work.reported)]
    assert work.done == undisturbed.done[: len(work.done)]


async def test_an_error_in_reporting_is_raised() -> None:
    async def fail(item: int, error: Exception) -> None:
        raise RuntimeError(item)

    with pytest.raises(RuntimeError, match="2"):
        await work_in_halves(range(4), Work({2}), fail, lambda error: False)


async def test_what_takes_too_long_as_a_whole_gets_done_in_slices_that_shrink_and_grow() -> None:
    done: list[int] = []
    tried: list[int] = []
    patience = 30

    async def work(items: Sequence[int]) -> None:
        tried.append(len(items))
        if len(items) > patience:
            raise TimeoutError
        done.extend(item for item in items if item not in done)

    slices = Slices(work, at_most=200, at_least=10)
    for _ in range(20):
        with suppress(TimeoutError):
            await slices.do(range(100))
            break
    assert done == list(range(100))
    assert tried[:3] == [100, 50, 25]
    patience = 1000
    for _ in range(5):
        await slices.do(range(200))
    assert slices.size == 200
