"""How a service that does not own credentials learns which were revoked."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.credentials.following import Following
from shared.credentials.revocation import Revocation, parse
from shared.credentials.store import CredentialTables, put_revocations
from shared.http.identity import TokenVerifier
from shared.messaging import Consumer, revocation_streams, seals
from shared.settings import Settings


class Learning:
    """Takes the stream of revocations into the service's own table, which every process of it follows."""

    def __init__(
        self,
        settings: Settings,
        service: str,
        database: AsyncEngine,
        tables: CredentialTables,
        dead_letters: Table,
        tokens: TokenVerifier,
    ) -> None:
        assert settings.redis_url is not None
        self._database, self._tables = database, tables
        self._consumer: Consumer[Revocation] = Consumer(
            settings.redis_url,
            list(revocation_streams()),
            service,
            settings.consumer,
            lambda body, _: parse(body),
            self._take,
            database,
            dead_letters,
            seals(settings.keys_dir),
            claim_idle=settings.claim_idle_seconds,
            dead_after=settings.dead_letter_after,
        )
        self.following = Following(
            database,
            tables.revocation,
            tokens.revoked,
            stream_failure=self._consumer.health_failure,
            on_poll=tokens.reload,
        )

    def health_failure(self) -> str | None:
        """Why a revoked credential might be accepted here, or None."""
        return self.following.health_failure()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with self.following.running(), self._consumer.running():
            yield

    async def _take(self, revocations: Sequence[Revocation]) -> None:
        async with self._database.begin() as connection:
            await put_revocations(connection, self._tables, revocations)
        self.following.wake()
