"""A running city through which marked values went: what each was, who did what, and what every output says."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlalchemy import text

from services.cli.import_file import import_file
from services.cli.infrastructure import shared_infrastructure
from shared import messaging
from shared.database import SERVICES, connect
from shared.http.identity import Principal, Role, issuer
from shared.settings import Settings
from tests.e2e.running import PATIENCE_SECONDS, Up, until
from tests.support import CHAIR, SAMPLES

T = TypeVar("T")
MARKS: Mapping[str, str] = {
    "name": "zqtenjk7",
    "phone": "912345678",
    "description": "zqmotajk7",
    "neighbourhood": "zqkhujk7",
    "report_id": "zqmatinjk7",
    "subject": "zqcanbojk7",
    "unknown_field": "zqlajk7",
    "media_type": "zqanhjk7",
    "reason": "zqlydojk7",
    "response": "zqdapjk7",
    "address": "zqdiachijk7",
    "refused_address": "zqtuchoijk7",
    "query": "zqhoijk7",
    "not_json": "zqhongjk7",
}
"""A value of its own for everything that a person may write."""
FAILING = {"intake": "zqloimotjk7", "escalation": "zqloihaijk7", "ledger": "zqloibajk7"}
"""Values that a service's database refuses."""
OFFICER = Principal(MARKS["subject"], "officer", "14776")
CHAIR_HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
CHAIR_ELSEWHERE = Principal("mau-14779-chu-tich", "official", "14779", CHAIR)
DESK = Principal("mau-truc-ban", "desk")
REFUSALS = (
    ("intake", "intake.report", "report_id"),
    ("escalation", "escalation.finding", "reason"),
    ("ledger", "ledger.private", "encode(value, 'escape')"),
)
"""(service, table, column)"""


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@dataclass
class MarkedCity:
    """What is done over HTTP, as each role does it."""

    up: Up
    client: httpx.Client
    """Of the running system, without a token."""
    incident: str = ""
    answers: dict[str, str] = field(default_factory=dict[str, str])
    """Texts of what each role was answered, by place."""

    @property
    def data(self) -> Path:
        return self.up.data

    def ask(self, method: str, path: str, caller: Principal | None, **more: Any) -> httpx.Response:
        tokens = issuer(self.data / "keys")
        headers = {} if caller is None else {"authorization": f"Bearer {tokens.issue(caller, days=1)}"}
        headers |= more.pop("headers", {})
        return self.client.request(method, path, headers=headers, **more)

    def command(self, name: str, caller: Principal, **body: Any) -> httpx.Response:
        return self.ask("POST", f"/escalation/v1/incidents/{self.incident}/{name}", caller, json=body)

    # --- what people write ---

    def import_directory(self) -> None:
        for kind in ("wards", "directory"):
            settings = Settings().model_copy(update={"data": self.data})
            run(import_file(settings, kind, SAMPLES / f"{kind}.csv", keep_going=False))  # type: ignore[arg-type]
        self.up.until_ready()

    def change_contacts(self) -> None:
        """One that is refused, and one that nothing answers at."""
        admin = Principal("mau-quan-tri", "admin")
        row = {"holder_id": CHAIR_HERE.subject, "channel": f"irc://{MARKS['refused_address']}@host/x"}
        assert self.ask("PUT", "/escalation/v1/directory/contacts", admin, json={"rows": [row]}).status_code == 422
        row["channel"] = f"json://{MARKS['address']}@127.0.0.1:9/{MARKS['address']}"
        done = self.ask("PUT", "/escalation/v1/directory/contacts", admin, json={"rows": [row]})
        assert done.status_code == 200, done.text

    def report(self, **changes: Any) -> httpx.Response:
        plain = {
            "report_id": MARKS["report_id"],
            "category": "FIRE",
            "ward": "Ba Đình",
            "neighbourhood": MARKS["neighbourhood"],
            "occurred_at": "2023-01-21T23:50:00+07:00",
            "description": MARKS["description"],
            "harm": {"deaths": 1},
            "evidence": [{"sha256": "0" * 64, "bytes": 1, "media_type": f"image/{MARKS['media_type']}"}],
            "reporter": {"name": MARKS["name"], "phone": f"0{MARKS['phone']}"},
        }
        path, headers = "/intake/v1/reports", {"prefer": "wait=10"}
        return self.ask("POST", path, OFFICER, json=plain | changes, headers=headers)

    def work_on_it(self) -> None:
        """From the report to the desk's answer, with mistakes on the way."""
        answer = self.report()
        assert answer.status_code == 201, answer.text
        self.incident = answer.json()["incident"]["id"]
        assert self.report(**{MARKS["unknown_field"]: MARKS["unknown_field"]}).status_code == 422
        self.ask("POST", "/intake/v1/reports", OFFICER, content=f'{{"{MARKS["not_json"]}'.encode())
        self.ask("GET", f"/intake/v1/wards?q={MARKS['query']}", None)
        self.ask("GET", f"/escalation/v1/incidents?ward={MARKS['query']}&{MARKS['query']}=1", DESK)
        for name, caller, said in (
            ("acknowledgements", CHAIR_HERE, {}),
            ("responses", CHAIR_HERE, {"text": MARKS["response"]}),
            ("verifications", DESK, {"verdict": "confirmed", "reason": MARKS["reason"]}),
            ("designations", DESK, {"reason": MARKS["reason"]}),
        ):
            done = self.command(name, caller, **said)
            assert done.status_code == 201, (name, done.text)
        self.until_recorded()

    def until_recorded(self) -> None:
        """What was said is in the ledger, and a notice was brought."""
        auditor = Principal("mau-kiem-toan", "auditor")
        path = f"/ledger/v1/entries?incident={self.incident}&limit=500"
        kinds = ("response.recorded", "incident.verified", "incident.designated", "delivery.finished")

        def are_there() -> bool:
            found = self.ask("GET", path, auditor).text
            return all(kind in found for kind in kinds)

        until(are_there, "all of it is in the ledger", every=0.05)

    # --- errors of the databases ---

    def refuse_failing_values(self) -> None:
        """Let each database refuse its value, and have it come: the driver quotes the whole row."""

        async def add_constraints(settings: Settings) -> None:
            database = connect(str(settings.database_url), pool_size=1)
            async with database.begin() as connection:
                for service, table, column in REFUSALS:
                    rule = f"CHECK (coalesce({column}, '') NOT LIKE '%{FAILING[service]}%') NOT VALID"
                    await connection.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT refuses_marks {rule}"))
            await database.dispose()

        run(self._with_servers(add_constraints))
        for answer in (
            self.report(report_id=FAILING["intake"]),
            self.command("designations", DESK, reason=FAILING["escalation"], prominent=False),
        ):
            assert answer.status_code >= 500, answer.text
            self.answers[f"failure of {answer.request.url.path}"] = answer.text
        assert self.report(report_id="tin-2", description=FAILING["ledger"]).status_code == 201
        until(lambda: "ledger.dead_letters" in self._failing(), "the ledger puts the event aside", every=0.05)

    def _failing(self) -> set[str]:
        checks = self.ask("GET", "/readyz", None).json()["checks"]
        return {check["name"] for check in checks if not check["ok"]}

    # --- what comes out ---

    def read_answers(self) -> None:
        """What each role is shown, and what anybody may read."""
        roles: dict[str, Principal] = {
            "officer": OFFICER,
            "official": CHAIR_HERE,
            "official elsewhere": CHAIR_ELSEWHERE,
            "desk": DESK,
            **{role: Principal(f"mau-{role}", role) for role in _OTHERS},
        }
        paths = (
            f"/escalation/v1/incidents/{self.incident}",
            "/escalation/v1/incidents",
            "/escalation/v1/handover",
            "/escalation/v1/directory?kind=contacts",
            "/escalation/v1/directory",
            "/ledger/v1/entries?limit=500",
            "/ledger/v1/export?format=ndjson",
            "/ledger/v1/export?format=csv",
        )
        for name, caller in roles.items():
            self.answers[name] = "\n".join(self.ask("GET", path, caller).text for path in paths) + self._stream(caller)
        public = ("/metrics", "/intake/metrics", "/escalation/metrics", "/ledger/metrics", "/readyz", "/healthz", "/")
        for path in public:
            self.answers[path] = self.ask("GET", path, None).text

    def _stream(self, caller: Principal) -> str:
        """All events of it that the caller may follow."""
        tokens = issuer(self.data / "keys")
        headers = {"authorization": f"Bearer {tokens.issue(caller, days=1)}", "last-event-id": "0-0"}
        read = ""
        timeout = httpx.Timeout(PATIENCE_SECONDS, read=0.3)
        with self.client.stream("GET", "/escalation/v1/stream", headers=headers, timeout=timeout) as answer:
            try:
                for part in answer.iter_text():
                    read += part
            except httpx.ReadTimeout:
                pass
        return read

    def read_stores(self) -> dict[str, str]:
        """Streams, the append-only file after it was written anew, and every table."""

        async def read(settings: Settings) -> dict[str, str]:
            found = await _read_redis(str(settings.redis_url), self.data)
            database = connect(str(settings.database_url), pool_size=1)
            async with database.connect() as connection:
                for service in SERVICES:
                    names = text("SELECT table_name FROM information_schema.tables WHERE table_schema = :schema")
                    for table in await connection.scalars(names, {"schema": service}):
                        rows = await connection.scalars(text(f'SELECT t::text FROM {service}."{table}" t'))
                        found[f"{service}.{table}"] = "\n".join(rows)
            await database.dispose()
            return found

        return run(self._with_servers(read))

    async def _with_servers(self, work: Callable[[Settings], Coroutine[Any, Any, T]]) -> T:
        async with shared_infrastructure(Settings().model_copy(update={"data": self.data})) as settings:
            return await work(settings)


_OTHERS: tuple[Role, ...] = ("leader", "auditor", "admin", "device")


async def _read_redis(url: str, data: Path) -> dict[str, str]:
    redis = messaging.connect(url)
    try:
        found: dict[str, str] = {}
        keys: Any = await redis.keys("*")
        for key in keys:
            kind: Any = await redis.type(key)
            if kind == b"stream":
                found[f"stream {key.decode()}"] = str(await redis.xrange(key))
        await redis.bgrewriteaof()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await redis.info("persistence"))["aof_rewrite_in_progress"]:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.01)
    finally:
        await redis.aclose()
    return found | {"append-only file": _append_only_file(data)}


def _append_only_file(data: Path) -> str:
    files = [file for file in data.rglob("*.aof*") if file.is_file()]
    assert files, "there is an append-only file"
    return "".join(file.read_bytes().decode(errors="replace") for file in files)
