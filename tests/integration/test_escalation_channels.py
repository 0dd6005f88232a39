"""Each channel against a real peer: what is said, how it is signed or threaded, and what counts as not taken."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.message import DueDelivery, Message
from services.escalation.domain.notices.wording import SHORT_BUNDLE, Listed
from services.escalation.sending.channels import DeliveryError, Sender, channel_error, shown_channel
from services.escalation.sending.channels import through_apprise as apprise_channels
from services.escalation.sending.channels.mail import Mail
from services.escalation.sending.channels.webhook import Webhooks, retry_after
from tests.integration.delivery_peers import mail_server, receiving
from tests.support import CHAIR, NIGHT, new_id

SECRET = base64.b64encode(bytes(range(24))).decode()
OTHER = base64.b64encode(bytes(range(32))).decode()
CHAIR_ID = "mau-14776-chu-tich"


def due(channel: str, **changes: Any) -> DueDelivery:
    """One notice to the chair of Ba Đình, as it is leased."""
    notice_id, incident_id = new_id(), changes.pop("incident_id", None) or new_id()
    purpose = changes.pop("purpose", "accountable")
    listed = Listed(
        notice_id=notice_id,
        incident_id=incident_id,
        purpose=purpose,
        category="FIRE",
        limb="serious",
        place="phường Ba Đình",
        occurred_at=NIGHT,
        severity=3,
        provisional=False,
        exercise=False,
        applies=True,
        version="2023-01-06.1",
        due_at=NIGHT + timedelta(minutes=10),
    )
    plain: dict[str, Any] = {
        "delivery_id": new_id(),
        "notice_id": notice_id,
        "incident_id": incident_id,
        "recipient": CHAIR_ID,
        "purpose": purpose,
        "posts": [CHAIR],
        "channel": channel,
        "title": "Cháy, P.Ba Đình, mức 3 · cần xác nhận",
        "body": "Cháy, phường Ba Đình.\nFire, Ba Đình.",
        "exercise": False,
        "issued_at": NIGHT,
        "attempts": 1,
        "listed": listed,
        "notice_event": new_id(),
    }
    return DueDelivery(**(plain | changes))


def single(channel: str, **changes: Any) -> Message:
    return Message((due(channel, **changes),))


def bundled(channel: str, count: int) -> Message:
    return Message(tuple(due(channel, bundle_id="goi-1") for _ in range(count)))


def sender(**more: Any) -> Sender:
    return Sender(Path("unused"), webhooks=Webhooks(seconds=0.2), mail=Mail(seconds=0.2), **more)


def link(notice_id: str, recipient: str, issued_at: datetime) -> str:
    assert issued_at == NIGHT
    return f"https://trucban/{notice_id}/{recipient}"


async def refused(sending: Awaitable[object]) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await sending
    return caught.value


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


# --- e-mail ---


def mailto(host: str, **more: str) -> str:
    query = {"from": "trucban@thanhhoa.example", "to": "chu-tich@badinh.example"} | more
    return f"mailto://{host}?" + "&".join(f"{name}={value}" for name, value in query.items())


async def test_a_mail_has_the_notice_in_utf8_and_says_that_a_machine_sent_it() -> None:
    async with mail_server() as post:
        message = single(mailto(post.host))
        assert await sender().send(message) == "sent"
    (letter,) = post.letters
    assert letter["subject"] == "Cháy, P.Ba Đình, mức 3 · cần xác nhận"
    assert letter.get_content().replace("\r\n", "\n").startswith(message.deliveries[0].body)
    assert letter["auto-submitted"] == "auto-generated"
    assert post.envelopes == [("trucban@thanhhoa.example", ["chu-tich@badinh.example"])]


async def test_mails_of_one_incident_to_one_person_are_one_thread() -> None:
    async with mail_server() as post:
        told = due(mailto(post.host))
        reminded = due(mailto(post.host), incident_id=told.incident_id, purpose="reminder")
        to_another = due(mailto(post.host), incident_id=told.incident_id, recipient="mau-14776-bi-thu")
        about_another = due(mailto(post.host))
        for each in (told, reminded, to_another, about_another):
            await sender().send(Message((each,)))
    first, second, third, fourth = [letter["references"] for letter in post.letters]
    assert first == second
    assert len({first, third, fourth}) == 3
    assert CHAIR_ID not in first, "a reference shows no recipient"
    assert all(letter["in-reply-to"] == letter["references"] for letter in post.letters)
    assert len({letter["message-id"] for letter in post.letters}) == 4


async def test_a_mail_that_is_sent_again_has_the_same_message_id() -> None:
    async with mail_server(("DATA", "drop")) as post:
        message = single(mailto(post.host))
        assert not (await refused(sender().send(message))).final
        await sender().send(message)
    assert post.letters[0]["message-id"] == f"<{message.deliveries[0].delivery_id}@thanhhoa.example>"


async def test_a_bundle_by_mail_is_in_no_incidents_thread_and_lists_numbers_and_links() -> None:
    async with mail_server() as post:
        message = bundled(mailto(post.host), 4)
        await sender(link=link).send(message)
    (letter,) = post.letters
    assert letter["references"] is None
    content = letter.get_content()
    for each in message.deliveries:
        assert each.incident_id is not None
        assert number_of(each.incident_id) in content
        assert f"https://trucban/{each.notice_id}" in content


async def test_no_text_can_add_a_header_or_end_the_letter() -> None:
    async with mail_server() as post:
        title = "Trực ban\r\nBcc: ai-do@example.com\n\nthân"
        await sender().send(single(mailto(post.host), title=title, body="một\r\n.\r\nMAIL FROM:<x@y>\r\nhai"))
    (letter,) = post.letters
    assert letter["bcc"] is None
    assert letter["subject"] == "Trực ban Bcc: ai-do@example.com thân"
    assert "MAIL FROM:<x@y>" in letter.get_content()
    assert post.envelopes[0][1] == ["chu-tich@badinh.example"]


@pytest.mark.parametrize(
    ("step", "answer", "final"),
    [
        ("RCPT", "550 no such user", True),
        ("RCPT", "450 mailbox busy", False),
        ("DATA", "552 too large", True),
        ("DATA", "451 local error", False),
        ("MAIL", "550 not you", False),
        ("RCPT", "stall", False),
        ("DATA", "stall", False),
        ("RCPT", "drop", False),
    ],
)
async def test_only_what_a_mail_server_refuses_for_good_is_not_tried_again(step: Any, answer: str, final: bool) -> None:
    async with mail_server((step, answer)) as post:
        error = await refused(sender().send(single(mailto(post.host))))
    assert error.final is final
    assert str(error).startswith("mailto: ")
    assert "example" not in str(error), "no address"


async def test_a_password_goes_over_tls_or_to_this_machine_and_nowhere_else() -> None:
    def with_password(host: str) -> str:
        return mailto(host).replace("mailto://", "mailto://may-chu:mat-khau@")

    async with mail_server(auth_require_tls=False) as post:
        await sender().send(single(with_password(post.host)))
        assert post.logins == [(b"may-chu", b"mat-khau")]
        by_another_name = post.host.replace("127.0.0.1", "0.0.0.0")
        error = await refused(sender().send(single(with_password(by_another_name))))
    assert str(error) == "mailto: the server offers no TLS, without which no password is sent"
    assert len(post.logins) == len(post.letters) == 1


# --- what Apprise knows ---


async def test_the_outbox_has_a_line_for_each_notice_of_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / "outbox.ndjson"
    message = bundled("outbox://mau", 27)
    assert await Sender(path).send(message) == "sent"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["notice_id"] for line in lines] == [d.notice_id for d in message.deliveries]
    assert {line["bundle_id"] for line in lines} == {"goi-1"}
    assert len({line["body"] for line in lines}) == 1


async def test_the_link_to_acknowledge_is_on_what_asks_for_it_and_on_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "outbox.ndjson"
    asking = ["accountable", "reminder", "still_open", "not_acknowledged"]
    for purpose in [*asking, "duty", "review", "closure", "undeliverable"]:
        await Sender(path, link=link).send(single("outbox://mau", purpose=purpose))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with_link = [line["purpose"] for line in lines if "Xác nhận / Acknowledge: https://trucban/" in line["body"]]
    assert with_link == asking


@pytest.mark.parametrize("purpose", ["not_reviewed", "vacancy", "unit_split", "closure", "late_reports", "lost_notice"])
async def test_of_a_task_that_is_overdue_all_but_the_desk_which_owes_it_get_the_link(
    tmp_path: Path, purpose: str
) -> None:
    path = tmp_path / "outbox.ndjson"
    for recipient in ("desk", "leadership"):
        await Sender(path, link=link).send(single("outbox://mau", purpose=purpose, recipient=recipient))
    to_desk, to_leadership = path.read_text(encoding="utf-8").splitlines()
    assert "Acknowledge: https://" not in to_desk
    assert "/leadership" in to_leadership


async def test_under_a_message_stand_its_due_time_its_number_and_whom_to_call(tmp_path: Path) -> None:
    path = tmp_path / "outbox.ndjson"
    message = single("outbox://mau")
    assert message.deliveries[0].incident_id is not None
    number = number_of(message.deliveries[0].incident_id)
    await Sender(path, link=link, desk_telephone="0237 385 0000").send(message)
    await Sender(path, desk_telephone="0237 385 0000").send(single("outbox://mau", recipient="desk"))
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

    def hang(out: Any) -> bool:
        return ended.wait(30) if out.message.channel.startswith("json://treo") else notify(out)

    monkeypatch.setattr(apprise_channels, "_notify", hang)
    sending = Sender(tmp_path / "outbox.ndjson")
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


# --- contacts that are wrong ---


@pytest.mark.parametrize(
    "channel",
    [
        "webhooks://host/",
        "webhook://host/?secret=whsec_bmdhbg==",
        "webhook:///?secret=whsec_" + SECRET,
        "webhook://[host/?secret=whsec_" + SECRET,
        "webhook://host:x/?secret=whsec_" + SECRET,
        "mailto://server",
        "mailto://server?from=a@b.vn&to=khong-phai-dia-chi",
        "mailto://server?from=a@b.vn&to=x@y.vn%0D%0ABcc:z@y.vn",
        "mailto://server?from=a@b.vn&to=<x@y.vn>",
        "mailtos://?from=a@b.vn&to=x@y.vn",
        "mailto://[server?from=a@b.vn&to=x@y.vn",
        "khongco://mat-khau@0912000001",
        "tgram://1/2",
        "d7sms://mat-khau@",
        "syslog://",
        "outbox://",
    ],
)
def test_a_contact_that_can_never_work_is_found_before_it_is_needed(channel: str) -> None:
    found = channel_error(channel)
    assert found is not None
    assert found.startswith(channel.partition("://")[0] + ": not ")
    assert "mat-khau" not in found


@pytest.mark.parametrize(
    "channel",
    [
        "webhooks://host:8443/path?secret=whsec_" + SECRET,
        "webhook://host/?secret=" + base64.urlsafe_b64encode(b"\xff\xfe" * 16).decode().rstrip("="),
        "mailto://user%40b.vn:p@server?to=x@y.vn",
        "mailtos://server?from=a@b.vn&to=x+truc@y.vn",
        "outbox://desk",
        "json://host/path",
    ],
)
def test_a_contact_that_can_work_is_accepted(channel: str) -> None:
    assert channel_error(channel) is None


def test_a_contact_that_is_no_address_at_all_is_not_quoted() -> None:
    for channel in ("duty@city.vn", "", "mailto:duty@city.vn", "mailto://may chu"):
        found = channel_error(channel)
        assert found is not None
        assert "duty" not in found


@pytest.mark.parametrize(
    ("channel", "shown"),
    [
        ("mailto://ten:mat-khau@server?from=a@b.vn&to=truc@thanhhoa.vn", "mailto://…@thanhhoa.vn"),
        ("webhooks://u:mat-khau@cong.vn:8443/mat-khau?secret=whsec_" + SECRET, "webhooks://cong.vn/…"),
        ("tgram://123456789:mat-khau/1", "tgram://…"),
        ("json://mat-khau@cong.vn/0912", "json://cong.vn/…"),
        ("outbox://desk", "outbox://desk"),
        ("mailto://mat-khau", "mailto://…"),
    ],
)
def test_a_channel_is_shown_without_what_is_secret_or_personal(channel: str, shown: str) -> None:
    assert shown_channel(channel) == shown
