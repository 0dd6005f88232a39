"""Smaller batches: to find the item that makes one fail, and to get through where a whole one takes too long."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def work_in_halves(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Awaitable[R]],
    on_guilty: Callable[[T, Exception], Awaitable[None]],
    is_transient: Callable[[Exception], bool],
) -> list[R]:
    """Call `work` with all items. Where it fails, call it with each half, until the guilty item is alone.

    Each guilty item is given to `on_guilty`, with its error. Returns what `work` returned, in the order of the items.
    A failed call of `work` must have changed nothing, because its items come again. A transient error is no item's
    fault: it is raised at once, and the items after it are not worked on.
    """
    results: list[R] = []
    batches = [items] if items else []
    while batches:
        batch = batches.pop()
        try:
            results.append(await work(batch))
        except Exception as error:
            if is_transient(error):
                raise
            if len(batch) == 1:
                await on_guilty(batch[0], error)
            else:
                middle = len(batch) // 2
                batches += (batch[middle:], batch[:middle])
    return results


class Slices(Generic[T, R]):
    """Work that is done in slices. Each failure halves them; once all items are done they are doubled again.

    So what takes too long as a whole, on a machine that is starved, still gets done. The caller tries again with the
    same items, of which `work` ignores those that it has done.
    """

    def __init__(self, work: Callable[[Sequence[T]], Awaitable[R]], *, at_most: int, at_least: int = 50) -> None:
        self._work = work
        self._at_most = at_most
        self._at_least = at_least
        self.size = at_most

    async def do(self, items: Sequence[T]) -> list[R]:
        """What `work` returned for each slice. Raises what it raises; the slices before are done then."""
        results: list[R] = []
        begin = 0
        while begin < len(items):
            batch = items[begin : begin + self.size]
            try:
                results.append(await self._work(batch))
            except Exception:
                self.size = max(self._at_least, min(self.size, len(batch)) // 2)
                raise
            begin += len(batch)
        # not after each slice: the next try begins at the first item, and would come to the same failure again
        self.size = min(self._at_most, self.size * 2)
        return results
