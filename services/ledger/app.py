"""Wiring of the ledger service: settings, engine, key, consumer, routes."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import text

from services.ledger.api import router
from services.ledger.checkpoint import Signer
from services.ledger.handlers import Ledger
from services.ledger.store.tables import dead_letters
from shared import database
from shared.clock import Clock
from shared.events import Event, parse
from shared.identity import TokenVerifier
from shared.keys import signing_key
from shared.messaging import ESCALATION, INTAKE, Consumer, streams
from shared.settings import Settings
from shared.web import Check, Service, service_app


def signer(settings: Settings) -> Signer:
    """The log's name and key; its `verifier.vkey()` is what an auditor is given. Raises KeyFileError, NoteError."""
    return Signer(settings.ledger_origin, signing_key(settings.keys_dir, "ledger"))


def build(settings: Settings, clock: Clock, tokens: TokenVerifier) -> Service:
    """The service against `settings`' database and broker, both set. Its parts: `ledger`, `engine`, `consumer`."""
    if settings.database_url is None or settings.redis_url is None:
        raise ValueError("ledger: DATABASE_URL and REDIS_URL must be set, or the embedded servers started first")
    engine = database.connect(settings.database_url)
    ledger = Ledger(engine, clock, signer(settings))
    consumer: Consumer[Event] = Consumer(
        settings.redis_url,
        [*streams(INTAKE, settings.partitions), *streams(ESCALATION, settings.partitions)],
        "ledger",
        settings.consumer,
        parse,
        ledger.record,
        engine,
        dead_letters,
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
            await engine.dispose()

    async def checks() -> Sequence[Check]:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        complaint = consumer.complaint()
        return [Check("database", True), Check("consumer", complaint is None, complaint or "")]

    app = service_app("ledger", tokens, router(engine, ledger.signer.verifier))
    return Service("ledger", app, running, checks, {"ledger": ledger, "engine": engine, "consumer": consumer})
