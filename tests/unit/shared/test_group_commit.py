"""Group commit: every item is answered once, by the group that it was in."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import group_commit
from shared.group_commit import GroupCommit

LAST = -1


class GroupError(Exception):
    """The error of one group, by its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Commits:
    """Answers each item with itself, or fails for a whole group. Notes the groups that it was given."""

    def __init__(self, failing: frozenset[int] = frozenset()) -> None:
        """`failing`: numbers of the groups that fail, from 0."""
        self.failing = failing
        self.groups: list[list[int]] = []
        self.under_way = 0
        self.most_under_way = 0

    async def __call__(self, items: list[int]) -> Sequence[int]:
        number = len(self.groups)
        self.groups.append(items)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        for _ in range(1 + number % 3):
            await asyncio.sleep(0)
        self.under_way -= 1
        if number in self.failing:
            raise GroupError(number)
        return items


@dataclass(frozen=True)
class Caller:
    """One that adds an item: after how many turns of the event loop, and whether it is cancelled, after how many."""

    begins_after: int
    cancelled_after: int | None


turns = st.integers(0, 12)
callers = st.lists(st.builds(Caller, turns, st.none() | turns), max_size=30)


async def call(commits: GroupCommit[int, int], number: int, caller: Caller, added: list[int]) -> int:
    for _ in range(caller.begins_after):
        await asyncio.sleep(0)
    added.append(number)
    return await commits.add(number)


async def cancel(task: "asyncio.Task[int]", turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()


@given(callers, st.frozensets(st.integers(0, 10)), st.integers(1, 6))
async def test_each_caller_gets_the_answer_to_its_item_or_the_error_of_its_group(
    callers: list[Caller], failing: frozenset[int], at_most: int
) -> None:
    commits, added = Commits(failing), list[int]()
    group_commit = GroupCommit[int, int](commits, at_most=at_most)
    tasks = [asyncio.create_task(call(group_commit, n, caller, added)) for n, caller in enumerate(callers)]
    cancelling = [
        cancel(task, caller.cancelled_after)
        for task, caller in zip(tasks, callers, strict=True)
        if caller.cancelled_after is not None
    ]
    await asyncio.gather(*cancelling)
    async with asyncio.timeout(60):
        found = await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(GroupError):
            await group_commit.add(LAST)  # by now the items of those who were cancelled are committed too

    committed = [item for group in commits.groups for item in group if item != LAST]
    group_of = {item: number for number, group in enumerate(commits.groups) for item in group}
    assert committed == added, "each item once, in the order of arrival, whatever became of its caller"
    assert all(len(group) <= at_most for group in commits.groups)
    assert commits.most_under_way <= 1, "one group at a time"
    for number, (caller, answer) in enumerate(zip(callers, found, strict=True)):
        if isinstance(answer, asyncio.CancelledError):
            assert caller.cancelled_after is not None, "only who was cancelled is"
        elif isinstance(answer, GroupError):
            assert answer.number == group_of[number]
            assert answer.number in failing
        else:
            assert answer == number
            assert group_of[number] not in failing


async def test_what_arrives_during_a_commit_shares_the_next() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    groups: list[list[int]] = []

    async def commit(items: list[int]) -> list[int]:
        groups.append(items)
        entered.set()
        await leave.wait()
        return items

    group_commit = GroupCommit[int, int](commit)
    first = asyncio.create_task(group_commit.add(0))
    await entered.wait()
    others = [asyncio.create_task(group_commit.add(n)) for n in range(1, 50)]
    await asyncio.sleep(0)
    leave.set()
    assert await asyncio.gather(first, *others) == list(range(50))
    assert groups == [[0], list(range(1, 50))]


async def test_a_wrong_number_of_answers_is_an_error_for_all() -> None:
    async def commit(items: list[int]) -> list[int]:
        return items[1:]

    group_commit = GroupCommit[int, int](commit)
    found = await asyncio.gather(*(group_commit.add(n) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in found] == [ValueError] * 3


async def test_nobody_waits_for_a_commit_that_was_cancelled() -> None:
    entered = asyncio.Event()

    async def commit(items: list[int]) -> list[int]:
        entered.set()
        if items != [2]:
            raise asyncio.CancelledError
        return items

    group_commit = GroupCommit[int, int](commit, at_most=1)
    waiting = [asyncio.create_task(group_commit.add(n)) for n in range(2)]
    await entered.wait()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in found] == [asyncio.CancelledError] * 2
    assert await group_commit.add(2) == 2, "the next ones are committed"


async def test_the_error_is_raised_and_the_next_group_is_committed() -> None:
    group_commit = GroupCommit[int, int](Commits(frozenset({0})))
    with pytest.raises(GroupError):
        await group_commit.add(0)
    assert await group_commit.add(1) == 1


async def test_a_commit_that_does_not_end_is_a_health_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def commit(items: Sequence[int]) -> list[int]:
        began.set()
        await may_end.wait()
        return list(items)

    commits = GroupCommit[int, int](commit)
    assert commits.health_failure() is None
    waiting = asyncio.create_task(commits.add(1))
    await began.wait()
    assert commits.health_failure() is None
    later = group_commit.monotonic() + group_commit.STALL_SECONDS + 1
    monkeypatch.setattr(group_commit, "monotonic", lambda: later)
    assert "has not ended for 11 s" in (commits.health_failure() or "")
    may_end.set()
    assert await waiting == 1
    assert commits.health_failure() is None


async def test_senders_take_turns_and_each_in_its_order() -> None:
    """One has sent nine when two others come with one or two each: they need not wait until all nine are committed."""
    commits = Commits()
    group = GroupCommit(commits, at_most=3)
    sent = [("much", n) for n in range(9)] + [("one", 10), ("two", 20), ("two", 21)]
    answers = await asyncio.gather(*(group.add(item, sender) for sender, item in sent))
    assert answers == [item for _, item in sent]
    assert commits.groups == [[0, 10, 20], [1, 21, 2], [3, 4, 5], [6, 7, 8]]


async def test_a_group_ends_where_it_weighs_enough() -> None:
    commits = Commits()
    group = GroupCommit(commits, at_most=10, weight=lambda item: item)
    assert await asyncio.gather(*map(group.add, [4, 4, 4, 30, 1, 9, 1])) == [4, 4, 4, 30, 1, 9, 1]
    assert commits.groups == [[4, 4, 4], [30], [1, 9], [1]]
