"""Group commit: what arrives while earlier items are worked on is worked on together, next."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Group(Generic[T]):
    """Gives items to `work` in groups, one group at a time, in the order of their arrival."""

    def __init__(self, work: Callable[[list[T]], Awaitable[None]]) -> None:
        self._work = work
        self._working = asyncio.Lock()
        self._gathering: list[T] = []
        self._next: asyncio.Task[None] | None = None

    async def add(self, item: T) -> None:
        """Returns when `work` on its group has ended, and raises what that raised. A caller that is cancelled takes
        no other with it, nor its item back."""
        self._gathering.append(item)
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        await asyncio.shield(self._next)

    async def _run(self) -> None:
        async with self._working:
            group, self._gathering, self._next = self._gathering, [], None
            await self._work(group)
