"""How far each group of a stream is, and whether one has caught up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from shared.messaging.stream import Broker

EMPTY_SECONDS = 1.0
"""Far longer than a relay takes from its look at a stream to its first entry."""


@dataclass(frozen=True)
class GroupProgress:
    """`published` and `delivered` are entry numbers: the stream's last, and the last handed to the group."""

    stream: str
    group: str
    exists: bool
    published: int
    delivered: int
    pending: int
    caught_up: bool
    idle_ms: int
    """Since the group's oldest pending entry was last handed to a consumer."""
    dead: int
    """Dead letters of the stream that the broker holds, of all groups; dead_letter tables have their bodies."""


async def progress(broker: Broker, streams: Mapping[str, Sequence[str]]) -> list[GroupProgress]:
    """One for each group of each stream. Raises what the broker's client raises."""
    found: list[GroupProgress] = []
    for name, groups in streams.items():
        stream = broker.stream(name, groups)
        state = await stream.state()
        dead = await stream.count_dead()
        for group in groups:
            known = state.groups.get(group)
            if known is None:
                found.append(GroupProgress(name, group, False, state.last_number, 0, 0, False, 0, dead))
                continue
            idle = await stream.idle_ms(group) if known.pending else 0
            last, caught_up = state.last_number, known.has_all(state.last_number)
            found.append(GroupProgress(name, group, True, last, known.delivered, known.pending, caught_up, idle, dead))
    return found


class CatchUp:
    """Whether a group, by whichever of its consumers, has handled all that was published before the first look."""

    def __init__(self, broker: Broker, streams: Mapping[str, Sequence[str]], group: str) -> None:
        self._streams = [broker.stream(name, groups) for name, groups in streams.items()]
        self._group = group
        self._published: dict[str, int] = {}
        """The last number of each stream when it was first looked at."""
        self._empty_since: dict[str, float] = {}

    @property
    def is_done(self) -> bool:
        """As `look` last found. Once it is, it stays so."""
        return not self._streams

    async def look(self, *, from_nothing: bool) -> None:
        """Ask the broker. Raises what the broker's client raises.

        `from_nothing`: nobody has ever read these streams for us. Then an empty one may be one whose relay has not yet
        come to it: it counts once the relay has been there, and has left it empty for a second.
        """
        for stream in list(self._streams):
            state = await stream.state()
            known = state.groups.get(self._group)
            if state.last_number == 0 and from_nothing:
                visited = known is not None and known.handled is not None
                if not visited or monotonic() - self._empty_since.setdefault(stream.name, monotonic()) < EMPTY_SECONDS:
                    continue
            last = self._published.setdefault(stream.name, state.last_number)
            if 0 < state.last_number < last:
                # it was published again; the higher number may have been a forged one
                last = self._published[stream.name] = state.last_number
            if last == 0 or (known is not None and known.passed >= last):
                self._streams.remove(stream)
