"""The delivery loop: it leases due messages, sends them, and has the results recorded.

If the process is killed between sending and recording, the outcome is unknown. The lease then runs out, and the same
message is sent again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from services.escalation.application import metrics
from services.escalation.application.adopt_rulebooks import bundling_now
from services.escalation.application.claim_deliveries import UnderWay, claim_deliveries, forget_contents
from services.escalation.application.delivery_results import record
from services.escalation.application.due_work import next_delivery_in
from services.escalation.application.escalation import Escalation
from services.escalation.domain.notices.message import LEASE, Attempt, Message
from services.escalation.domain.notices.pacing import Limits, Rate, host_of
from services.escalation.domain.rules.rulebook import Bundling
from services.escalation.sending.channels import DeliveryError, Sender
from shared.clock import monotonic
from shared.group_commit import GroupCommit
from shared.halving import work_in_halves
from shared.messaging import describe_error, is_transient

log = structlog.get_logger()
RETRY_AFTER_SECONDS = (1, 5, 20, 60, 180, 600)
"""Waits between attempts. After the last attempt the delivery is given up, and the desk is notified."""
SEND_SECONDS = 15.0
"""Shorter than the lease, so that a slow attempt ends before the message is sent again."""
RECORD_AGAIN_SECONDS = 0.2
UNSTORED_SECONDS = 9.0
"""For so long the outcome of an attempt may wait to be stored, until the loop is not healthy."""
MESSAGES_A_CLAIM = 256
PER_HOST_AT_ONCE = 16
"""Messages under way to one server. There is no limit over all servers, so that one that hangs delays no other."""
GATEWAY = Rate(burst=20, every=timedelta(milliseconds=50))
"""The most that one server is given. A server that wants less says so (429, Retry-After), and its own limit counts. So
this is no setting: it only limits a storm on one server."""
BUNDLING_SECONDS = 5.0
"""How long the bundling of the rulebook in force is cached."""
FORGET_SECONDS = 60.0
"""How often the contents of messages that are not sent again are deleted."""


class DeliveryLoop:
    """Sends deliveries. `step` claims what may go now, and sends it beside what is still under way."""

    def __init__(self, escalation: Escalation, sender: Sender, *, seconds: float = SEND_SECONDS) -> None:
        self._escalation, self._sender, self._seconds = escalation, sender, seconds
        self._sending: set[asyncio.Task[None]] = set()
        self._under_way = Counter[str]()
        self._deliveries: set[str] = set()
        """Ids of the deliveries under way."""
        self._forgot_at = monotonic()
        self._bundling: tuple[float, Bundling] | None = None
        self._recording = GroupCommit[Attempt, None](self._record_group)
        self._ended: dict[str, float] = {}
        """When an attempt ended whose outcome is not stored yet, by message id, on the monotonic clock."""

    async def next_in(self) -> float:
        """Return in how many seconds a delivery may go. What was sent long ago is forgotten first."""
        if monotonic() - self._forgot_at > FORGET_SECONDS:
            await forget_contents(self._escalation)
            self._forgot_at = monotonic()
        return await next_delivery_in(self._escalation)

    async def step(self) -> bool:
        """Claim messages and start to send them. Returns whether more is due that can be claimed at once."""
        under_way = UnderWay(self._under_way, self._deliveries)
        claimed = await claim_deliveries(self._escalation, await self._limits(), under_way, self._compose)
        for message in claimed.messages:
            self._under_way[host_of(message.channel)] += 1
            self._deliveries.update(d.delivery_id for d in message.deliveries)
            task = asyncio.create_task(self._deliver(message))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return claimed.more

    def health_failure(self) -> str | None:
        """Return what is wrong, or None while outcomes are stored."""
        longest = monotonic() - min(self._ended.values(), default=monotonic())
        if longest < UNSTORED_SECONDS:
            return None
        return f"the outcomes of {len(self._ended)} messages have not been stored for {longest:.0f} s: see the log"

    async def drain(self) -> bool:
        """Wait until what is under way is sent and recorded. Returns False if nothing was.

        Call it when the service stops, after the last step.
        """
        if not self._sending:
            return False
        await asyncio.wait(self._sending, timeout=LEASE.total_seconds())
        return True

    async def _limits(self) -> Limits:
        if self._bundling is None or monotonic() - self._bundling[0] > BUNDLING_SECONDS:
            self._bundling = monotonic(), await bundling_now(self._escalation)
        bundling = self._bundling[1]
        contact = Rate(bundling.at_once, timedelta(seconds=bundling.then_every_seconds))
        return Limits(contact, GATEWAY, messages=MESSAGES_A_CLAIM, per_host=PER_HOST_AT_ONCE)

    async def _deliver(self, message: Message) -> None:
        try:
            attempt = await self._attempt(message)
            self._ended[message.message_id] = monotonic()
            await self._recording.add(attempt)
        finally:
            self._ended.pop(message.message_id, None)
            if self._under_way[host_of(message.channel)] >= PER_HOST_AT_ONCE:
                self._escalation.wake()  # another message to this server may have waited for its turn
            self._under_way.subtract([host_of(message.channel)])
            self._deliveries.difference_update(d.delivery_id for d in message.deliveries)

    def _compose(self, message: Message) -> bytes | None:
        """Compose a message. One that cannot be composed holds up no other: the attempt to send it fails."""
        try:
            return self._sender.compose(message)
        except Exception as error:
            log.warning("message not composed", message=message.message_id, error=describe_error(error))
            return None

    async def _attempt(self, message: Message) -> Attempt:
        try:
            async with asyncio.timeout(self._seconds):
                outcome = await self._sender.send(message)
        except Exception as error:  # a channel's plug-in may raise anything
            metrics.deliveries.labels("failed").inc(len(message.deliveries))
            known = error if isinstance(error, DeliveryError) else DeliveryError(type(error).__name__)
            return _failed(message, known, self._escalation.clock.now())
        metrics.deliveries.labels(outcome).inc(len(message.deliveries))
        return Attempt(message, outcome, self._escalation.clock.now())

    async def _record_group(self, ended: Sequence[Attempt]) -> list[None]:
        """Record attempts. One that cannot be recorded holds up no other: its message is sent again."""

        async def leave(attempt: Attempt, error: Exception) -> None:
            log.warning("delivery outcome not stored", message=attempt.message.message_id, error=describe_error(error))

        try:
            await work_in_halves(ended, self._record, leave, is_transient)
        except Exception as error:
            # The leases stay. Once they have run out, the messages are sent again.
            log.warning("delivery outcomes not stored", messages=len(ended), error=describe_error(error))
        return [None] * len(ended)

    async def _record(self, ended: Sequence[Attempt]) -> None:
        """Try again while the database is away and a lease may last: what is not recorded is sent twice."""
        until = monotonic() + LEASE.total_seconds()
        while True:
            try:
                return await record(self._escalation, ended)
            except Exception as error:
                if not is_transient(error) or monotonic() >= until:
                    raise
                await asyncio.sleep(RECORD_AGAIN_SECONDS)


def _failed(message: Message, error: DeliveryError, at: datetime) -> Attempt:
    if error.final or message.attempts > len(RETRY_AFTER_SECONDS):
        # Whoever reads the log runs this system. Nobody else but administrators is told what came back.
        log.warning("message given up", message=message.message_id, error=str(error))
        return Attempt(message, "given_up", at, str(error))
    seconds = RETRY_AFTER_SECONDS[message.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311 # jitter
    wait = max(timedelta(seconds=seconds), error.retry_after or timedelta(0))
    return Attempt(message, "failed", at, str(error), wait)
