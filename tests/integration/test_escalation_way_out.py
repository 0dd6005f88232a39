"""Where a connection may lead: judged by its address when it is made, on every channel."""

import base64
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.escalation.sending.channels import DeliveryError, Sender, WayOut
from services.escalation.sending.channels.hosts import Hosts
from services.escalation.sending.channels.mail import Mail
from services.escalation.sending.channels.webhook import Webhooks
from tests.integration.delivery_peers import TO_THIS_MACHINE, mail_server, receiving
from tests.integration.test_escalation_channels import single

SECRET = base64.b64encode(bytes(range(24))).decode()
CHANNELS = {
    "webhook": "webhook://{host}/?secret=" + SECRET,
    "mailto": "mailto://{host}?from=a@thanhhoa.example&to=b@thanhhoa.example",
    "json": "json://{host}/",
}
Found = Sequence[tuple[Any, ...]]


def sender(way_out: WayOut) -> Sender:
    return Sender(Path("unused"), way_out, webhooks=Webhooks(seconds=2), mail=Mail(seconds=2))


async def refusal(way_out: WayOut, channel: str) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await sender(way_out).send(single(channel))
    return caught.value


def leads_to(monkeypatch: pytest.MonkeyPatch, name: str, *addresses: str) -> list[str]:
    """Let a name of the internet lead there. Returns the names that are asked for, each time that one is."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def answer(host: Any, port: Any, *more: Any, **options: Any) -> Found:
        asked.append(str(host))
        targets = addresses if host == name else (host,)
        return [each for target in targets for each in real(target, port, *more, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


@pytest.mark.parametrize("kind", CHANNELS)
async def test_a_name_that_leads_into_this_network_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async with receiving() as receiver:
        port = receiver.host.rpartition(":")[2]
        leads_to(monkeypatch, "cong.example", "127.0.0.1")
        channel = CHANNELS[kind].format(host=f"cong.example:{port}")
        assert WayOut().error(channel) is None, "its text tells nothing"
        error = await refusal(WayOut(), channel)
    assert not receiver.requests
    assert error.final
    assert str(error).startswith(f"{kind}: not to cong.example (127.0.0.1), which is not of the internet")


@pytest.mark.parametrize("kind", CHANNELS)
async def test_a_name_with_one_address_of_this_network_is_not_connected_to_at_all(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    leads_to(monkeypatch, "cong.example", "8.8.8.8", "10.0.0.1")
    error = await refusal(WayOut(), CHANNELS[kind].format(host="cong.example"))
    assert "cong.example (10.0.0.1)" in str(error)


@pytest.mark.parametrize("kind", ["webhook", "json"])
async def test_a_name_is_asked_once_so_that_a_second_answer_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async with receiving() as receiver:
        port = receiver.host.rpartition(":")[2]
        asked = leads_to(monkeypatch, "cong.example", "127.0.0.1")
        way_out = WayOut(Hosts(("127.0.0.1",)))
        await sender(way_out).send(single(CHANNELS[kind].format(host=f"cong.example:{port}")))
    assert asked.count("cong.example") == 1
    (request,) = receiver.requests
    assert request.headers["host"] == f"cong.example:{port}", "the receiver sees the name"


@pytest.mark.parametrize("kind", ["webhook", "json"])
async def test_an_address_that_does_not_answer_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async with receiving() as receiver:
        port = receiver.host.rpartition(":")[2]
        leads_to(monkeypatch, "cong.example", "127.0.0.9", "127.0.0.1")
        await sender(TO_THIS_MACHINE).send(single(CHANNELS[kind].format(host=f"cong.example:{port}")))
    assert len(receiver.requests) == 1


async def test_a_mail_server_is_found_by_its_second_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async with mail_server() as post:
        port = post.host.rpartition(":")[2]
        leads_to(monkeypatch, "thu.example", "127.0.0.9", "127.0.0.1")
        await sender(TO_THIS_MACHINE).send(single(CHANNELS["mailto"].format(host=f"thu.example:{port}")))
    assert len(post.letters) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "127.1", "0"])
@pytest.mark.parametrize("kind", CHANNELS)
async def test_a_row_of_before_is_refused_when_it_is_sent_to(kind: str, host: str) -> None:
    async with receiving() as receiver:
        port = receiver.host.rpartition(":")[2]
        error = await refusal(WayOut(), CHANNELS[kind].format(host=f"{host}:{port}"))
    assert not receiver.requests
    assert error.final
    assert str(error).startswith(f"{kind}: not to ")


@pytest.mark.parametrize(
    "channel",
    [
        "irc://u:p%0D%0ASET%20khoa%201@{host}/",
        "json://u:p%0D%0ASET%20khoa%201@{host}/",
        "json://{host}/?redirect=yes",
        "xml://{host}/",
        "apprise://{host}/token",
    ],
)
async def test_what_is_not_listed_never_leaves_although_it_is_recorded(channel: str) -> None:
    async with receiving() as receiver:
        error = await refusal(TO_THIS_MACHINE, channel.format(host=receiver.host))
    assert error.final
    assert not receiver.requests


@pytest.mark.parametrize("kind", ["webhook", "json"])
async def test_a_redirect_is_followed_by_no_channel(kind: str) -> None:
    async with receiving() as elsewhere, receiving((302, {"location": f"http://{elsewhere.host}/"})) as receiver:
        error = await refusal(TO_THIS_MACHINE, CHANNELS[kind].format(host=receiver.host))
    assert not elsewhere.requests
    assert len(receiver.requests) == 1
    assert not error.final


@pytest.mark.parametrize("kind", ["webhook", "json"])
async def test_no_proxy_and_no_password_is_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ten password mat-khau\n", encoding="utf-8")
    (tmp_path / ".netrc").chmod(0o600)
    async with receiving() as proxy, receiving() as receiver:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        await sender(TO_THIS_MACHINE).send(single(CHANNELS[kind].format(host=receiver.host)))
    assert not proxy.requests
    (request,) = receiver.requests
    assert "authorization" not in request.headers


async def test_a_mail_to_an_address_goes_by_the_gateway_of_the_settings() -> None:
    async with mail_server() as post:
        way_out = WayOut(TO_THIS_MACHINE.hosts, mail_gateway=f"mailto://{post.host}?from=truc-ban@thanhhoa.example")
        message = single("mailto:ten@thanhhoa.example")
        assert await sender(way_out).send(message) == "sent"
        assert sender(way_out).compose(message) is not None, "under an id, the same each time"
    assert post.envelopes == [("truc-ban@thanhhoa.example", ["ten@thanhhoa.example"])]


async def test_an_address_whose_gateway_was_taken_away_is_given_up_at_once() -> None:
    error = await refusal(WayOut(), "mailto:ten@thanhhoa.example")
    assert error.final
    assert str(error) == "mailto: not without a gateway: set TRUCBAN_MAIL_GATEWAY"


async def test_a_name_that_nobody_knows_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Found:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for channel in CHANNELS.values():
        assert not (await refusal(WayOut(), channel.format(host="cong.example"))).final
