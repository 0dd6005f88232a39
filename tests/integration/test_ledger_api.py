"""The ledger over HTTP: what an auditor can ask, and that nobody else can."""

import base64
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from services.cli.embedded import Servers
from services.ledger import app as ledger_app
from services.ledger.api import router
from services.ledger.api.rights import RIGHTS
from services.ledger.application import Ledger
from services.ledger.domain import merkle
from services.ledger.domain.checkpoint import open_checkpoint
from services.ledger.domain.verify import verify_export
from shared import messaging
from shared.clock import Clock
from shared.database import migrate
from shared.events import AcknowledgementRecorded, AcknowledgementRecordedData, encode
from shared.http.identity import ROLES, Principal, Role, TokenIssuer, TokenVerifier
from shared.http.web import compose, service_app
from shared.settings import Settings
from tests.integration.ledger_support import opened
from tests.integration.messaging_support import append_signed, until
from tests.servers import new_database, new_redis
from tests.unit.ledger.sample import AT, ORIGIN, SIGNER, report

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
TOKENS = TokenVerifier(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
ACKNOWLEDGEMENT = AcknowledgementRecorded(
    id="01860000-0000-7000-8000-0000000000ff",
    source="/trucban/escalation",
    subject="incident-1",
    time=AT,
    data=AcknowledgementRecordedData(
        incident="incident-1", notice_id="n", holder="mau-14776-chu-tich", posts=("chairman",), in_time=True
    ),
)
EVENTS = [report(number, ward=str(14_700 + number % 3)) for number in range(57)]


def bearer(role: Role) -> dict[str, str]:
    token = TokenIssuer(KEY).issue(Principal("mau-kiem-toan", role, ward="14776"))
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
async def servers(servers: Servers) -> Servers:
    """With streams of its own."""
    return replace(servers, redis_url=await new_redis(servers))


@pytest.fixture(scope="module")
async def ledger(servers: Servers) -> AsyncGenerator[Ledger]:
    """A log of 57 entries in batches of 10: read only by the tests below."""
    async with opened(await new_database(servers)) as found:
        for start in range(0, len(EVENTS), 10):
            await found.record(EVENTS[start : start + 10])
        yield found


def client_of(app: FastAPI, **more: Any) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url="http://ledger/v1", **more)


@pytest.fixture(scope="module")
def app(ledger: Ledger) -> FastAPI:
    made = service_app("ledger", TOKENS, router, RIGHTS)
    made.state.ledger = ledger
    return made


@pytest.fixture(scope="module")
async def client(app: FastAPI) -> AsyncGenerator[AsyncClient]:
    """An auditor."""
    async with client_of(app, headers=bearer("auditor")) as found:
        yield found


async def answer(client: AsyncClient, path: str, **params: Any) -> Any:
    response = await client.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def all_pages(client: AsyncClient, **params: Any) -> list[int]:
    """Indexes over all pages, as a client collects them."""
    indexes: list[int] = []
    while True:
        page = await answer(client, "/entries", **params)
        indexes += [item["index"] for item in page["items"]]
        if page["next"] is None:
            return indexes
        params["cursor"] = page["next"]


def hashes(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


@pytest.mark.parametrize("limit", [1, 7, 56, 57, 500])
async def test_pages_give_every_entry_once_in_order(client: AsyncClient, limit: int) -> None:
    """However long the pages, following `next` shows each entry once, both ways."""
    assert await all_pages(client, limit=limit) == list(range(57))
    assert await all_pages(client, limit=limit, order="desc") == list(range(56, -1, -1))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"ward": "14701"}, range(1, 57, 3)),
        ({"official": "mau-14702-chu-tich"}, range(2, 57, 3)),
        ({"official": "mau-14702-chu-tich", "incident": "incident-0"}, range(5, 57, 15)),
        ({"incident": "incident-3"}, range(3, 57, 5)),
        ({"category": "FIRECRACKER_SET_OFF", "kind": "report.received"}, range(57)),
        ({"kind": "vn.trucban.report.received.v1"}, range(57)),
        ({"kind": "decision.made"}, []),
        ({"occurred_from": AT.isoformat(), "occurred_to": "2023-01-22T00:30:00.000001+07:00"}, range(57)),
        ({"occurred_to": AT.isoformat()}, []),
        ({"recorded_from": (AT + timedelta(hours=1)).isoformat()}, []),
    ],
)
async def test_filters(client: AsyncClient, params: dict[str, str], expected: list[int]) -> None:
    """Each filter gives exactly the entries that it names, page by page; all of several must hold."""
    assert await all_pages(client, limit=4, **params) == list(expected)


async def test_entry_and_every_proof(client: AsyncClient) -> None:
    """Each entry's own bytes hash to its leaf, and its proof leads to the root of the signed checkpoint."""
    note = (await client.get("/checkpoint")).text
    signed = open_checkpoint(note, SIGNER.verifier, ORIGIN)
    assert signed.size == 57
    for index in range(57):
        line = (await client.get(f"/entries/{index}")).content
        leaf = merkle.leaf_hash(line.partition(b'"body":')[2][:-1])
        proof = await answer(client, f"/entries/{index}/proof")
        assert (proof["leaf_hash"], proof["root"], proof["checkpoint"]) == (leaf.hex(), signed.root.hex(), note)
        merkle.verify_inclusion(index, 57, leaf, hashes(proof["path"]), signed.root)


async def test_proof_at_an_earlier_size(client: AsyncClient) -> None:
    """A proof is given for any size; it carries a checkpoint where a batch ended and one was signed."""
    for size in range(6, 58):
        proof = await answer(client, "/entries/5/proof", size=size)
        root = bytes.fromhex(proof["root"])
        merkle.verify_inclusion(5, size, bytes.fromhex(proof["leaf_hash"]), hashes(proof["path"]), root)
        if size % 10 == 0 or size == 57:
            assert open_checkpoint(proof["checkpoint"], SIGNER.verifier, ORIGIN).root == root
        else:
            assert proof["checkpoint"] is None


async def test_consistency_between_all_sizes(client: AsyncClient) -> None:
    """Every earlier log is a provable prefix of the present one."""
    for first in range(58):
        proof = await answer(client, "/consistency", first=first)
        roots = bytes.fromhex(proof["first_root"]), bytes.fromhex(proof["second_root"])
        merkle.verify_consistency(first, 57, *roots, hashes(proof["path"]))


async def test_export_verifies_offline(client: AsyncClient) -> None:
    """What was downloaded verifies with the key alone, and reads as JSON lines."""
    response = await client.get("/export", params={"format": "ndjson"})
    assert response.headers["content-type"] == "application/x-ndjson"
    found = verify_export(response.content.splitlines(keepends=True), SIGNER.verifier.vkey())
    assert found.is_verified, found.failures
    assert found.entries == 57


async def test_bodies_are_json_without_personal_text(client: AsyncClient) -> None:
    """A page carries bodies as JSON, with commitments and without personal text."""
    item = (await answer(client, "/entries", limit=1))["items"][0]
    assert item["body"]["kind"] == "vn.trucban.report.received.v1"
    assert item["body"]["ward"] == "14700"
    assert list(item["body"]["commit"]) == ["description"]
    assert "description" not in item["body"]["data"]


@pytest.mark.parametrize("path", ["/entries", "/entries/0", "/entries/0/proof", "/consistency?first=1", "/export"])
async def test_only_the_auditor_reads(app: FastAPI, path: str) -> None:
    """No token is 401, another role 403; the checkpoint alone is public."""
    async with client_of(app) as anyone:
        assert (await anyone.get(path)).status_code == 401
        assert (await anyone.get("/checkpoint")).status_code == 200
        for role in ROLES:
            expected = 200 if role == "auditor" else 403
            assert (await anyone.get(path, headers=bearer(role))).status_code == expected


OTHER_ORDER = base64.urlsafe_b64encode(b'["desc",5]').decode()


@pytest.mark.parametrize(
    ("path", "status", "pointer"),
    [
        ("/entries?limit=0", 422, "#/limit"),
        ("/entries?limit=501", 422, "#/limit"),
        ("/entries?order=up", 422, "#/order"),
        ("/entries?wards=14701", 422, "#/wards"),
        ("/entries?ward=%00", 422, "#/ward"),
        ("/entries?occurred_from=2023-01-22T00:00:00", 422, "#/occurred_from"),
        ("/entries?occurred_to=0001-01-01T00:00:00%2B07:00", 422, "#/occurred_to"),
        ("/entries?cursor=x", 422, "#/cursor"),
        ("/entries?cursor=%C3%A9", 422, "#/cursor"),
        (f"/entries?cursor={OTHER_ORDER}", 422, "#/cursor"),
        ("/entries/-1", 422, "#/index"),
        (f"/entries/{2**63}", 422, "#/index"),
        ("/entries/57", 404, None),
        ("/entries/57/proof", 404, None),
        ("/entries/9/proof?size=9", 404, None),
        ("/entries/9/proof?size=58", 422, "#/size"),
        ("/consistency", 422, "#/first"),
        ("/consistency?first=9&second=8", 422, "#/first"),
        ("/consistency?first=9&second=58", 422, "#/second"),
        ("/export?format=xml", 422, "#/format"),
    ],
)
async def test_bad_requests_name_the_field(client: AsyncClient, path: str, status: int, pointer: str | None) -> None:
    """A problem that says which parameter and why, and never a 500."""
    response: Response = await client.get(path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in response.json().get("errors", [])] == ([pointer] if pointer else [])


async def test_service_records_what_the_streams_bring(servers: Servers, tmp_path: Path) -> None:
    """Wired as it runs: an empty log has a checkpoint, events of both streams become entries, and it is ready."""
    url = await new_database(servers)
    await migrate(url, "ledger")
    settings = Settings(redis_url=servers.redis_url, database_url=url, keys=tmp_path, consumer="one")
    redis = messaging.connect(servers.redis_url)
    await redis.flushdb()
    service = ledger_app.build(settings, Clock(AT))
    whole = compose([service], TOKENS)
    both = messaging.streams(messaging.INTAKE, 1) | messaging.streams(messaging.ESCALATION, 1)
    verifier = ledger_app.load_signer(settings).verifier
    async with service.running(), client_of(service.app) as anyone:
        empty = open_checkpoint((await anyone.get("/checkpoint")).text, verifier, settings.ledger_origin)
        assert (empty.size, empty.root) == (0, merkle.EMPTY_ROOT)
        for stream, event in zip(both, (EVENTS[0], ACKNOWLEDGEMENT), strict=True):
            await append_signed(redis, messaging.seals(tmp_path), stream, 1, encode(event))
        await messaging.wait_drained(redis, [], dict.fromkeys(both, ("ledger",)), timeout=20)
        full = open_checkpoint((await anyone.get("/checkpoint")).text, verifier, settings.ledger_origin)
        assert full.size == 2
        async with AsyncClient(transport=ASGITransport(whole), base_url="http://all") as health:

            async def is_ready() -> bool:
                return (await health.get("/readyz")).status_code == 200

            await until(is_ready, "the ledger is ready: it has read the stream of revocations too")
    await redis.aclose()


async def test_an_entry_that_no_service_has_signed_is_no_entry_of_the_ledger(servers: Servers, tmp_path: Path) -> None:
    """Somebody with the address of Redis acknowledges a notice in an official's name. The operator is told."""
    url = await new_database(servers)
    await migrate(url, "ledger")
    settings = Settings(redis_url=servers.redis_url, database_url=url, keys=tmp_path, consumer="one")
    redis = messaging.connect(servers.redis_url)
    await redis.flushdb()
    service = ledger_app.build(settings, Clock(AT))
    whole = compose([service], TOKENS)
    stream = messaging.stream_name(messaging.ESCALATION, 0)
    verifier = ledger_app.load_signer(settings).verifier
    refused = f'trucban_refused_entries_total{{reader="ledger",stream="{stream}"}}'
    async with (
        service.running(),
        client_of(service.app) as anyone,
        AsyncClient(transport=ASGITransport(whole), base_url="http://all") as operator,
    ):
        before = await counted(operator, refused)
        await redis.xadd(stream, {"__data__": encode(ACKNOWLEDGEMENT)}, id="1-0")

        async def is_told() -> bool:
            answer = await operator.get("/readyz")
            failing = {check["name"] for check in answer.json()["checks"] if not check["ok"]}
            return failing == {"ledger.dead_letters"}

        await until(is_told, "/readyz says that there is a dead letter")
        assert await counted(operator, refused) == before + 1
        empty = open_checkpoint((await anyone.get("/checkpoint")).text, verifier, settings.ledger_origin)
        assert empty.size == 0
    await redis.aclose()


async def counted(operator: AsyncClient, name: str) -> float:
    lines = (await operator.get("/metrics")).text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)
