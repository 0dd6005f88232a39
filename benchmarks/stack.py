"""The running system that is measured: its servers, each service a process of its own, and what it is sent."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import func, select

from benchmarks.measure import Timer, free_port, process, until
from services.cli.embedded import embedded_servers
from services.cli.import_file import import_file
from services.escalation.store.tables import report as routed
from services.ledger.store.tables import entry
from shared.database import connect
from shared.http.identity import Principal, issuer
from shared.settings import Settings

SAMPLES = Path(__file__).parents[1] / "samples"
BATCH = 500
"""Reports in a batch request, and rows in a commit of the floors."""
WHOLE_SECONDS = 600
UNBOUNDED = {"TRUCBAN_RATE_AT_ONCE": "100000000"}
"""In the environment of what is measured: one device sends what a city does."""


@dataclass(frozen=True)
class House:
    """`token` is a device's; `pool` is a plain door to the same PostgreSQL, for the floors."""

    settings: Settings
    token: str
    pool: asyncpg.Pool

    @asynccontextmanager
    async def serving(self, service: str) -> AsyncGenerator[int]:
        """One service in a process of its own, ready; yields its port."""
        port = free_port()
        environment = {
            "REDIS_URL": str(self.settings.redis_url),
            "DATABASE_URL": str(self.settings.database_url),
            "TRUCBAN_DATA": str(self.settings.data),
        } | UNBOUNDED
        command = ("-m", "services.cli", "serve", service, "--port", str(port))
        async with process(*command, port=port, ready="/readyz", environment=environment):
            yield port

    async def until_recorded(self, count: int) -> None:
        """Until `count` reports in all have their incident and their entry in the ledger."""
        await until_recorded(str(self.settings.database_url), count)


@asynccontextmanager
async def furnished(data: Path, clock: datetime | None = None) -> AsyncGenerator[House]:
    """Embedded servers with the 34 sample wards and their post-holders, imported at `clock`; no service runs yet."""
    async with embedded_servers(data) as servers:
        given = {"redis_url": servers.redis_url, "database_url": servers.database_url, "data": data, "clock": clock}
        settings = Settings().model_copy(update=given)
        await import_file(settings, "wards", SAMPLES / "wards.csv", keep_going=False)
        await import_file(settings, "directory", SAMPLES / "directory.csv", keep_going=False)
        pool = await plain_pool(servers.database_url)
        try:
            yield House(settings, device_token(data), pool)
        finally:
            await pool.close()


def device_token(data: Path) -> str:
    return issuer(data / "keys").issue(Principal("bench", "device"))


async def plain_pool(database_url: str) -> asyncpg.Pool:
    return await asyncpg.create_pool(database_url.replace("+asyncpg", ""))


async def until_recorded(database_url: str, count: int) -> None:
    """Until `count` reports in all have their incident and their entry in the ledger."""
    engine = connect(database_url, pool_size=1)
    in_ledger = select(func.count()).select_from(entry).where(entry.c.kind == "report.received")
    at_incident = select(func.count()).select_from(routed)

    async def recorded() -> bool:
        async with engine.connect() as connection:
            found = [await connection.scalar(query) or 0 for query in (at_incident, in_ledger)]
        return min(found) >= count

    try:
        await until(recorded, WHOLE_SECONDS)
    finally:
        await engine.dispose()


def reports(count: int, prefix: str) -> list[dict[str, Any]]:
    """Reports that spread over wards and over incidents of about forty reports each."""
    codes = [line.split(",")[0] for line in (SAMPLES / "wards.csv").read_text().splitlines()[1:]]
    incidents = max(count // 40, 1)
    return [
        {
            "report_id": f"{prefix}-{i}",
            "category": "FIRECRACKER_SET_OFF",
            "ward": codes[i % incidents % len(codes)],
            "occurred_at": f"2023-02-{1 + i % incidents // len(codes) // 24 % 28:02}T"
            f"{i % incidents // len(codes) % 24:02}:10:00+07:00",
            "description": "Nghe tiếng pháo nổ liên tiếp ở đầu phố, khoảng hai phút",
        }
        for i in range(count)
    ]


async def copy_per_s(pool: asyncpg.Pool, table: str, bodies: list[bytes]) -> float:
    """The floor of storing: rows a second into a new table of one column, `BATCH` a commit."""
    await pool.execute(f"CREATE TABLE {table} (body bytea NOT NULL)")
    timer = Timer()
    for start in range(0, len(bodies), BATCH):
        await pool.copy_records_to_table(table, records=[(body,) for body in bodies[start : start + BATCH]])
    return len(bodies) / timer.seconds
