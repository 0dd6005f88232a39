"""Wiring of the escalation service."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from services.escalation import deadlines
from services.escalation.api import router
from services.escalation.channels import Sender, print_line
from services.escalation.delivery import DeliveryLoop
from services.escalation.handlers import Escalation, on_reports
from services.escalation.importing import adopt_rulebooks, packaged_rulebooks
from services.escalation.routing import Channels
from services.escalation.store import due, tables
from shared import messaging
from shared.clock import Clock
from shared.database import connect
from shared.events import Event, ReportReceived, parse
from shared.identity import verifier
from shared.loop import Loop
from shared.messaging import ESCALATION, INTAKE, Consumer, Relay, dead_letter_complaint
from shared.settings import Settings
from shared.web import Check, Service, checks_of, service_app

log = structlog.get_logger()
GROUP = "escalation"
POLL_SECONDS = 0.2


def wired(settings: Settings, clock: Clock) -> Escalation:
    """The service's core against `settings.database_url`, for the running service and for the command line."""
    assert settings.database_url is not None
    return Escalation(
        engine=connect(settings.database_url),
        clock=clock,
        partitions=settings.partitions,
        channels=Channels(settings.desk_channel, settings.leadership_channel, settings.log_channel),
    )


def build(settings: Settings, clock: Clock) -> Service:
    assert settings.redis_url is not None
    redis_url = settings.redis_url
    escalation = wired(settings, clock)
    app = service_app(GROUP, verifier(settings.keys_dir), router)
    app.state.escalation = escalation
    redis = messaging.connect(redis_url)
    relay = Relay(escalation.engine, redis, tables.outbox, messaging.streams(ESCALATION, settings.partitions))
    printed = print_line if settings.print_notices else None
    sending = DeliveryLoop(escalation, Sender(settings.data / "outbox.ndjson", printed=printed))
    delivery = Loop("delivery", sending.step, POLL_SECONDS)

    async def pass_deadlines() -> bool:
        return await deadlines.pass_deadlines(escalation) > 0

    passing = Loop("deadlines", pass_deadlines, POLL_SECONDS)
    escalation.wakes.extend([relay.wake, delivery.wake])

    async def handle(events: Sequence[Event]) -> None:
        reports = [e for e in events if isinstance(e, ReportReceived)]
        if reports:
            await on_reports(escalation, reports)

    consumer = Consumer(
        redis_url,
        list(messaging.streams(INTAKE, settings.partitions)),
        GROUP,
        settings.consumer,
        parse,
        handle,
        escalation.engine,
        tables.dead_letter,
        claim_idle=settings.claim_idle_seconds,
        dead_after=settings.dead_letter_after,
    )

    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(escalation.engine.dispose)
            stack.push_async_callback(redis.aclose)
            await adopt_rulebooks(escalation, packaged_rulebooks())
            stack.push_async_callback(sending.drain)
            for part in (relay, delivery, passing, consumer):
                await stack.enter_async_context(part.running())
            yield

    async def checks() -> Sequence[Check]:
        async with escalation.engine.connect() as connection:
            overdue = await due.overdue_deliveries(connection, clock.now())
        complaints = {
            "relay": relay.complaint(),
            "consumer": consumer.complaint(),
            "delivery": delivery.complaint() or (f"{overdue} deliveries are overdue" if overdue else None),
            "deadlines": passing.complaint(),
            "dead_letters": await dead_letter_complaint(escalation.engine, tables.dead_letter),
        }
        return checks_of(complaints)

    return Service(GROUP, app, running, checks, {"escalation": escalation, "deadlines": passing, "redis": redis})
