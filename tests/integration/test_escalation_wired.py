"""Links, stream and watch as the running service has them: wired, and gone when it stops."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from httpx import AsyncClient

from services.cli.all_services import build_all
from services.cli.process import listening_socket, serving
from services.escalation.domain.notices.signed_link import VALID_FOR, LinkSigner
from shared.clock import Clock
from shared.http.identity import Principal, issuer
from shared.keys import secret
from shared.settings import Settings
from tests.integration.escalation_support import Template, WholeCity, reading_from
from tests.integration.stored.arranging import due_times_are
from tests.integration.stored.looking import only
from tests.integration.stored.records import Notice
from tests.servers import new_redis
from tests.support import NIGHT, body

SECONDS = 20.0


@pytest.fixture
async def city(template: Template, tmp_path: Path) -> AsyncGenerator[WholeCity]:
    """Every service behind the server that `trucban` starts."""
    clock = Clock(NIGHT)
    database_url, redis_url = await template.clone(), await new_redis(template.servers)
    given = {"database_url": database_url, "redis_url": redis_url, "data": tmp_path, "keys": None}
    settings = Settings().model_copy(update=given)
    services = build_all(settings, clock)
    sock = listening_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with (
        reading_from(database_url) as reading,
        AsyncClient(base_url=url, timeout=SECONDS) as client,
        serving(list(services), settings, sock),
    ):
        core, app = services.escalation.escalation, services.escalation.app
        tokens = issuer(settings.keys_dir)
        yield WholeCity(core, clock, database_url, reading, app, services, settings, client, tokens)


async def test_a_notice_is_acknowledged_by_its_link_and_the_stream_tells_of_it(city: WholeCity) -> None:
    official = Principal("mau-14776-chu-tich", "official", "14776", "chair")
    async with city.client.stream("GET", "/escalation/v1/stream", headers=city.bearer(official)) as stream:
        assert stream.status_code == 200
        lines = stream.aiter_lines()

        async def heard(what: str) -> None:
            async for line in lines:
                if what in line:
                    return

        incident = await city.report(body())
        async with asyncio.timeout(SECONDS):
            await heard("notice.issued")
        notice = await only(city, Notice, recipient=official.subject, purpose="accountable")
        links = LinkSigner(secret(city.settings.keys_dir, "link"), str(city.client.base_url))
        page = await city.client.post(links.url(notice.notice_id, official.subject, NIGHT + VALID_FOR))
        assert "Đã xác nhận" in page.text
        async with asyncio.timeout(SECONDS):
            await heard("acknowledgement.recorded")
        shown = (await city.get(f"/escalation/v1/incidents/{incident}", "desk")).json()["timeline"]
        assert [e["sequence"] for e in shown] == list(range(1, len(shown) + 1))


async def test_readiness_and_metrics_say_what_was_forgotten(city: WholeCity) -> None:
    await city.report(body())
    names = {c["name"]: c["ok"] for c in (await city.get("/escalation/readyz")).json()["checks"]}
    kinds = {"unwatched", "deadlines", "deliveries", "postponed", "offices"}
    assert {n for n in names if n.startswith("watch.")} == {f"watch.{kind}" for kind in kinds}
    await due_times_are(city, "passed")
    ready = await city.get("/escalation/readyz")
    assert ready.status_code == 503
    assert "wait for nobody" in next(c["detail"] for c in ready.json()["checks"] if not c["ok"])
    assert 'trucban_forgotten{kind="unwatched"} 1.0' in (await city.get("/escalation/metrics")).text


async def test_the_server_stops_while_somebody_follows_the_stream(city: WholeCity) -> None:
    """The response is left open: the fixture stops the server before it closes the client."""
    request = city.client.build_request("GET", "/escalation/v1/stream", headers=city.bearer("desk"))
    answer = await city.client.send(request, stream=True)
    assert answer.status_code == 200
    assert city.services.escalation.broadcast.listeners == 1
