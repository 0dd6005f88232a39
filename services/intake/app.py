"""Wiring of the intake service."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from services.intake import store
from services.intake.api.rights import RIGHTS
from services.intake.api.routes import BATCHES_AT_ONCE, router
from services.intake.api.turns import Turns
from services.intake.application.accept_reports import ReportAcceptance
from services.intake.application.intake import Intake
from services.intake.application.record_escalation_events import record_escalation_events
from services.intake.application.record_seen import record_seen
from shared import messaging, pseudonym
from shared.clock import Clock
from shared.credentials.following import handing_over
from shared.credentials.learning import Learning
from shared.database import connect
from shared.events import parse
from shared.http.health import Check, checks_of
from shared.http.identity import verifier
from shared.http.web import Service, rate_of, service_app
from shared.keys import secret
from shared.messaging import (
    ESCALATION,
    INTAKE,
    BrokerError,
    CatchUp,
    Consumer,
    DeadLetterRetries,
    Outbox,
    Relay,
    dead_letter_health_failure,
    settle_partitions,
)
from shared.probe import Probe, commit_nothing
from shared.settings import Settings

NAME = "intake"
POOL_SIZE = 10
"""Connections for the work; the relay holds one a partition beside them."""


@dataclass(frozen=True, kw_only=True)
class IntakeService(Service):
    """Intake as it runs in a process."""

    intake: Intake
    acceptance: ReportAcceptance
    outbox: Outbox
    """Where its events wait until they are published."""
    learning: Learning
    """How it learns of revocations."""


def connect_intake(settings: Settings, clock: Clock) -> Intake:
    """What the use cases need, against `settings.database_url`. Dispose of its `database` in the end."""
    assert settings.database_url is not None
    return Intake(
        database=connect(settings.database_url, POOL_SIZE + settings.partitions),
        clock=clock,
        partitions=settings.partitions,
        content_key=secret(settings.keys_dir, "content"),
        reporter_key=secret(settings.keys_dir, "reporter"),
        pseudonym_key=secret(settings.keys_dir, pseudonym.KEY),
    )


def build(settings: Settings, clock: Clock) -> IntakeService:
    """The service against the database and the broker of `settings`, both set."""
    assert settings.redis_url is not None
    intake = connect_intake(settings, clock)
    commits = Probe(partial(commit_nothing, intake.database, store.metadata))
    acceptance = ReportAcceptance(intake, commits)
    tokens = verifier(settings.keys_dir)
    app = service_app(NAME, tokens, router, RIGHTS, rate_of(settings))
    app.state.intake, app.state.acceptance, app.state.turns = intake, acceptance, Turns(BATCHES_AT_ONCE)
    redis = messaging.connect(settings.redis_url)
    broker = Probe(redis.write_nothing)
    seals = messaging.seals(settings.keys_dir)
    relay = Relay(intake.database, redis, store.outbox, messaging.streams(INTAKE, settings.partitions), seals)
    intake.wakes.append(relay.wake)
    handle = partial(record_escalation_events, intake)
    from_nothing = True
    """Whether no ward was known when the service started."""
    catch_up = CatchUp(redis, messaging.streams(ESCALATION, settings.partitions), NAME)
    consumer = Consumer(
        settings.redis_url,
        list(messaging.streams(ESCALATION, settings.partitions)),
        NAME,
        settings.consumer,
        parse,
        handle,
        intake.database,
        store.dead_letter,
        seals,
        claim_idle=settings.claim_idle_seconds,
        dead_after=settings.dead_letter_after,
    )
    learning = Learning(settings, NAME, intake.database, store.credentials, store.dead_letter, tokens)
    retries = DeadLetterRetries(intake.database, store.dead_letter, parse, handle)

    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(intake.database.dispose)
            stack.push_async_callback(redis.aclose)
            outbox = store.outbox
            await settle_partitions(intake.database, outbox.epochs, settings.partitions, outbox.streams)
            nonlocal from_nothing
            from_nothing = not await intake.units()
            for part in (commits, broker, relay, learning, consumer, retries):
                await stack.enter_async_context(part.running())
            await stack.enter_async_context(handing_over(tokens.observed, partial(record_seen, intake)))
            yield

    async def checks() -> Sequence[Check]:
        if not catch_up.is_done:
            with suppress(BrokerError, OSError):  # then it is not done, and "broker" says why
                await catch_up.look(from_nothing=from_nothing)
            intake.forget_units()  # those that were read before may not be all
        known = await intake.units()
        health_failures = {
            "database": commits.health_failure(),
            "broker": broker.health_failure(),
            "relay": relay.health_failure(),
            "consumer": consumer.health_failure(),
            "revocations": learning.health_failure(),
            "commits": acceptance.health_failure(),
            "wards": _wards_failure(known=bool(known), caught_up=catch_up.is_done),
            "dead_letters": await dead_letter_health_failure(intake.database, store.dead_letter),
        }
        return checks_of(health_failures)

    return IntakeService(
        name=NAME,
        app=app,
        running=running,
        checks=checks,
        intake=intake,
        acceptance=acceptance,
        outbox=store.outbox,
        learning=learning,
    )


def _wards_failure(*, known: bool, caught_up: bool) -> str | None:
    if not caught_up:
        return "still reading which wards there are: a report of one that is not known yet would be refused"
    return None if known else "no wards known: run 'trucban import wards FILE'"
