"""A notice as e-mail against a real mail server: its words, its thread, its secrets, and what is refused."""

from typing import Any

import pytest

from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.message import Message
from tests.integration.channel_support import CHAIR_ID, bundled, due, link, refused, sender, single
from tests.integration.delivery_peers import mail_server


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
