"""Intake as one process of it runs, on real servers, in a database of its own; clients of each role."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.cli.embedded import Servers
from services.intake import app as intake_app
from services.intake import store
from services.intake.application.accept_reports import ReportAcceptance
from services.intake.application.intake import Intake
from services.intake.application.record_escalation_events import record_escalation_events
from shared import messaging
from shared.clock import Clock
from shared.database import connect, migrate
from shared.events import UnitRecorded, UnitRecordedData, UnitRef
from shared.http.identity import Principal, Role, issuer, verifier
from shared.http.rate import Rate
from shared.http.web import compose
from shared.ids import uuid7
from shared.settings import Settings
from tests.servers import new_database, new_redis
from tests.unit.intake.sample import AT, UNITS


@dataclass
class House:
    """The service, its application and the files of its keys."""

    intake: Intake
    acceptance: ReportAcceptance
    app: FastAPI
    of_intake: FastAPI
    """What `app` has under `/intake`."""
    settings: Settings
    stack: AsyncExitStack

    @property
    def database(self) -> AsyncEngine:
        return self.intake.database

    async def client(self, role: Role, ward: str | None = None, subject: str | None = None) -> AsyncClient:
        token = issuer(self.settings.keys_dir).issue(Principal(subject or f"mau-{role}", role, ward=ward))
        return await self.public(headers={"Authorization": f"Bearer {token}"})

    async def public(self, **more: Any) -> AsyncClient:
        transport = ASGITransport(self.app, client=("203.0.113.7", 4000))
        made = AsyncClient(transport=transport, base_url="http://trucban/intake/v1", **more)
        return await self.stack.enter_async_context(made)

    def limit(self, rate: Rate) -> None:
        """Of each credential, from now on."""
        self.of_intake.state.rate = rate

    async def rows(self, sql: str, **values: Any) -> list[Any]:
        async with self.database.connect() as connection:
            return list(await connection.execute(text(sql), values))


def unit_events() -> list[UnitRecorded]:
    """The 34 wards as escalation tells them."""
    return [
        UnitRecorded(
            id=uuid7(AT),
            source="/trucban/escalation",
            subject=u.code,
            time=AT,
            data=UnitRecordedData(
                unit=UnitRef(code=u.code, valid_from=u.valid_from, name=u.name),
                kind="xã" if u.kind == "xã" else "phường",
                valid_to=u.valid_to,
            ),
        )
        for u in UNITS
    ]


@dataclass(frozen=True)
class Place:
    """A migrated database and a Redis database of intake's own, and keys."""

    database_url: str
    redis_url: str
    keys: Path

    async def emptied(self) -> None:
        engine, redis = connect(self.database_url, pool_size=1), messaging.connect(self.redis_url)
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE " + ", ".join(t.fullname for t in store.metadata.sorted_tables)))
        await redis.flushdb()
        await redis.aclose()
        await engine.dispose()


@asynccontextmanager
async def place_on(servers: Servers, keys: Path) -> AsyncGenerator[Place]:
    database_url = await new_database(servers)
    await migrate(database_url, "intake")
    place = Place(database_url, await new_redis(servers), keys)
    yield place
    await place.emptied()


@asynccontextmanager
async def opened(place: Place, *, with_wards: bool = True) -> AsyncGenerator[House]:
    """The service with empty tables and streams, its background loops running."""
    await place.emptied()
    given = {"database_url": place.database_url, "redis_url": place.redis_url, "keys": place.keys}
    settings = Settings().model_copy(update=given)
    service = intake_app.build(settings, Clock(AT))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.running())
        if with_wards:
            await record_escalation_events(service.intake, unit_events())
        app = compose([service], verifier(place.keys))
        yield House(service.intake, service.acceptance, app, service.app, settings, stack)
