"""Wiring of the ledger service: settings, engine, key, consumer, routes."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from services.ledger.api import router
from services.ledger.application import Ledger
from services.ledger.domain.checkpoint import Signer
from services.ledger.store.tables import dead_letters
from shared.clock import Clock
from shared.database import connect
from shared.events import Event, parse
from shared.http.identity import verifier
from shared.http.web import Check, Service, checks_of, service_app
from shared.keys import signing_key
from shared.messaging import ESCALATION, INTAKE, Consumer, dead_letter_health_failure, streams
from shared.settings import Settings

GROUP = "ledger"
GATHER_SECONDS = 0.05
"""Nobody waits for an entry, and an append costs nearly the same for one event as for a hundred."""


def signer(settings: Settings) -> Signer:
    """The log's name and key; its `verifier.vkey()` is what an auditor is given. Raises KeyFileError, NoteError."""
    return Signer(settings.ledger_origin, signing_key(settings.keys_dir, GROUP))


def wired(settings: Settings, clock: Clock) -> Ledger:
    """The service's core against `settings.database_url`, for the running service and for the command line."""
    assert settings.database_url is not None
    return Ledger(connect(settings.database_url), clock, signer(settings))


def build(settings: Settings, clock: Clock) -> Service:
    assert settings.redis_url is not None
    ledger = wired(settings, clock)
    app = service_app(GROUP, verifier(settings.keys_dir), router)
    app.state.ledger = ledger
    consumer: Consumer[Event] = Consumer(
        settings.redis_url,
        [*streams(INTAKE, settings.partitions), *streams(ESCALATION, settings.partitions)],
        GROUP,
        settings.consumer,
        parse,
        ledger.record,
        ledger.engine,
        dead_letters,
        gather=GATHER_SECONDS,
        claim_idle=settings.claim_idle_seconds,
        dead_after=settings.dead_letter_after,
    )

    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        try:
            await ledger.open()
            async with consumer.running():
                yield
        finally:
            await ledger.engine.dispose()

    async def checks() -> Sequence[Check]:
        complaints = {
            "consumer": consumer.health_failure(),
            "dead_letters": await dead_letter_health_failure(ledger.engine, dead_letters),
        }
        return checks_of(complaints)

    return Service(GROUP, app, running, checks, {"ledger": ledger})
