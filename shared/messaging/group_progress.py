"""How far each group of a stream is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.messaging.stream import Broker


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
