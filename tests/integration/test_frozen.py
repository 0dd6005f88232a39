"""A process that stands still in a transaction, as SIGSTOP, a debugger or a machine without memory makes it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.escalation import app as escalation_app
from services.intake import app as intake_app
from shared.clock import Clock
from shared.database import connect
from shared.http.identity import Principal, issuer, verifier
from shared.http.web import compose
from shared.settings import Settings
from tests.integration.escalation_support import Template, until
from tests.servers import new_redis
from tests.support import NIGHT, body

TABLE_LOCK = "LOCK TABLE escalation.report IN ACCESS EXCLUSIVE MODE"


async def test_a_process_frozen_in_a_transaction_stops_nobody_for_good(template: Template, tmp_path: Path) -> None:
    """Its session ends and its locks with it; another process goes on. When it wakes, it recovers by itself."""
    settings = Settings().model_copy(
        update={
            "database_url": await template.clone(),
            "redis_url": await new_redis(template.servers),
            "data": tmp_path,
            "keys": None,
            "claim_idle_seconds": 1.0,
            "consumer": "awake",
        }
    )
    assert settings.database_url is not None
    clock, engine = Clock(NIGHT), connect(settings.database_url)
    intake = intake_app.build(settings, clock)
    app = compose([intake], verifier(settings.keys_dir))
    frozen = serve_escalation(settings, "frozen")
    try:
        async with intake.running(), client_of(app, settings) as desk:
            first = await sent(desk)
            await until(lambda: _is_recorded(engine, first), "the process works", 60)
            async with engine.connect() as holder:
                await holder.execute(text(TABLE_LOCK))
                second = await sent(desk)
                await until(lambda: _waits_for_the_table(engine), "it waits in a transaction, with the ward locked")
                frozen.send_signal(signal.SIGSTOP)
            await until(lambda: _is_left_alone(engine), "its transaction is open and nobody works in it")
            async with escalation_app.build(settings, clock).running():
                third = await sent(desk)
                await until(lambda: _is_recorded(engine, third), "the other process goes on in the same ward", 60)
                await until(lambda: _is_recorded(engine, second), "and takes over what the frozen one had", 60)
                frozen.send_signal(signal.SIGCONT)
            fourth = await sent(desk)
            await until(lambda: _is_recorded(engine, fourth), "it works again, alone", 60)
        async with engine.connect() as connection:
            counts = text(
                "SELECT (SELECT count(*) FROM escalation.report), (SELECT count(*) FROM escalation.dead_letter)"
            )
            assert tuple((await connection.execute(counts)).one()) == (4, 0), "each once"
    finally:
        frozen.send_signal(signal.SIGCONT)
        frozen.terminate()
        assert await asyncio.to_thread(frozen.wait, 60) == 0
        await engine.dispose()


def serve_escalation(settings: Settings, consumer: str) -> "subprocess.Popen[bytes]":
    assert settings.database_url and settings.redis_url
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRUCBAN_")},
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "TRUCBAN_DATA": str(settings.data),
        "TRUCBAN_CONSUMER": consumer,
        "TRUCBAN_CLAIM_IDLE_SECONDS": "1",
        "TRUCBAN_CLOCK": NIGHT.isoformat(),
    }
    command = [sys.executable, "-m", "services.cli", "serve", "escalation", "--port", "0"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


@asynccontextmanager
async def client_of(app: FastAPI, settings: Settings) -> AsyncGenerator[AsyncClient]:
    token = issuer(settings.keys_dir).issue(Principal("mau-desk", "desk"))
    headers = {"authorization": f"Bearer {token}"}
    transport = ASGITransport(app, client=("203.0.113.7", 4000))
    async with AsyncClient(transport=transport, base_url="http://trucban/intake/v1", headers=headers) as client:
        yield client


async def sent(desk: AsyncClient) -> str:
    """A report of the ward; its id."""
    report = body()
    answer = await desk.post("/reports", json=report)
    assert answer.status_code == 201, answer.text
    return str(report["report_id"])


async def _is_recorded(engine: AsyncEngine, report_id: str) -> bool:
    """By escalation. That intake is told of it takes a relay, whose lock is another matter."""
    async with engine.connect() as connection:
        query = text("SELECT count(*) FROM escalation.report WHERE personal ->> 'sender_report_id' = :id")
        return bool(await connection.scalar(query, {"id": report_id}))


async def _waits_for_the_table(engine: AsyncEngine) -> bool:
    return await _holds_a_ward(engine, "wait_event_type = 'Lock'")


async def _is_left_alone(engine: AsyncEngine) -> bool:
    """Between two statements, or between the parts of one: it waits for the frozen process."""
    return await _holds_a_ward(engine, "wait_event = 'ClientRead'")


async def _holds_a_ward(engine: AsyncEngine, condition: str) -> bool:
    """Whether a session that has an advisory lock is in this condition."""
    locks = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
    async with engine.connect() as connection:
        return bool(await connection.scalar(text(f"{query} AND pid IN ({locks})")))
