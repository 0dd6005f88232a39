"""Reports over HTTP against real servers: what is accepted is durable and told once; what is not is told why."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from httpx import AsyncClient
from sqlalchemy import MetaData, update
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateSchema

from services.cli.embedded import Servers
from services.intake import store
from services.intake.api.body import submission_of
from services.intake.application.accept_reports import ReportAcceptance
from services.intake.application.record_escalation_events import record_escalation_events
from services.intake.domain.draft import Draft
from shared import messaging
from shared.database import connect
from shared.events import ReportCorrelated, ReportCorrelatedData, ReportReceivedV2, encode, parse
from shared.http.identity import Principal
from shared.http.problem import Problem
from shared.http.rate import Rate
from shared.ids import uuid7
from shared.keys import secret
from shared.messaging import ESCALATION, Outgoing, Relay
from shared.probe import Probe, commit_nothing
from tests.integration.intake_support import House, Place, opened, place_on, unit_events
from tests.integration.messaging_support import until
from tests.integration.stored.looking import commits_of_reports, reports_as_received, stored_in
from tests.integration.stored.neighbours import IntakeOutgoing, Received, Reporter
from tests.integration.stored.records import Record
from tests.unit.intake.sample import AT, DESK, body


@pytest.fixture(scope="module")
async def place(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Place]:
    async with place_on(servers, tmp_path_factory.mktemp("intake") / "keys") as found:
        yield found


@pytest.fixture
async def house(place: Place) -> AsyncGenerator[House]:
    async with opened(place) as found:
        yield found


async def count(house: House, kind: type[Record]) -> int:
    return len(await stored_in(house.database, kind))


async def outgoing(house: House) -> list[ReportReceivedV2]:
    events = [parse(row.body) for row in await stored_in(house.database, IntakeOutgoing)]
    assert all(isinstance(e, ReportReceivedV2) for e in events)
    return [e for e in events if isinstance(e, ReportReceivedV2)]


def correlated(report_id: str, incident: str, outcome: Any = "new") -> ReportCorrelated:
    return ReportCorrelated(
        id=uuid7(AT),
        source="/trucban/escalation",
        subject=incident,
        time=AT,
        data=ReportCorrelatedData(report_id=report_id, incident=incident, outcome=outcome),
    )


async def test_a_report_is_accepted_once_and_tells_its_receipt(house: House) -> None:
    desk = await house.client("desk")
    first = await desk.post("/reports", json=body())
    again = await desk.post("/reports", json=body())
    other = await desk.post("/reports", json=body(description="chuyện khác"))
    assert (first.status_code, first.json()["outcome"]) == (201, "accepted")
    assert (again.status_code, again.json()["outcome"]) == (200, "duplicate")
    assert again.json()["receipt"] == first.json()["receipt"]
    assert (other.status_code, other.headers["content-type"]) == (409, "application/problem+json")
    assert await count(house, Received) == 1
    receipt = await (await house.public()).get(first.headers["location"].removeprefix("/intake/v1"))
    assert receipt.json()["state"] == "accepted"
    assert receipt.json()["receipt"] == first.json()["receipt"]


async def test_a_receipt_is_readable_and_cannot_be_guessed(house: House) -> None:
    desk = await house.client("desk")
    receipts = [(await desk.post("/reports", json=body(report_id=f"r{n}"))).json()["receipt"] for n in range(20)]
    assert len(set(receipts)) == 20
    for receipt in receipts:
        parts = receipt.split("-")
        assert [len(p) for p in parts] == [2, 4, 4, 4, 4]
        assert set("".join(parts[1:])) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    public = await house.public()
    assert (await public.get(f"/receipts/{receipts[0].lower()}")).status_code == 200
    for wrong in ["TB-0000-0000-0000-0000", "%E1%BB%95", "a%0Ab", "x" * 3000]:
        answer = await public.get(f"/receipts/{wrong}")
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_concurrent_reports_share_commits_and_each_is_stored_once(house: House) -> None:
    """200 senders, every report sent three times at once: 200 accepted, 400 duplicates, far fewer commits."""
    desk = await house.client("desk")
    sent = [body(report_id=f"r{n % 200}", description=f"báo cáo {n % 200}") for n in range(600)]
    answers = await asyncio.gather(*(desk.post("/reports", json=report) for report in sent))
    assert Counter(a.status_code for a in answers) == {201: 200, 200: 400}
    receipts = {(a.json()["report_id"], a.json()["receipt"]) for a in answers}
    assert len(receipts) == 200, "every answer for one report tells the same receipt"
    assert len({e.subject for e in await outgoing(house)}) == await count(house, IntakeOutgoing) == 200
    assert await commits_of_reports(house.database) <= 60


async def test_one_report_id_with_different_content_at_once_has_one_winner(house: House) -> None:
    desk = await house.client("desk")
    sent = [body(description=f"lời thứ {n}") for n in range(40)]
    answers = await asyncio.gather(*(desk.post("/reports", json=report) for report in sent))
    assert Counter(a.status_code for a in answers) == {201: 1, 409: 39}
    (event,) = await outgoing(house)
    (winner,) = [n for n, a in enumerate(answers) if a.status_code == 201]
    assert event.data.description is not None
    assert event.data.description.value == f"lời thứ {winner}"


async def test_within_one_commit_the_first_of_an_id_wins(house: House) -> None:
    """The same message three times, and another under its id between them, all waiting for one commit."""
    first = await house.acceptance.prepare(submission_of(body()), DESK)
    other = await house.acceptance.prepare(submission_of(body(description="chuyện khác")), DESK)
    waiting = [first, first, other, first, other]
    found = await asyncio.gather(*(house.acceptance.accept(ready) for ready in waiting), return_exceptions=True)
    assert [f.status if isinstance(f, Problem) else getattr(f, "is_new", f) for f in found] == [
        True,
        False,
        409,
        False,
        409,
    ]
    assert [e.id for e in await outgoing(house)] == [first.event.id]


async def test_batches_that_share_ids_in_opposite_order_do_not_deadlock(house: House) -> None:
    """Both are held up by a third's row in the middle: when that goes, neither has what the other waits for."""

    async def drafted() -> list[Draft]:
        """As each sender's attempt makes them: with a receipt of its own."""
        return [await house.acceptance.prepare(submission_of(body(report_id=name)), DESK) for name in ("a", "m", "z")]

    async def write(order: list[Draft]) -> int:
        async with house.database.begin() as connection:
            return sum(s.is_new for s in (await store.add_reports(connection, order)).values())

    async def both_wait() -> bool:
        waiting = (
            "SELECT count(*) AS n FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%report%'"
        )
        return (await house.rows(waiting))[0].n == 2

    async with house.database.connect() as third:
        await store.add_reports(third, (await drafted())[1:2])
        orders = (await drafted(), (await drafted())[::-1])
        writers = [asyncio.create_task(write(order)) for order in orders]
        await until(both_wait, "both batches wait for the row in the middle")
        await third.rollback()
    assert sorted(await asyncio.gather(*writers)) == [0, 3]


async def test_two_replicas_accept_each_report_once(house: House) -> None:
    """Both write the same 300 ids, in opposite orders: each id is new at exactly one of them."""
    desk = await house.client("desk", subject=DESK.subject)
    second = ReportAcceptance(house.intake, Probe(lambda: commit_nothing(house.database, store.metadata)))
    reports = [body(report_id=f"r{n}") for n in range(300)]
    other = [await second.prepare(submission_of(r), DESK) for r in reversed(reports)]
    other = [replace(d, content_mac=b"") for d in other]
    batch = asyncio.create_task(desk.post("/reports:batch", content=orjson.dumps(reports)))
    found = await asyncio.gather(*(second.accept(ready) for ready in other), return_exceptions=True)
    answer = await batch
    won = sum(not isinstance(f, BaseException) for f in found)
    assert all(isinstance(f, Problem) and f.status == 409 for f in found if isinstance(f, BaseException))
    assert answer.json()["accepted"] + won == await count(house, Received) == await count(house, IntakeOutgoing) == 300


async def test_one_row_that_the_database_refuses_fails_alone(house: House) -> None:
    """Validation lets none through; should one get there, the others of its commit must not pay for it."""
    ready = [await house.acceptance.prepare(submission_of(body(report_id=f"r{n}")), DESK) for n in range(20)]
    ready[7] = replace(ready[7], submitter="NUL\0")
    found = await asyncio.gather(*(house.acceptance.accept(r) for r in ready), return_exceptions=True)
    assert [n for n, f in enumerate(found) if isinstance(f, BaseException)] == [7]
    refused = found[7]
    assert isinstance(refused, Problem)
    assert refused.status == 503
    assert await count(house, Received) == await count(house, IntakeOutgoing) == 19


async def test_a_database_that_is_away_answers_503_and_works_again_when_it_is_back(house: House) -> None:
    """The sender is told to send the same again; the row is stored once, whatever became of the first attempt."""
    desk = await house.client("desk")
    assert (await desk.post("/reports", json=body(report_id="before"))).status_code == 201
    name = (await house.rows("SELECT current_database() AS name"))[0].name
    # nobody may connect, and who is connected is cut off: as in a fail-over
    assert house.settings.database_url is not None
    url = make_url(house.settings.database_url).set(database="postgres")
    engine = connect(url.render_as_string(hide_password=False), pool_size=1)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        await connection.exec_driver_sql(cut)
        away = await desk.post("/reports", json=body(report_id="during"))
        batch = await desk.post("/reports:batch", json=[body(report_id="b1"), body(report_id="b2")])
        await connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await engine.dispose()
    assert (away.status_code, away.headers["content-type"]) == (503, "application/problem+json")
    assert batch.status_code == 503 or {r["status"] for r in batch.json()["results"]} == {503}
    assert (await desk.post("/reports", json=body(report_id="during"))).status_code == 201
    assert await count(house, Received) == 2


async def test_a_batch_takes_the_good_and_tells_each_bad_one_why(house: House) -> None:
    officer = await house.client("officer", ward="14776")
    items: list[Any] = [
        body(report_id="good-1"),
        body(report_id="bad-ward", ward="Quảng Th"),
        body(report_id="other-ward", ward="Trường Thi"),
        body(report_id="good-1"),
        body(report_id="good-1", description="khác"),
        7,
        {},
        body(report_id="bad-harm", harm={"dead": 1}),
        body(report_id="good-2"),
    ]
    expected = [201, 422, 403, 200, 409, 422, 422, 422, 201]
    answer = await officer.post("/reports:batch", json=items)
    assert answer.status_code == 200
    result = answer.json()
    assert [r["status"] for r in result["results"]] == expected
    assert (result["accepted"], result["duplicate"], result["rejected"]) == (2, 1, 6)
    ids = ["good-1", "bad-ward", "other-ward", "good-1", "good-1", None, None, "bad-harm", "good-2"]
    assert [r["report_id"] for r in result["results"]] == ids
    for one in result["results"]:
        assert ("problem" in one) == (one["status"] >= 400)
        assert ("outcome" in one) == (one["status"] < 400)
    assert result["results"][1]["problem"]["errors"][0]["candidates"]
    assert result["results"][7]["problem"]["errors"][0]["pointer"] == "#/harm/dead"
    sent = [e.data.sender_report_id for e in await outgoing(house)]
    assert [id_.value for id_ in sent if id_] == ["good-1", "good-2"]


async def test_ndjson_names_the_line_of_what_is_not_json(house: House) -> None:
    desk = await house.client("desk")
    lines = [orjson.dumps(body(report_id="a")), b"", b"{not json", b'{"x":"\xff"}', orjson.dumps(body(report_id="b"))]
    headers = {"content-type": "application/x-ndjson"}
    result = (await desk.post("/reports:batch", content=b"\r\n".join(lines), headers=headers)).json()
    assert [r["status"] for r in result["results"]] == [201, 400, 400, 201]
    assert "line 3" in result["results"][1]["problem"]["detail"]
    assert "line 4" in result["results"][2]["problem"]["detail"]


async def test_a_thousand_reports_at_once(house: House) -> None:
    desk = await house.client("desk")
    answer = await desk.post("/reports:batch", json=[body(report_id=f"r{n}") for n in range(1_000)])
    assert answer.json()["accepted"] == 1_000
    assert await count(house, IntakeOutgoing) == 1_000
    too_many = await desk.post("/reports:batch", content=b"{}\n" * 1_001)
    assert too_many.status_code == 413
    too_many = await desk.post("/reports:batch", content=b"[" + b"1," * 1_000 + b"1]")
    assert too_many.status_code == 413


async def test_the_reporter_is_sealed_and_leaves_intake_in_no_form(house: House) -> None:
    desk = await house.client("desk")
    person = {"name": "Trần Thị Mẫu", "phone": "0912 345 678"}
    answer = await desk.post("/reports", json=body(reporter=person))
    words = ["Trần Thị Mẫu".encode(), b"912345678", b"912 345 678"]
    (reports,) = await reports_as_received(house.database)
    dumped = orjson.dumps([[str(column) for column in report.values()] for report in reports])
    bodies = [event.body for event in await stored_in(house.database, IntakeOutgoing)]
    (kept,) = await stored_in(house.database, Reporter)
    receipt = await (await house.public()).get(f"/receipts/{answer.json()['receipt']}")
    for place in [dumped, *bodies, kept.sealed, receipt.content, answer.content]:
        assert not any(word in place for word in words)
        assert kept.salt.hex().encode() not in place
    key = AESGCM(secret(house.settings.keys_dir, "reporter"))
    opened_text = key.decrypt(kept.sealed[:12], kept.sealed[12:], b"cb-07-0001")
    assert orjson.loads(opened_text) == {"name": "Trần Thị Mẫu", "phone": "+84912345678"}
    with pytest.raises(InvalidTag):
        key.decrypt(kept.sealed[:12], kept.sealed[12:], b"cb-07-0002")


async def test_what_became_of_a_report_comes_from_escalations_stream(house: House) -> None:
    """Wards and routing arrive as events, twice and late; `Prefer: wait` answers as soon as they do."""
    outbox = await other_outbox(house)
    assert house.settings.redis_url is not None
    redis = messaging.connect(house.settings.redis_url)
    seals = messaging.seals(house.settings.keys_dir)
    relay = Relay(house.database, redis, outbox, messaging.streams(ESCALATION, 1), seals, poll=0.02)
    desk = await house.client("desk")
    async with relay.running():
        asked = asyncio.create_task(desk.post("/reports", json=body(), headers={"Prefer": "wait=10"}))
        await until(lambda: _is_stored(house), "the report is stored")
        (report,) = await outgoing(house)
        events = [correlated(report.id, "incident-1"), *unit_events()[:2]]
        events += [correlated(report.id, "incident-1")]
        stream = messaging.stream_name(ESCALATION, 0)
        async with house.database.begin() as connection:
            await messaging.add(connection, outbox, [Outgoing(e.id, stream, encode(e)) for e in events])
        relay.wake()
        answer = await asked
    await redis.aclose()
    assert answer.json()["incident"] == {"id": "incident-1", "outcome": "new"}
    assert answer.headers["preference-applied"] == "wait=10"
    receipt = await (await house.public()).get(f"/receipts/{answer.json()['receipt']}")
    assert (receipt.json()["state"], receipt.json()["incident"]["id"]) == ("routed", "incident-1")


async def test_a_report_of_before_is_routed_by_its_senders_id_and_no_other_by_an_id_that_a_sender_chose(
    house: House,
) -> None:
    desk = await house.client("desk")
    of_before = (await desk.post("/reports", json=body())).json()["receipt"]
    async with house.database.begin() as connection:
        await connection.execute(update(store.report).values(own_id=None))
    victim = (await desk.post("/reports", json=body(report_id="cb-07-0003"))).json()["receipt"]
    (own_id,) = [r.event_id for r in await stored_in(house.database, Received) if r.report_id == "cb-07-0003"]
    copied = (await desk.post("/reports", json=body(report_id=own_id))).json()["receipt"]
    events = [correlated("cb-07-0001", "incident-1"), correlated(own_id, "incident-2")]
    async with house.database.begin() as connection:
        await store.set_routed(connection, events)
        found = {number: await store.receipt(connection, number) for number in (of_before, victim, copied)}
    assert [row and row.incident for row in found.values()] == ["incident-1", "incident-2", None]


async def test_two_senders_may_use_one_id_and_neither_hears_of_the_other(house: House) -> None:
    """One took the id first, with other content: the report of the other is taken all the same, and told apart."""
    stranger = await house.client("device", subject="nguoi-khac")
    sensor = await house.client("device", subject="cam-bien-1")
    theirs = {"name": "Người khác (mẫu)", "phone": "0912 000 111"}
    taken = await stranger.post("/reports", json=body(description="đã chiếm trước", reporter=theirs))
    first, again = [await sensor.post("/reports", json=body()) for _ in range(2)]
    other = await sensor.post("/reports", json=body(description="chuyện khác"))
    assert [a.status_code for a in (taken, first, again, other)] == [201, 201, 200, 409]
    assert first.json()["receipt"] == again.json()["receipt"] != taken.json()["receipt"]
    assert first.json()["receipt"] in other.json()["detail"]
    assert taken.json()["receipt"] not in other.text
    assert len({e.data.report_id for e in await outgoing(house)}) == 2
    kept = await stored_in(house.database, Reporter)
    assert sorted(r.submitter for r in kept) == ["cam-bien-1", "nguoi-khac"]


async def test_within_one_commit_an_id_is_its_senders(house: House) -> None:
    senders = [Principal(f"cam-bien-{n}", "device") for n in (1, 2)]
    ready = [await house.acceptance.prepare(submission_of(body()), sender) for sender in (*senders, senders[0])]
    found = await asyncio.gather(*(house.acceptance.accept(draft) for draft in ready))
    assert [f.is_new for f in found] == [True, True, False]
    assert found[0].receipt == found[2].receipt != found[1].receipt


async def test_a_sender_lists_its_own_reports_and_no_others(house: House) -> None:
    officer = await house.client("officer", ward="14776", subject="cb-07")
    sensor = await house.client("device", subject="cam-bien-1")
    sent = [(await officer.post("/reports", json=body(report_id=f"r{n}"))).json() for n in range(5)]
    await sensor.post("/reports", json=body(report_id="r3", description="của cảm biến"))
    (of_r3,) = [r.event_id for r in await stored_in(house.database, Received) if r.receipt == sent[3]["receipt"]]
    async with house.database.begin() as connection:
        await store.set_routed(connection, [correlated(of_r3, "incident-1", "merged")])
    listed: list[Any] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = (await officer.get("/reports", params=params)).json()
        listed += page["items"]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert [r["receipt"] for r in listed] == [r["receipt"] for r in reversed(sent)]
    assert [r["state"] for r in listed] == ["accepted", "routed", "accepted", "accepted", "accepted"]
    (one,) = (await officer.get("/reports", params={"report_id": "r3"})).json()["items"]
    assert one == listed[1]
    assert one["incident"] == {"id": "incident-1", "outcome": "merged"}
    assert (one["ward"], one["category"]) == ("14776", "FIRECRACKER_SET_OFF")
    assert len((await sensor.get("/reports")).json()["items"]) == 1


@pytest.mark.parametrize("query", ["cursor=x", "limit=0", "report_id=a%20b", "id=r1"])
async def test_a_list_that_cannot_be_meant_is_refused(house: House, query: str) -> None:
    assert (await (await house.client("device")).get(f"/reports?{query}")).status_code == 422


async def test_a_credential_that_asks_too_much_is_told_which_limit_and_when(house: House) -> None:
    """Every request counts, and every report of a batch; another credential is not concerned."""
    house.limit(Rate(60, 10, lambda: 0.0))
    sensor, other = [await house.client("device", subject=f"cam-bien-{n}") for n in (1, 2)]
    batch = await sensor.post("/reports:batch", json=[body(report_id=f"r{n}") for n in range(9)])
    assert batch.json()["accepted"] == 9
    too_many = await sensor.post("/reports:batch", json=[body(report_id=f"s{n}") for n in range(8)])
    alone = await sensor.post("/reports", json=body(report_id="t"))
    for answer in (too_many, alone):
        assert (answer.status_code, answer.headers["content-type"]) == (429, "application/problem+json")
        assert int(answer.headers["retry-after"]) > 0
        assert "60 requests and reports a minute, 10 at once" in answer.json()["detail"]
    assert await count(house, Received) == 9
    assert (await other.post("/reports", json=body())).status_code == 201


async def test_one_who_sends_many_batches_holds_up_no_other(house: House) -> None:
    """When the report of the other is answered, most of the eight thousand still wait."""
    many, one = await house.client("device", subject="cam-bien-1"), await house.client("officer", ward="14776")
    batches = [[body(report_id=f"r{n}-{m}") for m in range(1_000)] for n in range(8)]
    works = [asyncio.create_task(many.post("/reports:batch", content=orjson.dumps(batch))) for batch in batches]

    async def begun() -> bool:
        return await count(house, Received) > 0

    await until(begun, "the first of them are stored")
    assert (await one.post("/reports", json=body(report_id="one"))).status_code == 201
    assert await count(house, Received) < 6_000
    assert sum([(await work).json()["accepted"] for work in works]) == 8_000


async def other_outbox(house: House) -> messaging.Outbox:
    """As escalation has one, in its own schema."""
    metadata = MetaData(schema="elsewhere")
    outbox = messaging.outbox_tables(metadata)
    async with house.database.begin() as connection:
        await connection.execute(CreateSchema("elsewhere"))
        await connection.run_sync(metadata.create_all)
    return outbox


async def _is_stored(house: House) -> bool:
    return await count(house, Received) == 1


async def test_an_older_record_of_a_ward_never_replaces_a_newer_one(house: House) -> None:
    first, *_ = unit_events()
    ended = first.data.model_copy(update={"valid_to": AT.date()})
    newer = first.model_copy(update={"data": ended, "time": AT.replace(hour=18)})
    for events in ([first], [newer, first], [first, newer], [first]):
        await record_escalation_events(house.intake, events)
    async with house.database.connect() as connection:
        (unit,) = [u for u in await store.load_units(connection) if u.code == first.subject]
    assert unit.valid_to == AT.date()


async def test_readiness_says_that_wards_are_missing(place: Place) -> None:
    async with opened(place, with_wards=False) as house:
        desk = await house.client("desk")
        refused = await desk.post("/reports", json=body())
        assert refused.status_code == 503
        assert "trucban import wards" in refused.json()["detail"]
        await _until_it_complains_of(desk, {"intake.wards"})
        await record_escalation_events(house.intake, unit_events())
        await _escalation_has_nothing_more(house)
        await _until_it_complains_of(desk, set())
        assert (await desk.post("/reports", json=body())).status_code == 201


async def _escalation_has_nothing_more(house: House) -> None:
    """As its relay says when it starts."""
    for name, groups in messaging.streams(ESCALATION, house.intake.partitions).items():
        redis = messaging.connect(str(house.settings.redis_url))
        stream = redis.stream(name, groups)
        await stream.create_groups()
        await stream.raise_handled(0)
        await redis.aclose()


async def _until_it_complains_of(client: AsyncClient, checks: set[str]) -> None:
    async def does() -> bool:
        answer = await client.get("http://trucban/readyz")
        return {c["name"] for c in answer.json()["checks"] if not c["ok"]} == checks

    await until(does, f"what fails is {checks or 'nothing'}")
