"""Which contacts can work at all, and what is shown of a channel."""

import base64

import pytest

from services.escalation.sending.channels import channel_error, shown_channel

SECRET = base64.b64encode(bytes(range(24))).decode()


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
