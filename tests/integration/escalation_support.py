"""Escalation on real servers: its core alone on a database of its own, or the whole city with all its services."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy import Row, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.cli.all_services import AllServices, build_all
from services.cli.embedded import Servers
from services.cli.process import running
from services.escalation.application import adopt_rulebooks, import_directory
from services.escalation.application.escalation import Escalation
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.incidents.timers import SYSTEM
from services.escalation.domain.rules.accountability import Inputs, decide
from services.escalation.domain.rules.record import record_bytes
from services.escalation.store import directory, tables, timers
from services.intake import store as intake
from shared import messaging
from shared.clock import Clock
from shared.database import SERVICES, async_url, connect, migrate
from shared.events import AnyReport, Event, FindingData, UnitRecorded, parse
from shared.http.identity import Principal, Role, TokenIssuer, issuer, verifier
from shared.http.web import compose
from shared.messaging import ESCALATION, INTAKE
from shared.operator import operator
from shared.settings import Settings
from tests.servers import administer, new_database, new_redis
from tests.support import CHANNELS, NIGHT, SAMPLES, at

BEFORE_THE_NIGHT = at("2023-01-06 08:00")
TEMPLATE_LOCK = 0x7465_7374
DIRECTORY = ("unit", "tenure", "roster", "posting", "contact", "rulebook")
"""Tables that the template keeps a copy of."""
EMPTIED = (
    "deadline",
    "delivery",
    "notice",
    "channel_test",
    "shift",
    "decision",
    "finding",
    "link",
    "report",
    "incident",
    "timeline",
    "pace",
    "message",
    "outbox",
    "dead_letter",
)


@dataclass(frozen=True)
class Template:
    """A migrated database to be cloned: the rulebook, the 34 wards and the sample post-holders are in it."""

    servers: Servers
    name: str

    async def clone(self) -> str:
        """URL of a new database that holds what the template holds."""
        return await new_database(self.servers, self.name)


def _emptying() -> str:
    """One round trip; no TRUNCATE, which would leave files to be removed by the hundred."""
    deletes = [f"DELETE FROM escalation.{name};" for name in (*EMPTIED, *DIRECTORY)]
    inserts = [f"INSERT INTO escalation.{name} TABLE kept.{name};" for name in DIRECTORY]
    return f"DO $$ BEGIN {' '.join((*deletes, *inserts))} END $$"


_EMPTY = _emptying()


async def migrated_template(servers: Servers) -> Template:
    """The one of these servers, made by the process that comes first."""
    template = Template(servers, "city_template")
    engine = connect(servers.database_url, pool_size=1)
    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": TEMPLATE_LOCK})
        known = text("SELECT count(*) FROM pg_database WHERE datname = :name")
        if not await connection.scalar(known, {"name": template.name}):
            draft = await new_database(servers)
            await _furnish(draft)
            await administer(servers, f"ALTER DATABASE {make_url(draft).database} RENAME TO {template.name}")
    await engine.dispose()
    return template


async def _furnish(url: str) -> None:
    for service in SERVICES:
        await migrate(url, service)
    async with _escalation(url, Clock(BEFORE_THE_NIGHT)) as escalation:
        escalation = escalation.by(operator("mau"))
        await adopt_rulebooks.adopt_rulebooks(escalation, adopt_rulebooks.packaged_rulebooks())
        for name, run in (("wards", import_directory.import_wards), ("directory", import_directory.import_directory)):
            imported = await run(escalation, (SAMPLES / f"{name}.csv").read_bytes())
            assert not imported.errors
        async with escalation.database.begin() as connection:
            bodies = await connection.scalars(text("SELECT body FROM escalation.outbox ORDER BY number"))
            await intake.put_units(connection, [e for e in map(parse, bodies) if isinstance(e, UnitRecorded)])
            await connection.execute(text("CREATE SCHEMA kept"))
            for name in DIRECTORY:
                await connection.execute(text(f"CREATE TABLE kept.{name} AS TABLE escalation.{name}"))


@asynccontextmanager
async def _escalation(database_url: str, clock: Clock) -> AsyncGenerator[Escalation]:
    escalation = Escalation(connect(database_url), clock, 1, CHANNELS, bytes(32))
    yield escalation
    await escalation.database.dispose()


@asynccontextmanager
async def reading_from(database_url: str) -> AsyncGenerator[AsyncEngine]:
    """For looking at what is there: without a transaction, a statement takes two round trips instead of six."""
    engine = create_async_engine(
        async_url(database_url), isolation_level="AUTOCOMMIT", pool_pre_ping=True, json_deserializer=orjson.loads
    )
    try:
        yield engine
    finally:
        await engine.dispose()


@dataclass
class City:
    """The core of escalation; the clock moves when a test says so, and nothing runs beside it."""

    escalation: Escalation
    clock: Clock
    database_url: str
    reading: AsyncEngine
    """As `reading_from` gives it."""

    async def rows(self, sql: str, **values: Any) -> Sequence[Row[Any]]:
        async with self.reading.connect() as connection:
            return (await connection.execute(text(sql), values)).all()

    async def run(self, sql: str, **values: Any) -> None:
        async with self.escalation.database.begin() as connection:
            await connection.execute(text(sql), values)

    async def one(self, sql: str, **values: Any) -> Any:
        """The only value of the only row."""
        ((value,),) = await self.rows(sql, **values)
        return value

    async def events(self, incident: str | None = None) -> list[Event]:
        """What waits in the outbox, in order; of one incident or of all."""
        rows = await self.rows("SELECT body FROM escalation.outbox ORDER BY number")
        found = [parse(row.body) for row in rows]
        return [e for e in found if incident is None or e.data.incident == incident]

    async def incident(self) -> str:
        """Id of the only incident."""
        return await self.one("SELECT incident_id FROM escalation.incident")

    async def told(self, incident: str | None = None) -> list[str]:
        """Notices as recipient:purpose, in order of issue."""
        rows = await self.rows(
            "SELECT recipient, purpose FROM escalation.notice"
            " WHERE incident_id = coalesce(CAST(:id AS text), incident_id) ORDER BY issued_at, notice_id",
            id=incident,
        )
        return [f"{row.recipient}:{row.purpose}" for row in rows]

    async def emptied(self) -> None:
        """As if nothing had been reported yet, with the template's directory: far cheaper than another clone.

        The counters of the outbox go on: a service that runs has a stream that goes on.
        """
        await self.run(_EMPTY)

    async def deadlines(self, *kinds: str) -> list[tuple[str, str]]:
        """Of these kinds; those of the holders and the desk if none is named."""
        rows = await self.rows(
            "SELECT kind, state FROM escalation.deadline WHERE kind = ANY(:kinds)"
            " AND level <= (kind = 'review')::int ORDER BY kind, state",
            kinds=list(kinds or ("acknowledge", "review")),
        )
        return [(row.kind, row.state) for row in rows]

    @asynccontextmanager
    async def another(self) -> AsyncGenerator["City"]:
        """A second process on the same database and clock."""
        async with _escalation(self.database_url, self.clock) as escalation:
            yield City(escalation, self.clock, self.database_url, self.reading)


@asynccontextmanager
async def city_in(database_url: str, start: datetime = NIGHT) -> AsyncGenerator[City]:
    clock = Clock(start)
    async with _escalation(database_url, clock) as escalation, reading_from(database_url) as reading:
        yield City(escalation, clock, database_url, reading)


async def route_all(escalation: Escalation, events: Sequence[AnyReport]) -> None:
    """As a consumer does: what is left because its ward is locked comes again."""
    while left := await route_reports(escalation, events):
        events = left.events
        await asyncio.sleep(0.01)


async def decisions_that_differ_when_computed_again(city: City) -> list[str]:
    """Ids of stored decisions whose record is not what their stored inputs and rulebook give, byte for byte."""
    async with city.escalation.database.connect() as connection:
        books = {b.rulebook.version: b for b in await directory.rulebooks(connection)}
        rows = (await connection.execute(text("SELECT decision_id, record, inputs FROM escalation.decision"))).all()
    assert rows, "some decisions were made"
    differing: list[str] = []
    for row in rows:
        inputs = Inputs.model_validate(row.inputs)
        adopted = books[inputs.rulebook_version] if inputs.rulebook_version else None
        if record_bytes(decide(inputs, adopted)) != row.record:
            differing.append(row.decision_id)
    return differing


async def events_without_their_cause(city: City) -> list[str]:
    """Types of events of incidents that name no cause though no person did it, or a cause that was not there before."""
    reports = {row.event_id for row in await city.rows("SELECT event_id FROM escalation.report")}
    before, wrong = set[str](), list[str]()
    for row in await city.rows("SELECT body FROM escalation.timeline ORDER BY position"):
        event = parse(row.body)
        data, cause = event.data, event.data.cause
        by_a_person = isinstance(data, FindingData) and data.author != SYSTEM
        if data.incident is not None and (cause not in before | reports if cause else not by_a_person):
            wrong.append(event.type)
        before.add(event.id)
    return wrong


@dataclass
class WholeCity(City):
    """All services of one process, their loops running, spoken to over HTTP."""

    app: FastAPI
    services: AllServices
    settings: Settings
    client: AsyncClient
    tokens: TokenIssuer

    def bearer(self, caller: Principal | Role) -> dict[str, str]:
        principal = caller if isinstance(caller, Principal) else Principal(f"mau-{caller}", caller)
        return {"authorization": f"Bearer {self.tokens.issue(principal)}"}

    async def get(self, path: str, caller: Principal | Role | None = None, **more: Any) -> Response:
        headers = {} if caller is None else self.bearer(caller)
        return await self.client.get(path, headers=headers, **more)

    async def post(self, path: str, caller: Principal | Role | None = None, **more: Any) -> Response:
        headers = {} if caller is None else self.bearer(caller)
        return await self.client.post(path, headers=headers, **more)

    async def report(self, body: dict[str, Any], caller: Principal | Role = "desk") -> str:
        """Send one report, wait until it is routed; the id of its incident."""
        answer = await self.post("/intake/v1/reports", caller, json=body)
        assert answer.status_code == 201, answer.text
        await self.settle()
        receipt = await self.client.get(f"/intake/v1/receipts/{answer.json()['receipt']}")
        return str(receipt.json()["incident"]["id"])

    async def settle(self, seconds: float = 20.0) -> None:
        """Until nothing is under way: every event is handled, every delivery that is due is sent."""
        count = self.settings.partitions
        streams = {**messaging.streams(INTAKE, count), **messaging.streams(ESCALATION, count)}
        engine = self.escalation.database
        outboxes = [(engine, intake.outbox), (engine, tables.outbox)]
        assert self.settings.redis_url is not None
        redis = messaging.connect(self.settings.redis_url)
        try:
            await messaging.wait_drained(redis, outboxes, streams, seconds)
            await until(self._is_idle, "nothing is due", seconds)
            await messaging.wait_drained(redis, outboxes, streams, seconds)
        finally:
            await redis.aclose()

    async def _is_idle(self) -> bool:
        self.services.escalation.clock_moved()
        async with self.escalation.database.connect() as connection:
            return await timers.is_idle(connection, self.clock.now())

    @property
    def sent(self) -> list[dict[str, Any]]:
        """What the demo's channel wrote."""
        path = self.settings.data / "outbox.ndjson"
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@asynccontextmanager
async def whole_city_in(template: Template, start: datetime = NIGHT, **more: Any) -> AsyncGenerator[WholeCity]:
    """Every service on a database and a Redis database of its own, or on those of `more`, which are settings."""
    clock = Clock(start)
    database_url = more.get("database_url") or await template.clone()
    redis_url = more.get("redis_url") or await new_redis(template.servers)
    folder = Path(tempfile.mkdtemp(prefix="city-"))
    given = {"database_url": database_url, "redis_url": redis_url, "data": folder, "keys": None}
    given |= {"channel_hosts": "127.0.0.1"} | more
    settings = Settings().model_copy(update=given)
    services = build_all(settings, clock)
    app = compose(list(services), verifier(settings.keys_dir))
    transport = ASGITransport(app, client=("203.0.113.7", 4000))
    async with (
        reading_from(database_url) as reading,
        running(list(services)),
        AsyncClient(transport=transport, base_url="http://trucban") as client,
    ):
        core, tokens = services.escalation.escalation, issuer(settings.keys_dir)
        yield WholeCity(core, clock, database_url, reading, app, services, settings, client, tokens)
    shutil.rmtree(folder)


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 30.0) -> None:
    """Raises AssertionError that says what was waited for."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - what others do in the database sets no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None
