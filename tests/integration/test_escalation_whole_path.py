"""A report's whole way through all three services: to both post-holders, on the record, and no name of who reported."""

from collections import Counter
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from services.cli.verify_ledger import verify_ledger
from services.ledger.app import load_signer
from shared import messaging
from shared.http.identity import Principal
from shared.messaging import ESCALATION, INTAKE
from tests.integration.escalation_support import (
    Template,
    WholeCity,
    decisions_that_differ_when_computed_again,
    until,
    whole_city_in,
)
from tests.support import CHAIR, NIGHT, SECRETARY, body

NAME, PHONE = "Nguyễn Thị Bí Mật", "0912 345 678"
WORDS = "Nghe ba tiếng nổ sau chợ Vườn Hoa"
CORNER = {"latitude": 19.80751, "longitude": 105.77641}


@pytest.fixture(scope="module")
async def city(template: Template) -> AsyncGenerator[WholeCity]:
    """One for all tests below: each reports from a ward of its own, the last one moves the clock."""
    async with whole_city_in(template) as made:
        yield made


def officials(ward: str) -> tuple[Principal, Principal]:
    return (
        Principal(f"mau-{ward}-bi-thu", "official", ward, SECRETARY),
        Principal(f"mau-{ward}-chu-tich", "official", ward, CHAIR),
    )


async def test_a_report_reaches_the_two_who_answer_for_it_and_both_acknowledge(city: WholeCity) -> None:
    officer = Principal("cb-1", "officer", "14776")
    headers = city.bearer(officer) | {"prefer": "wait=10"}
    answer = await city.client.post("/intake/v1/reports", json=body(), headers=headers)
    assert answer.status_code == 201
    assert answer.headers["preference-applied"] == "wait=10"
    incident = answer.json()["incident"]
    assert incident["outcome"] == "new"
    joined = await city.client.post("/intake/v1/reports", json=body(), headers=headers)
    assert joined.json()["incident"] == {"id": incident["id"], "outcome": "merged"}
    await city.settle()
    told = [(s["recipient"], s["posts"][0]) for s in city.sent if s["incident_id"] == incident["id"]]
    assert sorted(told) == [
        ("mau-14776-bi-thu", SECRETARY),
        ("mau-14776-chu-tich", CHAIR),
    ], "two notices for two reports of one incident"
    path = f"/escalation/v1/incidents/{incident['id']}/acknowledgements"
    states = [(await city.post(path, holder)).json()["state"] for holder in officials("14776")]
    assert states == ["notified", "acknowledged"]
    receipt = await city.get(f"/intake/v1/receipts/{answer.json()['receipt']}")
    assert receipt.json() == {
        "receipt": answer.json()["receipt"],
        "received_at": answer.json()["received_at"],
        "state": "routed",
        "incident": incident,
    }, "public, and without a word of who, what or where"
    assert not await decisions_that_differ_when_computed_again(city)


async def test_the_ledger_holds_each_event_of_the_way_once_and_verifies(city: WholeCity) -> None:
    incident = await city.report(body(ward="Ngọc Trạo"))
    for holder in officials("14779"):
        await city.post(f"/escalation/v1/incidents/{incident}/acknowledgements", holder)
    await city.settle()
    answer = await city.get("/ledger/v1/entries", "auditor", params={"incident": incident, "limit": 500})
    kinds = Counter(e["body"]["kind"].removeprefix("vn.trucban.") for e in answer.json()["items"])
    assert kinds == {
        "incident.opened.v1": 1,
        "report.correlated.v1": 1,
        "decision.made.v1": 1,
        "notice.issued.v1": 2,
        "delivery.finished.v1": 2,
        "acknowledgement.recorded.v1": 2,
    }
    received = await city.get("/ledger/v1/entries", "auditor", params={"kind": "report.received", "ward": "14779"})
    assert len(received.json()["items"]) == 1
    export = await city.get("/ledger/v1/export", "auditor", params={"format": "ndjson"})
    path = city.settings.data / "export.ndjson"
    path.write_bytes(export.content)
    report = verify_ledger(str(path), load_signer(city.settings).verifier.vkey(), None, None)
    assert report.is_verified, report.failures


async def test_who_reported_is_nowhere_but_sealed_in_intake(city: WholeCity) -> None:
    sent = body(ward="Đông Thọ", reporter={"name": NAME, "phone": PHONE}, description=WORDS, location=CORNER)
    await city.report(sent)
    await city.report(body(ward="Đông Thọ", reporter={"name": NAME}))
    everywhere = await everything(city)
    for secret in (NAME, PHONE, "+84912345678", "912345678"):
        found = [place for place, content in everywhere.items() if holds(content, secret)]
        assert not found, f"{secret} is in {found}"


async def test_the_senders_id_of_a_report_and_their_name_are_in_no_event_that_is_kept_for_ever(city: WholeCity) -> None:
    """A sender may put a telephone number into an id."""
    officer = Principal("cb-0912345678", "officer", "14782")
    incident = await city.report(body(ward="14782", report_id="tin-0987654321"), officer)
    everywhere = await everything(city)
    for secret, deletable in (
        ("tin-0987654321", {"escalation.report", "ledger.private"}),
        ("cb-0912345678", set[str]()),
    ):
        found = {place for place, content in everywhere.items() if holds(content, secret)}
        assert deletable | {"intake.report"} <= found
        on_the_way = {"intake.outbox", "trucban.intake.{0}"} if deletable else set[str]()
        assert found <= deletable | on_the_way | {"intake.report"}, f"{secret} is in {found}"
    seen = {}
    for role in ("desk", "leader"):
        (seen[role],) = (await city.get(f"/escalation/v1/incidents/{incident}", role)).json()["reports"]
    assert seen["desk"]["report_id"] == "tin-0987654321"
    assert seen["leader"]["report_id"] == seen["desk"]["id"], "what the sender wrote may name a person"


async def test_what_was_said_and_where_is_kept_for_those_who_act_and_committed_to_in_the_ledger(
    city: WholeCity,
) -> None:
    await city.report(body(ward="Lam Sơn", description=WORDS, location=CORNER))
    everywhere = await everything(city)
    for secret in (WORDS, "19.80751"):
        found = {place for place, content in everywhere.items() if holds(content, secret)}
        deletable, anchor = {"escalation.report", "ledger.private"}, {"escalation.incident"}
        on_the_way = {"intake.outbox", "trucban.intake.{0}"}
        assert deletable <= found
        assert found <= deletable | on_the_way | anchor, f"{secret} is in {found}"


async def test_when_nobody_answers_the_desk_is_told_by_the_loop_itself(city: WholeCity) -> None:
    incident = await city.report(body(ward="Phú Sơn", harm={"deaths": 3}))
    city.clock.set(NIGHT + timedelta(minutes=6))
    await city.settle()

    async def told() -> bool:
        return any(s["purpose"] == "not_acknowledged" and s["incident_id"] == incident for s in city.sent)

    await until(told, "the desk has been sent that nobody acknowledged")
    (to_desk,) = (s for s in city.sent if s["incident_id"] == incident and s["purpose"] == "not_acknowledged")
    assert to_desk["recipient"] == "desk"
    assert sorted(to_desk["posts"]) == [CHAIR], "the secretary's post is vacant that night"


def holds(content: str, secret: str) -> bool:
    """As text, as JSON escapes it, or in bytes that PostgreSQL shows in hex."""
    escaped = secret.encode("unicode_escape").decode()
    return any(form in content for form in (secret, escaped, secret.encode().hex()))


async def everything(city: WholeCity) -> dict[str, str]:
    """All that is stored or sent anywhere, by place: tables, streams and the outbox file."""
    found: dict[str, str] = {}
    async with city.escalation.database.connect() as connection:
        tables = await connection.execute(
            text(
                "SELECT schemaname || '.' || tablename AS name FROM pg_tables"
                " WHERE schemaname IN ('intake', 'escalation', 'ledger')"
            )
        )
        for (name,) in tables.all():
            rows = await connection.execute(text(f"SELECT t::text FROM {name} t"))
            found[name] = "\n".join(row for (row,) in rows)
    assert city.settings.redis_url is not None
    redis: Any = messaging.connect(city.settings.redis_url)
    for stream in (*messaging.streams(INTAKE, 1), *messaging.streams(ESCALATION, 1)):
        entries = await redis.xrange(stream)
        found[stream] = "\n".join(value.decode() for _, fields in entries for value in fields.values())
    await redis.aclose()
    found["outbox file"] = (city.settings.data / "outbox.ndjson").read_text(encoding="utf-8")
    assert all(found[place] for place in ("intake.report", "escalation.report", "ledger.entry"))
    return found
