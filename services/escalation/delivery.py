"""The delivery loop: leases due deliveries, sends them, and records what became of each.

A kill between sending and recording leaves an unknown outcome: the lease runs out and the notice is sent again.
"""

import asyncio
import random
from datetime import timedelta
from typing import Literal

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.case import Case, about, envelope
from services.escalation.channels import DeliveryError, Sender, scheme
from services.escalation.handlers import Escalation
from services.escalation.notification import DESK
from services.escalation.store import cases, deadlines, due
from services.escalation.store.due import DueDelivery
from shared import metrics
from shared.events import DeliveryFinished, DeliveryFinishedData

log = structlog.get_logger()
RETRY_AFTER_SECONDS = (1, 5, 20, 60, 180, 600)
"""Waits between attempts; after the last one the delivery is given up and the desk is told."""
SEND_SECONDS = 15
"""Shorter than the lease, so that a slow send is over before it is sent again."""
AT_ONCE = 20


class DeliveryLoop:
    """`step` claims what fits into the free slots and sends it beside what is still under way."""

    def __init__(self, escalation: Escalation, sender: Sender) -> None:
        self._escalation, self._sender = escalation, sender
        self._sending: set[asyncio.Task[None]] = set()

    async def step(self) -> bool:
        free = AT_ONCE - len(self._sending)
        if free == 0:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
            return True
        async with self._escalation.engine.begin() as connection:
            claimed = await due.claim_deliveries(connection, self._escalation.clock.now(), free)
        for delivery in claimed:
            task = asyncio.create_task(self._deliver(delivery))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return len(claimed) == free

    async def drain(self) -> None:
        """Let what is under way finish; called when the service stops."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=SEND_SECONDS)

    async def _deliver(self, delivery: DueDelivery) -> None:
        try:
            await self._attempt(delivery)
        except Exception as error:
            # The lease stays: whoever finds it run out sends again.
            log.warning("delivery outcome not stored", delivery=delivery.delivery_id, error=type(error).__name__)

    async def _attempt(self, delivery: DueDelivery) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._sender.send(delivery)
        except Exception as error:  # whatever a channel's plug-in may raise, the attempt has failed
            reason = str(error) if isinstance(error, DeliveryError) else type(error).__name__
            metrics.deliveries.labels("failed").inc()
            await self._failed(delivery, reason)
        else:
            metrics.deliveries.labels("sent").inc()
            await self._finish(delivery, "sent", None)

    async def _failed(self, delivery: DueDelivery, reason: str) -> None:
        if delivery.attempts > len(RETRY_AFTER_SECONDS):
            await self._finish(delivery, "given_up", reason)
            return
        wait = RETRY_AFTER_SECONDS[delivery.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311 # jitter
        async with self._escalation.engine.begin() as connection:
            # Locked, as an acknowledgement locks it: either it comes before and is seen, or it cancels the retry.
            await cases.locked(connection, [delivery.incident_id])
            now = self._escalation.clock.now()
            await due.retry_delivery(connection, delivery, now, now + timedelta(seconds=wait), reason)

    async def _finish(self, delivery: DueDelivery, outcome: Literal["sent", "given_up"], error: str | None) -> None:
        escalation = self._escalation
        async with escalation.engine.begin() as connection:
            (case,) = found = await cases.locked(connection, [delivery.incident_id])
            now = escalation.clock.now()
            if not await due.finish_delivery(connection, delivery, outcome, now, error):
                return
            data = DeliveryFinishedData(
                **about(case, None, set() if delivery.recipient == DESK else {delivery.recipient}),
                notice_id=delivery.notice_id,
                delivery_id=delivery.delivery_id,
                channel=scheme(delivery.channel),
                outcome=outcome,
                attempts=delivery.attempts,
            )
            finished = DeliveryFinished(**envelope(escalation.new_id(), case.incident_id, now), data=data)
            await escalation.emit(connection, [finished])
            if outcome == "given_up" and delivery.recipient != DESK:
                await self._tell_desk(connection, found, delivery)
            await deadlines.set_progress(connection, case.incident_id, case.state, case.sequence)
        escalation.wake()

    async def _tell_desk(self, connection: AsyncConnection, found: list[Case], delivery: DueDelivery) -> None:
        """Unless the notice got through otherwise."""
        if await due.is_settled(connection, delivery.notice_id):
            return
        (case,) = await cases.with_history(connection, found)
        router = await self._escalation.router(connection, {(case.unit.code, case.unit.valid_from)})
        router.tell_office(case, DESK, "undeliverable", delivery.posts)
        await self._escalation.save(connection, router.out, router.now)
