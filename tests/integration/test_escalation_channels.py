"""Each channel against a real peer: what is said, how it is signed or threaded, and what counts as not taken."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.message import Message
from services.escalation.domain.notices.wording import SHORT_BUNDLE
from services.escalation.sending.channels import DeliveryError, Sender
from services.escalation.sending.channels import through_apprise as apprise_channels
from services.escalation.sending.channels.webhook import retry_after
from tests.integration.channel_support import CHAIR_ID, SECRET, bundled, link, refused, sender, single
from tests.integration.delivery_peers import TO_THIS_MACHINE, receiving
from tests.support import NIGHT

OTHER = base64.b64encode(bytes(range(32))).decode()


# --- signed webhooks ---


def hook(host: str, *secrets: str) -> str:
    query = "&".join(f"secret=whsec_{secret}" for secret in secrets or (SECRET,))
    return f"webhook://{host}/thong-bao?lang=vi&{query}"


async def test_a_webhook_is_signed_as_standard_webhooks_says_and_counts_as_delivered() -> None:
    async with receiving() as receiver:
        message = single(hook(receiver.host))
        assert await sender().send(message) == "delivered"
    (request,) = receiver.requests
    at = request.headers["webhook-timestamp"]
    assert abs(int(at) - time.time()) < 5, "real time, whatever the city's clock says"
    assert request.headers["webhook-id"] == message.deliveries[0].delivery_id
    to_sign = f"{message.deliveries[0].delivery_id}.{at}.".encode() + request.body
    expected = base64.b64encode(hmac.new(bytes(range(24)), to_sign, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"


async def test_the_secret_is_never_on_the_wire() -> None:
    async with receiving() as receiver:
        await sender().send(single(hook(receiver.host)))
    (request,) = receiver.requests
    assert request.target == "/thong-bao?lang=vi"
    assert SECRET not in str(request)


async def test_a_webhook_says_what_the_notice_says_and_what_a_program_needs() -> None:
    async with receiving() as receiver:
        message = single(hook(receiver.host))
        await sender(link=link).send(message)
    due_ = message.deliveries[0]
    said = receiver.requests[0].json
    assert (said["type"], said["timestamp"]) == ("vn.trucban.notice.v1", "2023-01-21T23:50:00+07:00")
    assert said["data"]["title"] == due_.title
    (notice,) = said["data"]["notices"]
    assert (notice["incident_id"], notice["category"], notice["severity"]) == (due_.incident_id, "FIRE", 3)
    assert due_.incident_id is not None
    assert notice["incident_number"] == number_of(due_.incident_id)
    assert notice["due_at"] == "2023-01-22T00:00:00+07:00"
    assert notice["acknowledge"] == f"https://trucban/{due_.notice_id}/{CHAIR_ID}"


async def test_what_is_sent_again_is_the_same_under_the_same_id_so_that_the_receiver_can_drop_it() -> None:
    async with receiving("drop") as receiver:
        message = single(hook(receiver.host))
        await refused(sender().send(message))
        await sender().send(message)
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


async def test_while_one_secret_replaces_another_both_sign() -> None:
    async with receiving() as receiver:
        await sender().send(single(hook(receiver.host, SECRET, OTHER)))
    one, other = receiver.requests[0].headers["webhook-signature"].split(" ")
    assert one.startswith("v1,")
    assert other.startswith("v1,")
    assert one != other


async def test_a_bundle_is_one_request_that_has_every_notice() -> None:
    async with receiving() as receiver:
        message = bundled(hook(receiver.host), 27)
        await sender().send(message)
    (request,) = receiver.requests
    assert len(request.json["data"]["notices"]) == 27
    assert request.json["data"]["bundle_id"] == "goi-1"
    assert request.headers["webhook-id"] == message.message_id


def test_what_is_left_of_a_bundle_is_the_same_message() -> None:
    whole = bundled("webhook://x/", 3)
    assert Message(whole.deliveries[:1]).message_id == whole.message_id == "goi-1"


@pytest.mark.parametrize("status", [301, 400, 401, 404, 500, 503])
async def test_any_other_answer_is_a_failed_attempt_and_a_redirect_is_not_followed(status: int) -> None:
    async with receiving() as elsewhere, receiving((status, {"location": f"http://{elsewhere.host}/"})) as receiver:
        error = await refused(sender().send(single(hook(receiver.host))))
    assert str(error) == f"webhook: the receiver answered {status}"
    assert not error.final
    assert not elsewhere.requests


async def test_a_receiver_that_is_gone_is_never_tried_again() -> None:
    async with receiving(410) as receiver:
        assert (await refused(sender().send(single(hook(receiver.host))))).final


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_says_when_to_come_again(status: int) -> None:
    async with receiving((status, {"retry-after": "120"})) as receiver:
        error = await refused(sender().send(single(hook(receiver.host))))
    assert error.retry_after == timedelta(seconds=120)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("Sat, 21 Jan 2023 16:51:00 GMT", 60),
        ("Sat, 21 Jan 2023 10:00:00 GMT", 0),
        ("999999999999", 3600),
        ("-5", None),
        ("soon", None),
        ("²", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_an_hour_at_most(value: str | None, seconds: int | None) -> None:
    wait = retry_after(value, NIGHT.timestamp())
    assert wait == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize("doing", ["stall", "drop", "drop midway"])
async def test_a_receiver_that_stalls_or_drops_has_not_taken_it(doing: Any) -> None:
    async with receiving(doing) as receiver:
        error = await refused(sender().send(single(hook(receiver.host))))
    assert not error.final
    assert receiver.host not in str(error)


async def test_nobody_listening_is_a_failed_attempt() -> None:
    async with receiving() as receiver:
        host = receiver.host
    assert str(await refused(sender().send(single(hook(host))))) == "webhook: ConnectError"


# --- what Apprise knows ---


async def test_the_outbox_has_a_line_for_each_notice_of_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / "outbox.ndjson"
    message = bundled("outbox://mau", 27)
    assert await Sender(path, TO_THIS_MACHINE).send(message) == "sent"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["notice_id"] for line in lines] == [d.notice_id for d in message.deliveries]
    assert {line["bundle_id"] for line in lines} == {"goi-1"}
    assert len({line["body"] for line in lines}) == 1


async def test_the_link_to_acknowledge_is_on_what_asks_for_it_and_on_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "outbox.ndjson"
    asking = ["accountable", "reminder", "still_open", "not_acknowledged"]
    for purpose in [*asking, "duty", "review", "closure", "undeliverable"]:
        await Sender(path, TO_THIS_MACHINE, link=link).send(single("outbox://mau", purpose=purpose))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with_link = [line["purpose"] for line in lines if "Xác nhận / Acknowledge: https://trucban/" in line["body"]]
    assert with_link == asking


@pytest.mark.parametrize("purpose", ["not_reviewed", "vacancy", "unit_split", "closure", "late_reports", "lost_notice"])
async def test_of_a_task_that_is_overdue_all_but_the_desk_which_owes_it_get_the_link(
    tmp_path: Path, purpose: str
) -> None:
    path = tmp_path / "outbox.ndjson"
    for recipient in ("desk", "leadership"):
        await Sender(path, TO_THIS_MACHINE, link=link).send(
            single("outbox://mau", purpose=purpose, recipient=recipient)
        )
    to_desk, to_leadership = path.read_text(encoding="utf-8").splitlines()
    assert "Acknowledge: https://" not in to_desk
    assert "/leadership" in to_leadership


async def test_under_a_message_stand_its_due_time_its_number_and_whom_to_call(tmp_path: Path) -> None:
    path = tmp_path / "outbox.ndjson"
    message = single("outbox://mau")
    assert message.deliveries[0].incident_id is not None
    number = number_of(message.deliveries[0].incident_id)
    await Sender(path, TO_THIS_MACHINE, link=link, desk_telephone="0237 385 0000").send(message)
    await Sender(path, TO_THIS_MACHINE, desk_telephone="0237 385 0000").send(single("outbox://mau", recipient="desk"))
    to_chair, to_desk = [json.loads(line)["body"].splitlines() for line in path.read_text("utf-8").splitlines()]
    assert [line.partition(": ")[0] for line in to_chair[2:]] == [
        "Hạn/Due",
        "Xác nhận / Acknowledge",
        "Số/No.",
        "Trực ban/Desk",
    ]
    assert to_chair[2].endswith(": 00:00 22/01")
    assert to_chair[4].endswith(number)
    assert to_chair[5].endswith(": 0237 385 0000")
    assert not [line for line in to_desk if "0237" in line], "the desk need not call itself"


async def test_a_bundle_says_whom_to_call_once_within_its_limit(tmp_path: Path) -> None:
    sms = bundled("d7sms://token@+84912000001", 27)
    _, text = apprise_channels.Outgoing(sms, {}, "0237 385 0000").text(room=160 * 9)
    assert len(text) <= SHORT_BUNDLE
    assert text.endswith("\nTrực ban/Desk: 0237 385 0000")


async def test_a_channel_for_short_texts_gets_a_short_bundle_without_links() -> None:
    sms = bundled("d7sms://token@+84912000001", 27)
    out = apprise_channels.Outgoing(sms, {d.notice_id: "https://trucban/x" for d in sms.deliveries})
    _, short = out.text(room=160 * 9)
    _, long = out.text()
    assert len(short) <= SHORT_BUNDLE
    assert "https" not in short
    assert long.count("https") == 27


async def test_a_plugin_that_hangs_takes_no_thread_of_others_and_is_left_alone_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    notify: Callable[..., bool] = apprise_channels._notify  # pyright: ignore[reportPrivateUsage]

    def hang(out: Any, channel: str, hosts: Any) -> bool:
        return ended.wait(30) if channel.startswith("json://treo") else notify(out, channel, hosts)

    monkeypatch.setattr(apprise_channels, "_notify", hang)
    sending = Sender(tmp_path / "outbox.ndjson", TO_THIS_MACHINE)
    hung = [asyncio.create_task(sending.send(single("json://treo/"))) for _ in range(apprise_channels.MOST_HUNG)]
    await asyncio.sleep(0)
    async with receiving(200) as receiver:
        assert await sending.send(single(f"json://{receiver.host}/")) == "sent"
    for task in hung:
        task.cancel()
    await asyncio.gather(*hung, return_exceptions=True)
    error = await refused(sending.send(single("json://treo/")))
    assert str(error) == "json: 16 earlier sends have not come back"
    ended.set()
    async with asyncio.timeout(5):
        while await _is_refused(sending, "json://treo/"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _is_refused(sending: Sender, channel: str) -> bool:
    try:
        await sending.send(single(channel))
    except DeliveryError:
        return True
    return False
