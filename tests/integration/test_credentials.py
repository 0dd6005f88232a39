"""A credential that was revoked is refused in every service, and all of it is recorded."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
import pytest
from httpx import Response

from services.escalation.application.credentials import take_seen
from services.intake.application.record_seen import record_seen
from shared.credentials.revocation import Revocation, Revoked
from shared.http.identity import Principal
from tests.integration.cli_support import trucban
from tests.integration.escalation_support import WholeCity, until
from tests.support import body

ADMIN = "/escalation/v1/credentials"
REVOCATIONS = f"{ADMIN}/revocations"
LOST = "mất điện thoại"
ASKED: Mapping[str, str] = {
    "intake": "/intake/v1/reports",
    "escalation": "/escalation/v1/incidents",
    "ledger": "/ledger/v1/entries",
}


class Asking:
    """One token, and what each service answers to it."""

    def __init__(self, house: WholeCity, principal: Principal) -> None:
        self.house = house
        self.issued = house.tokens.sign(principal)
        self.headers = {"authorization": f"Bearer {self.issued.text}"}

    async def statuses(self) -> dict[str, int]:
        asked = {
            "intake": self.house.client.post(ASKED["intake"], headers=self.headers, json={}),
            "escalation": self.house.client.get(ASKED["escalation"], headers=self.headers),
            "ledger": self.house.client.get(ASKED["ledger"], headers=self.headers),
        }
        return {name: (await answer).status_code for name, answer in asked.items()}

    async def is_refused(self) -> bool:
        return set((await self.statuses()).values()) == {401}


async def revoke(house: WholeCity, **what: str) -> Response:
    return await house.post(REVOCATIONS, "admin", json={"reason": LOST} | what)


async def recorded(house: WholeCity, kind: str) -> list[dict[str, Any]]:
    """The data of all entries of the ledger of this kind."""
    await house.settle()
    rows = await house.rows("SELECT body FROM ledger.entry WHERE kind = :kind ORDER BY idx", kind=kind)
    return [orjson.loads(row.body)["data"] for row in rows]


async def hand_over(house: WholeCity) -> None:
    """Let each service record what it refused, without waiting for the minute to pass."""
    intake, core, ledger = house.services
    await intake.app.state.verifier.observed.hand_over(partial(record_seen, house.services.intake.intake))
    await core.app.state.verifier.observed.hand_over(partial(take_seen, house.escalation))
    await ledger.app.state.verifier.observed.hand_over(house.services.ledger.ledger.record_seen)


async def test_a_token_that_was_revoked_is_refused_by_every_service_and_another_is_not(house: WholeCity) -> None:
    lost, kept = Asking(house, Principal("truc-ban", "desk")), Asking(house, Principal("truc-ban", "desk"))
    before = await kept.statuses()
    assert 401 not in before.values()
    answer = await revoke(house, token=lost.issued.text)
    assert answer.status_code == 200, answer.text
    assert [each["credential_id"] for each in answer.json()["revoked"]] == [lost.issued.token_id]
    await until(lost.is_refused, "every service refuses the token", 10)
    assert await kept.statuses() == before
    (event,) = [e for e in await recorded(house, "credential.revoked") if e["credential_id"] == lost.issued.token_id]
    assert (event["holder"], event["who"]["subject"], "reason" in event) == ("truc-ban", "mau-admin", False)
    again = await revoke(house, credential=lost.issued.token_id)
    assert again.json() == {"revoked": []}


async def test_uses_after_a_revocation_are_counted_by_the_minute_in_each_service(house: WholeCity) -> None:
    officer = Asking(house, Principal("cb-mat-may", "officer", "14776"))
    await revoke(house, token=officer.issued.text)
    await until(officer.is_refused, "every service refuses the token", 10)
    await hand_over(house)
    known = len(await recorded(house, "credential.refused"))
    await officer.statuses()
    await officer.statuses()
    await hand_over(house)
    refused = (await recorded(house, "credential.refused"))[known:]
    assert {each["service"] for each in refused} == set(ASKED)
    assert sum(each["count"] for each in refused) == 6
    assert {each["credential_id"] for each in refused} == {officer.issued.token_id}
    assert all(each["holder"].startswith("p_") and not each.get("who") for each in refused)
    for table in ("ledger.entry", "escalation.timeline", "escalation.outbox", "intake.outbox", "intake.revocation"):
        found = await house.rows(f"SELECT 1 FROM {table} AS t WHERE strpos(t::text, 'cb-mat-may') > 0")
        assert not found, table


async def test_a_stranger_makes_no_event(house: WholeCity) -> None:
    known = len(await recorded(house, "credential.refused"))
    answer = await house.client.get(ASKED["escalation"], headers={"authorization": "Bearer a.b.c"})
    assert answer.status_code == 401
    await hand_over(house)
    assert len(await recorded(house, "credential.refused")) == known


async def test_all_of_a_person_ends_with_the_links_that_they_were_sent(house: WholeCity) -> None:
    chair = Principal("mau-14776-chu-tich", "official", "14776", "chair")
    one, other = Asking(house, chair), Asking(house, chair)
    issue = ["--role", "official", "--subject", chair.subject, "--ward", "14776", "--post", "chair"]
    done = await trucban(house.database_url, "token", "issue", *issue, "--data", house.settings.data)
    assert done.exit_code == 0, done.output
    incident = await house.report(body(report_id="tin-lien-ket"))
    query = "SELECT notice_id, issued_at FROM escalation.notice WHERE recipient = :who AND incident_id = :id"
    (notice, *_) = await house.rows(query, who=chair.subject, id=incident)
    signer = house.services.escalation.app.state.link_signer
    link = signer.of_notice(notice.notice_id, chair.subject, notice.issued_at).partition("/escalation")[2]
    link = f"/escalation{link}"
    assert (await house.client.get(link)).status_code == 200
    listed = await house.get(f"{ADMIN}?subject={chair.subject}", "admin")
    (item,) = listed.json()["items"]
    assert (item["kind"], item["role"], item["post"]) == ("token", "official", "chair")
    answer = await revoke(house, subject=chair.subject)
    assert {each["credential_id"] for each in answer.json()["revoked"]} == {item["credential_id"], None}
    token = {"authorization": f"Bearer {done.stdout.strip()}"}

    async def ended() -> bool:
        page = await house.client.get(link)
        asked = await house.client.get(ASKED["escalation"], headers=token)
        return (page.status_code, "thu hồi" in page.text, asked.status_code) == (410, True, 401)

    await until(ended, "token and link are refused", 10)
    assert (await house.client.post(link)).status_code == 410
    assert not (await house.get(f"{ADMIN}?subject={chair.subject}", "admin")).json()["items"]
    # what nobody recorded has an id, and ends by its text
    assert 401 not in (await one.statuses()).values()
    await revoke(house, token=other.issued.text)
    await until(other.is_refused, "the other is refused", 10)


async def test_the_link_of_one_notice_ends_alone(house: WholeCity) -> None:
    incident = await house.report(body(report_id="tin-mot-lien-ket", ward="14779"))
    query = "SELECT notice_id, recipient, issued_at FROM escalation.notice WHERE incident_id = :id ORDER BY 1 LIMIT 2"
    lost, kept = await house.rows(query, id=incident)
    signer = house.services.escalation.app.state.link_signer
    links = [
        "/escalation" + signer.of_notice(row.notice_id, row.recipient, row.issued_at).partition("/escalation")[2]
        for row in (lost, kept)
    ]
    assert (await revoke(house, notice=lost.notice_id)).status_code == 200

    async def is_ended() -> bool:
        return (await house.client.get(links[0])).status_code == 410

    await until(is_ended, "the link is refused", 10)
    assert (await house.client.get(links[1])).status_code == 200
    assert (await revoke(house, notice="khong-co")).status_code == 404


async def test_a_stream_that_is_open_ends_with_its_token(house: WholeCity) -> None:
    desk = Asking(house, Principal("truc-ban-dong", "desk"))
    ended = asyncio.Event()

    async def follow() -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/escalation/v1/stream",
            "raw_path": b"/escalation/v1/stream",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"authorization", desk.headers["authorization"].encode())],
            "client": ("203.0.113.7", 4000),
            "server": ("trucban", 80),
        }

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            begun.set()

        await house.app(scope, receive, send)
        ended.set()

    begun = asyncio.Event()
    task = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(10):
            await begun.wait()
        assert not ended.is_set()
        await revoke(house, token=desk.issued.text)
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_without_the_broker_the_owners_table_is_read(house: WholeCity) -> None:
    """What the stream does not bring is found where the database is shared."""
    lost = Asking(house, Principal("truc-ban-2", "desk"))
    following = house.services.intake.learning.following
    following.stream_failure = lambda: "the broker is away"
    try:
        await house.run("ALTER TABLE intake.revocation RENAME TO kept_aside")
        await house.run("CREATE VIEW intake.revocation AS SELECT * FROM intake.kept_aside WHERE false")
        await revoke(house, token=lost.issued.text)
        await until(lost.is_refused, "intake reads the table of escalation", 10)
        assert following.health_failure() is None
        await house.run("ALTER TABLE escalation.revocation RENAME TO kept_aside")
        await until(_failing(following.health_failure), "intake says that it cannot know", 10)
    finally:
        await house.run("ALTER TABLE IF EXISTS escalation.kept_aside RENAME TO revocation")
        await house.run("DROP VIEW intake.revocation")
        await house.run("ALTER TABLE intake.kept_aside RENAME TO revocation")


def _failing(failure: Callable[[], str | None]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return failure() is not None

    return look


async def test_only_administrators_see_and_end_credentials(house: WholeCity) -> None:
    for role in ("officer", "device", "official", "desk", "leader", "auditor"):
        assert (await house.get(ADMIN, Principal("x", role, "14776", "chair"))).status_code == 403
        refused = await house.post(REVOCATIONS, Principal("x", role, "14776", "chair"), json={})
        assert refused.status_code == 403


@pytest.mark.parametrize(
    "what", [{}, {"credential": "a", "subject": "b"}, {"token": "a.b.c"}, {"subject": "x", "reason": ""}], ids=str
)
async def test_what_is_not_to_be_understood_ends_nothing(house: WholeCity, what: dict[str, str]) -> None:
    assert (await revoke(house, **what)).status_code == 422


async def test_the_command_issues_lists_and_revokes(house: WholeCity) -> None:
    here = ("--data", house.settings.data)
    issue = ("--role", "leader", "--subject", "lanh-dao-9", "--by", "kỹ sư")
    issued = await trucban(house.database_url, "token", "issue", *issue, *here)
    assert issued.exit_code == 0, issued.output
    (event,) = [e for e in await recorded(house, "credential.issued") if e["holder"] == "lanh-dao-9"]
    assert event["who"] == {"subject": "kỹ sư", "role": "operator", "means": "cli"}
    listed = await trucban(house.database_url, "token", "list", "--subject", "lanh-dao-9", "--json", *here)
    (item,) = json.loads(listed.stdout)
    assert (item["credential_id"], item["issued_by"]) == (event["credential_id"], "kỹ sư")
    end = ("token", "revoke", item["credential_id"], "--reason", LOST)
    done = await trucban(house.database_url, *end, *here)
    assert (done.exit_code, item["credential_id"] in done.stdout) == (0, True), done.output
    headers = {"authorization": f"Bearer {issued.stdout.strip()}"}

    async def is_refused() -> bool:
        return (await house.client.get(ASKED["escalation"], headers=headers)).status_code == 401

    await until(is_refused, "the token is refused", 10)
    again = await trucban(house.database_url, *end, *here)
    assert "was revoked before" in again.stdout
    issued = await trucban(house.database_url, "token", "issue", *issue, *here)
    by_text = await trucban(house.database_url, "token", "revoke", issued.stdout.strip(), "--reason", LOST, *here)
    assert "revoked: token" in by_text.stdout, by_text.output
    unknown = await trucban(house.database_url, "token", "revoke", "khong-co", "--reason", LOST, *here)
    assert "there is no credential khong-co" in str(unknown.exception)


def test_what_has_expired_is_forgotten() -> None:
    now, known = datetime.now(UTC), Revoked()
    common: dict[str, Any] = {"kind": "token", "holder": "x", "role": "desk", "revoked_at": now}
    known.add(Revocation(revocation_id="a", credential="1", expires_at=now - timedelta(seconds=1), **common))
    assert known.by_id("1") is None
    known.add(Revocation(revocation_id="b", credential="2", expires_at=now + timedelta(hours=1), **common))
    assert known.by_id("2") is not None
