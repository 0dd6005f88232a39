"""Claim due deliveries: which go now, in which messages, and which wait. One transaction."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.notices import pacing
from services.escalation.domain.notices.message import Message
from services.escalation.domain.notices.pacing import Limits, Waiting
from services.escalation.store import deliveries, delivery_attempts
from services.escalation.store.deliveries import DueRow
from shared.clock import monotonic
from shared.ids import uuid7

WINDOW = 2_000
"""How many due deliveries one claim looks at. A bundle cannot hold more."""
Compose = Callable[[Message], bytes | None]
"""Returns what is sent under the message's id, or None on a channel whose messages have no id."""


@dataclass(frozen=True)
class Claimed:
    messages: list[Message] = field(default_factory=list[Message])
    more: bool = False
    """Whether others are due that this claim did not take."""
    found: bool = False
    """Whether anything was due that nobody else had locked."""


@dataclass(frozen=True)
class UnderWay:
    """What the caller is sending."""

    hosts: Mapping[str, int] = field(default_factory=Counter[str])
    """Number of messages by host."""
    deliveries: Collection[str] = ()
    """Ids of deliveries. They are not claimed, even if the clock was set forward and their lease seems to be over."""


def has_no_id(message: Message) -> None:
    """Compose nothing."""
    del message


async def claim_deliveries(
    escalation: Escalation, limits: Limits, under_way: UnderWay, compose: Compose = has_no_id
) -> Claimed:
    """Lease due deliveries to the caller, who sends them after this returns."""
    async with escalation.database.begin() as connection:
        claimed = await claim(connection, escalation.clock.now(), limits, under_way, compose=compose)
    if claimed.found:
        escalation.worked["deliveries"] = monotonic()
    return claimed


async def claim(
    connection: AsyncConnection,
    now: datetime,
    limits: Limits,
    under_way: UnderWay,
    window: int = WINDOW,
    compose: Compose = has_no_id,
) -> Claimed:
    """Claim in the caller's transaction. The caller must commit before it sends anything.

    What a contact or a gateway cannot take yet is postponed. What need not be sent any more is cancelled. What is sent
    under an id is stored with the lease, so that it is the same however often it is sent.
    """
    locked = await deliveries.lock_due(connection, now, window, under_way.deliveries)
    is_crowded = len(locked) == window
    due = await _in_whole_bundles(connection, locked)
    if stale := [row.delivery_id for row in due if row.stale]:
        await deliveries.cancel(connection, stale, now)
    waiting = [_waiting(row) for row in due if not row.stale]
    if not waiting:
        return Claimed(more=is_crowded, found=bool(locked))
    keys = {key for w in waiting for key in (w.contact, w.gateway) if key is not None}
    allowed = await deliveries.lock_pace(connection, keys, now)
    shares = pacing.share(waiting, allowed, now, limits, under_way.hosts, crowded=is_crowded)
    await deliveries.postpone(connection, shares.postponed, now)
    await deliveries.charge(connection, shares.charged, now)
    bundles = _bundles(shares.messages, due, now)
    ids = [[w.delivery_id for w in message] for message in shares.messages]
    messages = await delivery_attempts.lease(connection, ids, bundles, now)
    contents = {m.message_id: content for m in messages if (content := compose(m)) is not None}
    kept = await delivery_attempts.keep(connection, contents)
    messages = [replace(m, content=kept.get(m.message_id)) for m in messages]
    return Claimed(messages, is_crowded or len(messages) == limits.messages, found=True)


async def forget_contents(escalation: Escalation) -> None:
    """Delete what is kept of messages that are not sent again."""
    async with escalation.database.begin() as connection:
        await delivery_attempts.forget(connection)


async def _in_whole_bundles(connection: AsyncConnection, locked: Sequence[DueRow]) -> list[DueRow]:
    """Return the rows without bundles of which another transaction holds a part: it may send the same message."""
    mine = Counter(row.bundle_id for row in locked if row.bundle_id is not None)
    all_of = await deliveries.unfinished_in(connection, mine)
    return [row for row in locked if row.bundle_id is None or mine[row.bundle_id] == all_of[row.bundle_id]]


def _waiting(row: DueRow) -> Waiting:
    return Waiting(
        delivery_id=row.delivery_id,
        host=pacing.host_of(row.channel),
        contact=pacing.contact_key(row.channel) if row.of_incident and not row.exercise else None,
        gateway=pacing.gateway_key(row.channel),
        message=(row.bundle_id or row.delivery_id) if row.attempts else None,
        severity=row.severity,
    )


def _bundles(messages: Sequence[Sequence[Waiting]], due: Sequence[DueRow], now: datetime) -> dict[str, str | None]:
    """Return the bundle of each delivery, by delivery id.

    Deliveries that are first sent together get a new bundle. Others keep what they have.
    """
    found = {row.delivery_id: row.bundle_id for row in due}
    for message in messages:
        if len(message) > 1 and message[0].message is None:
            found |= dict.fromkeys((w.delivery_id for w in message), uuid7(now))
    return found
