"""The ledger alone: appending, growing, proving, paging, verifying."""

import random
import statistics
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from httpx import ASGITransport, AsyncClient

from benchmarks.measure import Figure, Timer, ratio
from services.cli.embedded import embedded_servers
from services.ledger.api import export_lines
from services.ledger.app import build, connect_ledger, load_signer
from services.ledger.application import Ledger
from services.ledger.domain.verify import verify_export
from services.ledger.store.queries import newest_checkpoint
from shared.clock import Clock
from shared.commitment import Committed, new_salt
from shared.database import migrate
from shared.events import Event, ReportReceived, ReportReceivedData, Source, UnitRef
from shared.http.identity import Principal, issuer
from shared.ids import uuid7
from shared.settings import Settings

BATCH = 500
PROOFS = 200


async def run(data: Path, *, quick: bool) -> list[Figure]:
    count = 20_000 if quick else 100_000
    async with embedded_servers(data) as servers:
        await migrate(servers.database_url, "ledger")
        settings = Settings(redis_url=servers.redis_url, database_url=servers.database_url, data=data)
        ledger = connect_ledger(settings, Clock())
        await ledger.open()
        try:
            tenth = await _append(ledger, count // 10)
            async with _client(settings) as get:
                small = await _proof_p95_ms(get, count // 10)
                page_small = await _page_ms(get, count // 10)
                rest = await _append(ledger, count - count // 10)
                large = await _proof_p95_ms(get, count)
                page_large = await _page_ms(get, count)
            copied = await _copy(servers.database_url, count)
            verified = await _verify(ledger, settings)
        finally:
            await ledger.database.dispose()
    return [
        Figure("ledger.append_per_s", rest, "entries/s in batches of 500"),
        ratio("ledger.append_vs_copy", rest, "entries/s", "COPY of the same bodies, 500 a commit", copied),
        Figure("ledger.append_growth_10x", rest / tenth, "ratio", "entries/s in the first tenth", tenth),
        Figure("ledger.proof_p95_ms", large, "ms over HTTP routes, without a network"),
        Figure("ledger.proof_growth_10x", large / small, "ratio", "ms at a tenth of the size", small),
        Figure("ledger.page_growth_10x", page_large / page_small, "ratio", "ms at a tenth of the size", page_small),
        Figure("verify.per_s", verified, "entries/s, one process"),
    ]


def _events(count: int) -> list[Event]:
    now = datetime.now(UTC)
    unit = UnitRef(code="14776", valid_from=now.date(), name="Ba Đình")
    return [_event(now, unit) for _ in range(count)]


def _event(now: datetime, unit: UnitRef) -> ReportReceived:
    event_id = uuid7(now)
    data = ReportReceivedData(
        report_id=event_id,
        unit=unit,
        category="FIRECRACKER_SET_OFF",
        occurred_at=now,
        received_at=now,
        from_source=Source(kind="device", subject="bench"),
        description=Committed(salt=new_salt(), value="Nghe tiếng pháo nổ liên tiếp ở đầu phố"),
    )
    return ReportReceived(id=event_id, source="/bench", subject=event_id, time=now, data=data)


async def _append(ledger: Ledger, count: int) -> float:
    """Entries a second; making the events is not counted."""
    spent = 0.0
    for _ in range(0, count, BATCH):
        events = _events(BATCH)
        timer = Timer()
        await ledger.record(events)
        spent += timer.seconds
    return count / spent


async def _copy(database_url: str, count: int) -> float:
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        await connection.execute("CREATE TABLE bench_copy (body bytea NOT NULL)")
        bodies = await connection.fetch("SELECT body FROM ledger.entry LIMIT $1", count)
        timer = Timer()
        for start in range(0, len(bodies), BATCH):
            await connection.copy_records_to_table(
                "bench_copy", records=[tuple(r) for r in bodies[start : start + BATCH]]
            )
        return len(bodies) / timer.seconds
    finally:
        await connection.close()


Get = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def _client(settings: Settings) -> AsyncGenerator[Get]:
    """GET on the service's routes as an auditor. Raises RuntimeError on anything but 200."""
    app = build(settings, Clock()).app
    token = issuer(settings.keys_dir).issue(Principal("bench", "auditor"))
    headers = {"authorization": f"Bearer {token}"}
    async with AsyncClient(transport=ASGITransport(app), base_url="http://bench", headers=headers) as client:

        async def get(path: str) -> None:
            answer = await client.get(path)
            if answer.status_code != 200:
                raise RuntimeError(f"GET {path} answered {answer.status_code}: {answer.text[:200]}")

        yield get


async def _milliseconds(get: Get, paths: list[str]) -> list[float]:
    found: list[float] = []
    for path in paths:
        timer = Timer()
        await get(path)
        found.append(timer.seconds * 1_000)
    return found


async def _proof_p95_ms(get: Get, size: int) -> float:
    drawn = random.Random(size)
    times = await _milliseconds(get, [f"/v1/entries/{drawn.randrange(size)}/proof" for _ in range(PROOFS)])
    return statistics.quantiles(times, n=20)[-1]


async def _page_ms(get: Get, size: int) -> float:
    return statistics.median(await _milliseconds(get, ["/v1/entries?order=desc&limit=50"] * 50))


async def _verify(ledger: Ledger, settings: Settings) -> float:
    async with ledger.database.connect() as connection:
        head = await newest_checkpoint(connection)
    assert head is not None
    content = b"".join([chunk async for chunk in export_lines(ledger, head)])
    lines = content.splitlines(keepends=True)
    timer = Timer()
    report = verify_export(lines, load_signer(settings).verifier.vkey())
    if not report.is_verified:
        raise RuntimeError(f"the ledger does not verify: {report.failures[:1]}")
    return report.entries / timer.seconds
