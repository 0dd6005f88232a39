"""What intake does: accept reports in shared commits, and take over what escalation made of them."""

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import store
from services.intake.application import metrics
from services.intake.domain.receiving import Draft, Means, draft, reporter_text
from services.intake.domain.submission import Submission
from services.intake.domain.wards import Unit
from shared.clock import Clock, monotonic
from shared.commitment import new_salt
from shared.events import Event, ReportCorrelated, UnitRecorded, encode
from shared.http.identity import Principal
from shared.http.problem import Problem
from shared.ids import uuid7
from shared.messaging import INTAKE, Outgoing, add, is_transient, route

log = structlog.get_logger()
AT_ONCE = 500
"""Reports that share one commit at the most."""
UNITS_FRESH_SECONDS = 2.0
CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")
UNKNOWN = "not known whether the report was stored: send it again with the same report_id"
Waiting = tuple[Draft, asyncio.Future["Accepted"]]


@dataclass(frozen=True)
class Accepted:
    report_id: str
    receipt: str
    received_at: datetime
    is_new: bool


@dataclass
class Intake:
    """What the handlers need. `running` must be entered before reports are accepted."""

    engine: AsyncEngine
    clock: Clock
    partitions: int
    content_key: bytes
    reporter_key: bytes
    wakes: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    _units: list[Unit] = field(default_factory=list[Unit])
    _units_read: float = -UNITS_FRESH_SECONDS
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: list[Waiting] = field(default_factory=list[Waiting])
    _committing: asyncio.Task[None] | None = None
    _awake: asyncio.Event = field(default_factory=asyncio.Event)

    async def units(self) -> list[Unit]:
        """The wards known here; read again when older than two seconds."""
        if self._is_stale():
            async with self._reading:  # a batch asks a thousand times at once
                if self._is_stale():
                    async with self.engine.connect() as connection:
                        self._units = await store.units(connection)
                    self._units_read = monotonic()
        return self._units

    def _is_stale(self) -> bool:
        return monotonic() - self._units_read > UNITS_FRESH_SECONDS or not self._units

    async def prepare(self, submission: Submission, caller: Principal) -> Draft:
        """Raises Problem 403, 422, or 503 while no wards are known."""
        units = await self.units()
        if not units:
            raise Problem(503, "no wards are known yet: import them with 'trucban import wards FILE'")
        now = self.clock.now()
        means = Means(
            received_at=now,
            new_id=lambda: uuid7(now),
            new_salt=new_salt,
            new_receipt=new_receipt,
            content_key=self.content_key,
        )
        return draft(submission, caller, units, means)

    async def accept(self, ready: Draft) -> Accepted:
        """Durable when this returns. Raises Problem 409 for a used id, 503 when it is unknown whether it was stored."""
        future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._waiting.append((ready, future))
        self._awake.set()
        return await future

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        task = self._committing = asyncio.create_task(self._group_commit(), name="group commit")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def health_failure(self) -> str | None:
        ended = self._committing is None or self._committing.done()
        return "reports are not being committed: restart intake" if ended else None

    async def _group_commit(self) -> None:
        """Whoever waits shares the next commit; while it runs, the one after it gathers."""
        while True:
            await self._awake.wait()
            group, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            if not self._waiting:
                self._awake.clear()
            await self._answer(group)

    async def _answer(self, group: Sequence[Waiting]) -> None:
        """Settles every future of the group, whatever happens: the next group must still be committed."""
        try:
            stored = await self._commit([ready for ready, _ in group])
        except Exception as error:
            if len(group) > 1 and not is_transient(error):  # one of them the database will not take, so without it
                middle = len(group) // 2
                await self._answer(group[:middle])
                await self._answer(group[middle:])
                return
            log.warning("reports not committed", count=len(group), error=type(error).__name__)
            for _, future in group:
                _settle(future, Problem(503, UNKNOWN, headers={"Retry-After": "1"}))
            return
        seen: set[str] = set()
        for ready, future in group:
            found = stored[ready.report_id]
            if found.content_mac != ready.content_mac:
                detail = f"report_id {ready.report_id} was used for another report: give this one its own id"
                _settle(future, Problem(409, detail))
                continue
            is_new = found.is_new and ready.report_id not in seen
            seen.add(ready.report_id)
            _settle(future, Accepted(ready.report_id, found.receipt, found.received_at, is_new))

    async def _commit(self, drafts: Sequence[Draft]) -> dict[str, store.Stored]:
        distinct = {d.report_id: d for d in reversed(drafts)}
        async with self.engine.begin() as connection:
            stored = await store.add_reports(connection, list(distinct.values()))
            new = [d for id_, d in distinct.items() if stored[id_].is_new]
            new.sort(key=lambda d: d.event.id)
            sealed = [
                (d.report_id, self._seal(d), d.reporter_salt)
                for d in new
                if d.reporter is not None and d.reporter_salt is not None
            ]
            await store.add_reporters(connection, sealed)
            await add(connection, store.outbox, [self._outgoing(d) for d in new])
        for wake in self.wakes:
            wake()
        return stored

    def _outgoing(self, ready: Draft) -> Outgoing:
        event = ready.event
        assert event.data.unit is not None
        return Outgoing(event.id, route(INTAKE, event.data.unit.code, self.partitions), encode(event))

    def _seal(self, ready: Draft) -> bytes:
        """AES-256-GCM, nonce first; bound to its report by the associated data."""
        assert ready.reporter is not None
        nonce = os.urandom(12)
        text = reporter_text(ready.reporter).encode()
        return nonce + AESGCM(self.reporter_key).encrypt(nonce, text, ready.report_id.encode())

    async def on_events(self, events: Sequence[Event]) -> None:
        """Wards that escalation recorded, and what became of reports. Idempotent."""
        async with self.engine.begin() as connection:
            await store.put_units(connection, [e for e in events if isinstance(e, UnitRecorded)])
            await store.set_routed(connection, [e for e in events if isinstance(e, ReportCorrelated)])


def _settle(future: asyncio.Future[Accepted], outcome: Accepted | Problem) -> None:
    if future.done():
        return
    if isinstance(outcome, Problem):
        metrics.reports.labels("conflict" if outcome.status == 409 else "unknown").inc()
        future.set_exception(outcome)
    else:
        metrics.reports.labels("accepted" if outcome.is_new else "duplicate").inc()
        future.set_result(outcome)


def new_receipt() -> str:
    """80 random bits in Crockford's base 32, without letters that are mistaken for digits."""
    letters = base64.b32encode(secrets.token_bytes(10)).translate(CROCKFORD).decode()
    return "TB-" + "-".join(letters[i : i + 4] for i in range(0, 16, 4))
