"""The delivery loop: leases due messages, sends them, and has recorded what became of them.

A kill between sending and recording leaves an unknown outcome: the lease runs out and the same message is sent again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.channels import DeliveryError, Sender
from services.escalation.handlers import Escalation
from services.escalation.outcomes import record
from services.escalation.pacing import Limits, Rate, lane
from services.escalation.rulebook import Bundling, in_force, newness
from services.escalation.store import deliveries, directory
from services.escalation.store.deliveries import Attempt, Message
from shared import metrics
from shared.clock import monotonic
from shared.messaging import is_transient

log = structlog.get_logger()
RETRY_AFTER_SECONDS = (1, 5, 20, 60, 180, 600)
"""Waits between attempts; after the last one the delivery is given up and the desk is told."""
SEND_SECONDS = 15.0
"""Shorter than the lease, so that a slow send is over before it is sent again."""
RECORD_SECONDS = 3.0
RECORD_AGAIN_SECONDS = 0.2
MESSAGES_A_CLAIM = 256
LANE_AT_ONCE = 16
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
        self._recording = asyncio.Lock()
        self._ended: list[Attempt] = []

    async def step(self) -> bool:
        """Whether more is due that can be claimed at once."""
        async with self._escalation.engine.begin() as connection:
            limits = await self._limits(connection)
            now = self._escalation.clock.now()
            claimed = await deliveries.claim_deliveries(connection, now, limits, self._under_way)
        for message in claimed.messages:
            self._under_way[lane(message.channel)] += 1
            task = asyncio.create_task(self._deliver(message))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return claimed.more

    async def drain(self) -> bool:
        """Let what is under way finish and be recorded; called when the service stops. False if nothing was."""
        if not self._sending:
            return False
        await asyncio.wait(self._sending, timeout=self._seconds + RECORD_SECONDS)
        return True

    async def _limits(self, connection: AsyncConnection) -> Limits:
        if self._bundling is None or monotonic() - self._bundling[0] > BUNDLING_SECONDS:
            books = await directory.rulebooks(connection)
            book = in_force(books, self._escalation.clock.now()) or max(books, key=newness, default=None)
            self._bundling = monotonic(), book.rulebook.bundling if book else Bundling()
        bundling = self._bundling[1]
        contact = Rate(bundling.at_once, timedelta(seconds=bundling.then_every_seconds))
        return Limits(contact, GATEWAY, messages=MESSAGES_A_CLAIM, lane=LANE_AT_ONCE)

    async def _deliver(self, message: Message) -> None:
        until = monotonic() + self._seconds + RECORD_SECONDS
        try:
            attempt = await self._attempt(message)
            self._ended.append(attempt)
            # Whoever comes first records what has gathered while the one before was recording.
            async with self._recording:
                ended, self._ended = self._ended, []
                await self._record(ended, until)
        finally:
            self._under_way.subtract([lane(message.channel)])

    async def _attempt(self, message: Message) -> Attempt:
        try:
            async with asyncio.timeout(self._seconds):
                outcome = await self._sender.send(message)
        except Exception as error:  # whatever a channel's plug-in may raise, the attempt has failed
            metrics.deliveries.labels("failed").inc(len(message.deliveries))
            return _failed(message, error if isinstance(error, DeliveryError) else DeliveryError(type(error).__name__))
        metrics.deliveries.labels(outcome).inc(len(message.deliveries))
        return Attempt(message, outcome)

    async def _record(self, ended: Sequence[Attempt], until: float) -> None:
        """Again while the database is away and the lease lasts: what was sent and is not recorded is sent twice."""
        while ended:
            try:
                await record(self._escalation, ended)
            except Exception as error:
                if is_transient(error) and monotonic() < until:
                    await asyncio.sleep(RECORD_AGAIN_SECONDS)
                elif len(ended) > 1:
                    for attempt in ended:  # one that cannot be recorded takes no other with it
                        await self._record([attempt], until)
                    return
                else:
                    # The lease stays: whoever finds it run out sends again.
                    message, known = ended[0].message.message_id, type(error).__name__
                    log.warning("delivery outcome not stored", message=message, error=known)
                    return
            else:
                return


def _failed(message: Message, error: DeliveryError) -> Attempt:
    if error.final or message.attempts > len(RETRY_AFTER_SECONDS):
        return Attempt(message, "given_up", str(error))
    seconds = RETRY_AFTER_SECONDS[message.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311 # jitter
    wait = max(timedelta(seconds=seconds), error.retry_after or timedelta(0))
    return Attempt(message, "failed", str(error), wait)
