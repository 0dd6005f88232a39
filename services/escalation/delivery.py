"""The delivery loop: leases due messages, sends them, and records what became of each of their deliveries.

A kill between sending and recording leaves an unknown outcome: the lease runs out and the same message is sent again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.case import Case, about, envelope
from services.escalation.channels import DeliveryError, Sender
from services.escalation.directory import key_of
from services.escalation.handlers import Escalation
from services.escalation.notification import DESK, OFFICES
from services.escalation.pacing import Limits, Rate, lane, scheme
from services.escalation.rulebook import Bundling, in_force, newness
from services.escalation.store import cases, deliveries, directory
from services.escalation.store.deliveries import DueDelivery, Message
from shared import metrics
from shared.clock import monotonic
from shared.events import DeliveryFinished, DeliveryFinishedData
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
        try:
            await self._attempt(message)
        except Exception as error:
            # The lease stays: whoever finds it run out sends again.
            log.warning("delivery outcome not stored", message=message.message_id, error=type(error).__name__)
        finally:
            self._under_way.subtract([lane(message.channel)])

    async def _attempt(self, message: Message) -> None:
        until = monotonic() + self._seconds + RECORD_SECONDS
        try:
            async with asyncio.timeout(self._seconds):
                outcome = await self._sender.send(message)
        except Exception as error:  # whatever a channel's plug-in may raise, the attempt has failed
            known = error if isinstance(error, DeliveryError) else DeliveryError(type(error).__name__)
            metrics.deliveries.labels("failed").inc(len(message.deliveries))
            await self._recorded(lambda: self._failed(message, known), until)
        else:
            metrics.deliveries.labels(outcome).inc(len(message.deliveries))
            await self._recorded(lambda: self._finish(message, outcome, None), until)

    async def _recorded(self, record: Callable[[], Awaitable[None]], until: float) -> None:
        """Again while the database is away and the lease lasts: what was sent and is not recorded is sent twice."""
        while True:
            try:
                return await record()
            except Exception as error:
                if not is_transient(error) or monotonic() > until:
                    raise
            await asyncio.sleep(RECORD_AGAIN_SECONDS)

    async def _failed(self, message: Message, error: DeliveryError) -> None:
        if error.final or message.attempts > len(RETRY_AFTER_SECONDS):
            await self._finish(message, "given_up", str(error))
            return
        seconds = RETRY_AFTER_SECONDS[message.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311 # jitter
        wait = max(timedelta(seconds=seconds), error.retry_after or timedelta(0))
        async with self._escalation.engine.begin() as connection:
            # Locked, as an acknowledgement locks them: either it comes before and is seen, or it cancels the retry.
            await cases.locked(connection, [d.incident_id for d in message.deliveries])
            now = self._escalation.clock.now()
            await deliveries.retry_deliveries(connection, message, now, now + wait, str(error))

    async def _finish(
        self, message: Message, outcome: Literal["sent", "delivered", "given_up"], error: str | None
    ) -> None:
        """One transaction for all notices of the message."""
        escalation = self._escalation
        async with escalation.engine.begin() as connection:
            found = {c.incident_id: c for c in await cases.locked(connection, _incidents(message.deliveries))}
            now = escalation.clock.now()
            ours = await deliveries.finish_deliveries(connection, message, outcome, now, error)
            if not ours:
                return
            finished = [self._finished(found[d.incident_id], d, outcome) for d in ours]
            await escalation.emit(connection, finished)
            await deliveries.set_sequences(connection, [found[i] for i in _incidents(ours)])
            if outcome == "given_up":
                await self._tell_desk(connection, found, [d for d in ours if d.recipient != DESK])
        escalation.wake()

    def _finished(
        self, case: Case, due: DueDelivery, outcome: Literal["sent", "delivered", "given_up"]
    ) -> DeliveryFinished:
        data = DeliveryFinishedData(
            **about(case, None, {due.recipient} - OFFICES),
            notice_id=due.notice_id,
            delivery_id=due.delivery_id,
            channel=scheme(due.channel),
            outcome=outcome,
            attempts=due.attempts,
            bundle_id=due.bundle_id,
        )
        now = self._escalation.clock.now()
        return DeliveryFinished(**envelope(self._escalation.new_id(), case.incident_id, now), data=data)

    async def _tell_desk(
        self, connection: AsyncConnection, found: dict[str, Case], given_up: list[DueDelivery]
    ) -> None:
        """Of notices that got through by no other channel."""
        through = await deliveries.settled(connection, [d.notice_id for d in given_up])
        lost = [d for d in given_up if d.notice_id not in through and found[d.incident_id].is_open]
        if not lost:
            return
        concerned = await cases.with_history(connection, [found[i] for i in _incidents(lost)], reports=False)
        router = await self._escalation.router(connection, {key_of(case.unit) for case in concerned})
        for due in lost:
            router.tell_office(found[due.incident_id], DESK, "undeliverable", due.posts)
        await self._escalation.save(connection, router.out, router.now)


def _incidents(due: tuple[DueDelivery, ...] | list[DueDelivery]) -> list[str]:
    return sorted({d.incident_id for d in due})
