"""Claim due deliveries: which go now, in which messages, and which wait. One transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.notices import pacing
from services.escalation.domain.notices.message import Message
from services.escalation.domain.notices.pacing import Limits, Waiting
from services.escalation.store import deliveries
from services.escalation.store.deliveries import DueRow
from shared.ids import uuid7

WINDOW = 2_000
"""How many due deliveries one claim looks at. A bundle cannot hold more."""


@dataclass(frozen=True)
class Claimed:
    messages: list[Message] = field(default_factory=list[Message])
    more: bool = False
    """Whether others are due that this claim did not take."""


async def claim_deliveries(
    escalation: Escalation, limits: Limits, under_way: Mapping[str, int] | None = None
) -> Claimed:
    """Lease due deliveries to the caller, who sends them after this returns.

    `under_way`: number of messages that the caller is sending, by host.
    """
    async with escalation.database.begin() as connection:
        return await claim(connection, escalation.clock.now(), limits, under_way or {})


async def claim(
    connection: AsyncConnection, now: datetime, limits: Limits, under_way: Mapping[str, int], window: int = WINDOW
) -> Claimed:
    """Claim in the caller's transaction. The caller must commit before it sends anything.

    What a contact or a gateway cannot take yet is postponed. What need not be sent any more is cancelled.
    """
    due = await deliveries.lock_due(connection, now, window)
    is_crowded = len(due) == window
    if stale := [row.delivery_id for row in due if row.stale]:
        await deliveries.cancel(connection, stale, now)
    waiting = [_waiting(row) for row in due if not row.stale]
    if not waiting:
        return Claimed(more=is_crowded)
    keys = {key for w in waiting for key in (w.contact, w.gateway) if key is not None}
    allowed = await deliveries.lock_pace(connection, keys, now)
    shares = pacing.share(waiting, allowed, now, limits, under_way, crowded=is_crowded)
    await deliveries.postpone(connection, shares.postponed)
    await deliveries.charge(connection, shares.charged)
    bundles = _bundles(shares.messages, due, now)
    ids = [[w.delivery_id for w in message] for message in shares.messages]
    messages = await deliveries.lease(connection, ids, bundles, now)
    return Claimed(messages, is_crowded or len(messages) == limits.messages)


def _waiting(row: DueRow) -> Waiting:
    return Waiting(
        delivery_id=row.delivery_id,
        host=pacing.host_of(row.channel),
        contact=None if row.exercise else pacing.contact_key(row.channel),
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
