"""Finding the item that makes a batch fail."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

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
