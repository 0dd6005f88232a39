"""Wiring of the ledger service."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from services.ledger.api import router
from services.ledger.api.rights import RIGHTS
from services.ledger.application import Ledger
from services.ledger.domain.checkpoint import Signer
from services.ledger.store.tables import credentials, dead_letter, epochs, metadata
from shared import messaging
from shared.clock import Clock
from shared.credentials.following import handing_over
from shared.credentials.learning import Learning
from shared.database import connect
from shared.events import Event, parse
from shared.http.health import Check, checks_of
from shared.http.identity import verifier
from shared.http.web import Service, rate_of, service_app
from shared.keys import signing_key
from shared.messaging import (
    ESCALATION,
    INTAKE,
    Consumer,
    DeadLetterRetries,
    dead_letter_health_failure,
    settle_partitions,
    streams,
)
from shared.probe import Probe, commit_nothing
from shared.settings import Settings

NAME = "ledger"
GATHER_SECONDS = 0.15
"""Nobody waits for an entry, and an append costs nearly the same for one event as for a hundred."""


@dataclass(frozen=True, kw_only=True)
class LedgerService(Service):
    """The ledger as it runs in a process."""

    ledger: Ledger
    learning: Learning
    """How it learns of revocations."""


def load_signer(settings: Settings) -> Signer:
    """The log's name and key; its `verifier.vkey()` is what an auditor is given. Raises KeyFileError, NoteError."""
    return Signer(settings.ledger_origin, signing_key(settings.keys_dir, NAME))


def connect_ledger(settings: Settings, clock: Clock) -> Ledger:
    """What the use cases need, against `settings.database_url`. Dispose of its `database` in the end."""
    assert settings.database_url is not None
    return Ledger(connect(settings.database_url), clock, load_signer(settings))


def build(settings: Settings, clock: Clock) -> LedgerService:
    """The service against the database and the broker of `settings`, both set."""
    assert settings.redis_url is not None
    ledger = connect_ledger(settings, clock)
    tokens = verifier(settings.keys_dir)
    app = service_app(NAME, tokens, router, RIGHTS, rate_of(settings))
    app.state.ledger = ledger
    redis = messaging.connect(settings.redis_url)
    commits, broker = Probe(partial(commit_nothing, ledger.database, metadata)), Probe(redis.write_nothing)
    consumer: Consumer[Event] = Consumer(
        settings.redis_url,
        [*streams(INTAKE, settings.partitions), *streams(ESCALATION, settings.partitions)],
        NAME,
        settings.consumer,
        parse,
        ledger.record,
        ledger.database,
        dead_letter,
        messaging.seals(settings.keys_dir),
        gather=GATHER_SECONDS,
        claim_idle=settings.claim_idle_seconds,
        dead_after=settings.dead_letter_after,
    )
    learning = Learning(settings, NAME, ledger.database, credentials, dead_letter, tokens)
    retries = DeadLetterRetries(ledger.database, dead_letter, parse, ledger.record)

    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(ledger.database.dispose)
            stack.push_async_callback(redis.aclose)
            await settle_partitions(ledger.database, epochs, settings.partitions)
            await ledger.open()
            for part in (commits, broker, learning, consumer, retries):
                await stack.enter_async_context(part.running())
            await stack.enter_async_context(handing_over(tokens.observed, ledger.record_seen))
            yield

    async def checks() -> Sequence[Check]:
        health_failures = {
            "database": commits.health_failure(),
            "broker": broker.health_failure(),
            "consumer": consumer.health_failure(),
            "revocations": learning.health_failure(),
            "dead_letters": await dead_letter_health_failure(ledger.database, dead_letter),
        }
        return checks_of(health_failures)

    return LedgerService(name=NAME, app=app, running=running, checks=checks, ledger=ledger, learning=learning)
