"""Group commit: items that arrive while earlier ones are being committed share the next commit."""

import asyncio
import sys
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from shared.clock import monotonic

Item = TypeVar("Item")
Answer = TypeVar("Answer")
STALL_SECONDS = 10.0
"""Longer than any healthy commit takes."""


class GroupCommit(Generic[Item, Answer]):
    """Gives items to `commit` in groups: one group at a time, the items of one sender in the order of their arrival.

    Where more wait than a group may hold, senders take turns: one who sends much holds up no other.
    """

    def __init__(
        self,
        commit: Callable[[list[Item]], Awaitable[Sequence[Answer]]],
        *,
        at_most: int = sys.maxsize,
        weight: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        """`commit` returns one answer an item, in the order of the items.

        It is given items until they weigh `at_most` together, and at least one.
        """
        self._commit = commit
        self._at_most, self._weight = at_most, weight
        self._waiting = OrderedDict[Hashable, deque[tuple[Item, asyncio.Future[Answer]]]]()
        """By sender; the first is the next to have a turn."""
        self._committing: asyncio.Task[None] | None = None
        self._begun_at: float | None = None

    async def add(self, item: Item, sender: Hashable = None) -> Answer:
        """Return the answer to `item`, or raise what `commit` raised for its group.

        A caller that is cancelled disturbs no other. Its item is committed all the same.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(sender, deque()).append((item, answer))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_waiting(), name="group commit")
        return await answer

    def health_failure(self) -> str | None:
        """Why callers wait in vain, or None: a commit that has not ended after `STALL_SECONDS`."""
        taken = monotonic() - self._begun_at if self._begun_at is not None else 0.0
        return (
            f"a commit has not ended for {taken:.0f} s: see whether PostgreSQL answers"
            if taken > STALL_SECONDS
            else None
        )

    async def _commit_waiting(self) -> None:
        group: list[tuple[Item, asyncio.Future[Answer]]] = []
        try:
            while self._waiting:
                group = self._next_group()
                await self._commit_group(group)
        finally:
            self._committing = None
            for _, answer in (*group, *(one for queue in self._waiting.values() for one in queue)):
                answer.cancel()  # only if this task was cancelled; an answer that is given stays as it is
            self._waiting.clear()

    def _next_group(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        group: list[tuple[Item, asyncio.Future[Answer]]] = []
        left = self._at_most
        while self._waiting and left > 0:
            sender, queue = self._waiting.popitem(last=False)
            is_alone = not self._waiting
            while queue and left > 0:
                group.append(queue.popleft())
                left -= self._weight(group[-1][0])
                if not is_alone:  # the next one's turn
                    break
            if queue:
                self._waiting[sender] = queue
        return group

    async def _commit_group(self, group: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        futures = [future for _, future in group]
        self._begun_at = monotonic()
        try:
            answers = await self._commit([item for item, _ in group])
            answered = list(zip(futures, answers, strict=True))
        except Exception as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        finally:
            self._begun_at = None
        for future, answer in answered:
            if not future.done():
                future.set_result(answer)
