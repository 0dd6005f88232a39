"""The delivery loop: leases due messages, sends them, and has recorded what became of them.

A kill between sending and recording leaves an unknown outcome: the lease runs out and the same message is sent again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application import metrics
from services.escalation.application.delivery_results import record
from services.escalation.application.escalation import Escalation
from services.escalation.domain.notices.pacing import Limits, Rate, host_of
from services.escalation.domain.rules.rulebook import Bundling, in_force, newness
from services.escalation.sending.channels import DeliveryError, Sender
from services.escalation.store import deliveries, directory
from services.escalation.store.deliveries import LEASE, Attempt, Message
from shared.clock import monotonic
from shared.group_commit import GroupCommit
from shared.messaging import is_transient

log = structlog.get_logger()
RETRY_AFTER_SECONDS = (1, 5, 20, 60, 180, 600)
"""Waits between attempts; after the last one the delivery is given up and the desk is told."""
SEND_SECONDS = 15.0
"""Shorter than the lease, so that a slow send is over before it is sent again."""
RECORD_AGAIN_SECONDS = 0.2
MESSAGES_A_CLAIM = 256
PER_HOST_AT_ONCE = 16
"""Messages under way to one server. What hangs there takes no other's place: over all servers there is no limit."""
GATEWAY = Rate(burst=20, every=timedelta(milliseconds=50))
"""What a server is given at most. One that wants less says so (429, Retry-After), and its own limit is what counts:
so this is no setting, only the end of a storm on one server."""
BUNDLING_SECONDS = 5.0
"""So long the rulebook's word on bundling is not read again."""


class DeliveryLoop:
    """`step` claims what may go now, and sends it beside what is still under way."""

    def __init__(self, escalation: Escalation, sender: Sender, *, seconds: float = SEND_SECONDS) -> None:
        self._escalation, self._sender, self._seconds = escalation, sender, seconds
        self._sending: set[asyncio.Task[None]] = set()
        self._under_way = Counter[str]()
        self._bundling: tuple[float, Bundling] | None = None
        self._recording = GroupCommit[Attempt, None](self._record_group)

    async def step(self) -> bool:
        """Whether more is due that can be claimed at once."""
        async with self._escalation.database.begin() as connection:
            limits = await self._limits(connection)
            now = self._escalation.clock.now()
            claimed = await deliveries.claim_deliveries(connection, now, limits, self._under_way)
        for message in claimed.messages:
            self._under_way[host_of(message.channel)] += 1
            task = asyncio.create_task(self._deliver(message))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return claimed.more

    async def drain(self) -> bool:
        """Let what is under way finish and be recorded; called when the service stops. False if nothing was."""
        if not self._sending:
            return False
        await asyncio.wait(self._sending, timeout=LEASE.total_seconds())
        return True

    async def _limits(self, connection: AsyncConnection) -> Limits:
        if self._bundling is None or monotonic() - self._bundling[0] > BUNDLING_SECONDS:
            books = await directory.rulebooks(connection)
            book = in_force(books, self._escalation.clock.now()) or max(books, key=newness, default=None)
            self._bundling = monotonic(), book.rulebook.bundling if book else Bundling()
        bundling = self._bundling[1]
        contact = Rate(bundling.at_once, timedelta(seconds=bundling.then_every_seconds))
        return Limits(contact, GATEWAY, messages=MESSAGES_A_CLAIM, per_host=PER_HOST_AT_ONCE)

    async def _deliver(self, message: Message) -> None:
        try:
            await self._recording.add(await self._attempt(message))
        finally:
            self._under_way.subtract([host_of(message.channel)])

    async def _attempt(self, message: Message) -> Attempt:
        try:
            async with asyncio.timeout(self._seconds):
                outcome = await self._sender.send(message)
        except Exception as error:  # whatever a channel's plug-in may raise, the attempt has failed
            metrics.deliveries.labels("failed").inc(len(message.deliveries))
            known = error if isinstance(error, DeliveryError) else DeliveryError(type(error).__name__)
            return _failed(message, known, self._escalation.clock.now())
        metrics.deliveries.labels(outcome).inc(len(message.deliveries))
        return Attempt(message, outcome, self._escalation.clock.now())

    async def _record_group(self, ended: Sequence[Attempt]) -> list[None]:
        await self._record(ended)
        return [None] * len(ended)

    async def _record(self, ended: Sequence[Attempt]) -> None:
        """Again while the database is away and a lease may last: what was sent and is not recorded is sent twice."""
        until = monotonic() + LEASE.total_seconds()
        while True:
            try:
                return await record(self._escalation, ended)
            except Exception as error:
                if is_transient(error) and monotonic() < until:
                    await asyncio.sleep(RECORD_AGAIN_SECONDS)
                    continue
                if len(ended) == 1 or is_transient(error):
                    # The lease stays: whoever finds it run out sends again.
                    log.warning("delivery outcomes not stored", messages=len(ended), error=type(error).__name__)
                    return None
            for attempt in ended:  # one that cannot be recorded takes no other with it
                await self._record([attempt])
            return None


def _failed(message: Message, error: DeliveryError, at: datetime) -> Attempt:
    if error.final or message.attempts > len(RETRY_AFTER_SECONDS):
        return Attempt(message, "given_up", at, str(error))
    seconds = RETRY_AFTER_SECONDS[message.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311 # jitter
    wait = max(timedelta(seconds=seconds), error.retry_after or timedelta(0))
    return Attempt(message, "failed", at, str(error), wait)
