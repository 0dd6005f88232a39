"""What a handler leaves of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Left(Generic[T_co]):
    """What a handler answers that has committed the rest of a batch."""

    events: Sequence[T_co]
    """Those of the batch that it could not take now. They come again soon, before any later event."""
    why: str
    """For the log and for health. It must not quote a person."""
