"""Wiring of the intake service."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from services.intake import store
from services.intake.api.routes import router
from services.intake.application.handlers import Intake
from shared import messaging
from shared.clock import Clock
from shared.database import connect
from shared.events import parse
from shared.http.identity import verifier
from shared.http.web import Check, Service, checks_of, service_app
from shared.keys import secret
from shared.messaging import ESCALATION, INTAKE, Consumer, Relay, dead_letter_health_failure
from shared.settings import Settings

NAME = "intake"


def build(settings: Settings, clock: Clock) -> Service:
    """The service against `settings`' database and broker, both set."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    intake = Intake(
        engine=connect(settings.database_url),
        clock=clock,
        partitions=settings.partitions,
        content_key=secret(settings.keys_dir, "content"),
        reporter_key=secret(settings.keys_dir, "reporter"),
    )
    app = service_app(NAME, verifier(settings.keys_dir), router)
    app.state.intake = intake
    redis = messaging.connect(settings.redis_url)
    relay = Relay(intake.engine, redis, store.outbox, messaging.streams(INTAKE, settings.partitions))
    intake.wakes.append(relay.wake)
    consumer = Consumer(
        settings.redis_url,
        list(messaging.streams(ESCALATION, settings.partitions)),
        NAME,
        settings.consumer,
        parse,
        intake.on_events,
        intake.engine,
        store.dead_letter,
        claim_idle=settings.claim_idle_seconds,
        dead_after=settings.dead_letter_after,
    )

    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(intake.engine.dispose)
            stack.push_async_callback(redis.aclose)
            for part in (relay, consumer, intake):
                await stack.enter_async_context(part.running())
            yield

    async def checks() -> Sequence[Check]:
        known = await intake.units()
        complaints = {
            "relay": relay.health_failure(),
            "consumer": consumer.health_failure(),
            "commits": intake.health_failure(),
            "wards": None if known else "no wards known: run 'trucban import wards FILE'",
            "dead_letters": await dead_letter_health_failure(intake.engine, store.dead_letter),
        }
        return checks_of(complaints)

    return Service(NAME, app, running, checks, {"intake": intake, "redis": redis})
