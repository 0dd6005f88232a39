"""Which channels messages may go to. What is refused is named, with the way out, and without a secret or a person."""

import ast
import base64
import inspect
from ipaddress import ip_address
from typing import Any

import pytest
from apprise.manager_plugins import NotificationManager

from services.escalation.domain.directory.channel_form import form_error, scheme
from services.escalation.domain.directory.channel_schemes import APPRISE, OWN
from services.escalation.sending.channels import WayOut, shown_channel
from services.escalation.sending.channels.hosts import Hosts, canonical, is_public
from shared.settings import Settings

SECRET = base64.b64encode(bytes(range(24))).decode()
WAY_OUT = WayOut(
    mail_gateway="mailtos://truc-ban:mat-khau@mail.thanhhoa.gov.vn?from=truc-ban@thanhhoa.gov.vn",
    sms_gateway="d7sms://mat-khau@{to}",
)
FORBIDDEN_IMPORTS = {"socket", "ssl", "smtplib", "subprocess", "asyncio", "ctypes", "paho", "slixmpp", "gntp", "dbus"}


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
        "mailto:khong-phai-dia-chi",
        "sms:mat-khau",
        "sms://+84912345678",
        "khongco://mat-khau@0912000001",
        "tgram://1/2",
        "d7sms://mat-khau@",
        "outbox://",
    ],
)
def test_a_contact_that_can_never_work_is_found_before_it_is_needed(channel: str) -> None:
    found = WAY_OUT.error(channel)
    assert found is not None
    assert found.startswith(channel.partition(":")[0] + ": not ")
    assert "mat-khau" not in found


@pytest.mark.parametrize(
    "channel",
    [
        "webhooks://host:8443/path?secret=whsec_" + SECRET,
        "webhook://host/?secret=" + base64.urlsafe_b64encode(b"\xff\xfe" * 16).decode().rstrip("="),
        "mailto://user%40b.vn:p@server?to=x@y.vn",
        "mailtos://server?from=a@b.vn&to=x+truc@y.vn",
        "mailto:ten@thanhhoa.gov.vn",
        "sms:+84912345678",
        "outbox://desk",
        "json://host/path",
        "tgram://123456789:abcdefg_hijklmnop/12315544/?silent=yes",
        "ntfys://token@ntfy.thanhhoa.vn/truc-ban?priority=high",
    ],
)
def test_a_contact_that_can_work_is_accepted(channel: str) -> None:
    assert WAY_OUT.error(channel) is None


def test_a_contact_that_is_no_address_at_all_is_not_quoted() -> None:
    for channel in ("duty@city.vn", "", "mailto:duty @city.vn", "mailto://may chu", "duty@city.vn:1"):
        found = WAY_OUT.error(channel)
        assert found is not None
        assert "duty@city.vn" not in found.partition(": ")[2]


@pytest.mark.parametrize(
    "channel",
    [
        "irc://u:p@host/kenh",
        "syslog://",
        "dbus://",
        "mqtt://host/topic",
        "apprise://host/token",
        "file:///etc/passwd",
        "http://host/",
        "matrix://u:p@host/",
        "xml://host/",
        "javascript:alert(1)",
    ],
)
def test_what_is_not_listed_is_refused_even_if_apprise_knows_it(channel: str) -> None:
    found = WAY_OUT.error(channel)
    assert found is not None
    assert "not a channel" in found


@pytest.mark.parametrize(
    "channel",
    [
        "json://u:p%0D%0ASET%20x%201@host/",
        "json://u:p%250D%250ASET@host/",
        "json://ho%00st/",
        "ntfy://host/%0Atopic",
        "ntfy://host/%E2%80%AEtopic",
        "ntfy://host/chu\u202eđề",
        "d7sms://token%1b@+84912345678",
        "mailto://u:p%0d%0aRSET@server?from=a@b.vn&to=c@d.vn",
        "webhooks://host/%C2%85?secret=whsec_" + SECRET,
        "sms:+84912345678%0A",
    ],
)
def test_nothing_that_cannot_be_seen_stands_in_a_channel_however_often_it_is_quoted(channel: str) -> None:
    found = WAY_OUT.error(channel)
    assert found is not None
    assert "not" in found
    assert form_error(channel) is not None, "the form alone tells, before a plug-in sees it"


@pytest.mark.parametrize(
    ("channel", "option"),
    [
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?template=/etc/passwd", "template"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/?template=/etc/passwd", "template"),
        ("json://host/?verify=no", "verify"),
        ("json://host/?redirect=yes", "redirect"),
        ("json://host/?%72edirect=yes", "redirect"),
        ("json://host/?a;Redirect=yes", "a"),
        ("json://host/?method=GET", "method"),
        ("json://host/?+Host=10.0.0.1", "+host"),
        ("json://host/?-x=1", "-x"),
        ("json://host/?:message=x", ":message"),
        ("json://host/?rto=99999", "rto"),
        ("ntfy://host/topic?attach=http://10.0.0.1/", "attach"),
        ("gotify://host/token?format=markdown", "format"),
        ("sns://AHIAJGNT76XIMXDBIJYA/bu1dHSdO22pfaaVy/us-east-1/12223334444?cto=0.1", "cto"),
    ],
)
def test_an_option_that_is_not_listed_is_refused_by_name(channel: str, option: str) -> None:
    found = WAY_OUT.error(channel)
    assert found is not None
    assert found.startswith(f"{scheme(channel)}: not with the option {option!r}: leave it out; it may have ")


def test_a_channel_is_one_channel_and_never_several() -> None:
    for channel in ("json://host/,syslog://", "json://host/?x=1,irc://u:p@host/kenh", "tgram://1/2;json://127.0.0.1"):
        assert WAY_OUT.error(channel) is not None or "syslog" not in str(WAY_OUT.checked(channel)).partition("/,")[0]
    assert WAY_OUT.error("json://host/,json://127.0.0.1/") is None, "all of it is the path of one"


def _plugins() -> dict[str, Any]:
    manager = NotificationManager()
    return {name: manager[name] for name in APPRISE}


def test_every_plugin_that_may_be_used_speaks_http_and_touches_nothing_else() -> None:
    for name, plugin in _plugins().items():
        tree = ast.parse(inspect.getsource(inspect.getmodule(plugin)))  # type: ignore[arg-type]
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
        }
        assert "requests" in imported, name
        assert not imported & FORBIDDEN_IMPORTS, name


def test_every_option_that_may_be_used_is_one_that_the_plugin_has() -> None:
    unknown = {name: APPRISE[name] - plugin.template_args.keys() for name, plugin in _plugins().items()}
    assert {name: options for name, options in unknown.items() if options} == {}


def test_our_own_schemes_never_reach_apprise() -> None:
    assert not OWN & APPRISE.keys()


# --- gateways ---


def test_a_mail_to_an_address_goes_by_the_mail_server_of_the_settings() -> None:
    assert WAY_OUT.checked("mailto:ten@thanhhoa.gov.vn") == f"{WAY_OUT.mail_gateway}&to=ten@thanhhoa.gov.vn"


def test_a_text_message_to_a_number_goes_by_the_service_of_the_settings() -> None:
    assert WAY_OUT.checked("sms:+84912345678") == "d7sms://mat-khau@+84912345678"


def test_an_address_without_a_gateway_names_the_setting() -> None:
    assert WayOut().error("mailto:ten@thanhhoa.gov.vn") == "mailto: not without a gateway: set TRUCBAN_MAIL_GATEWAY"
    assert WayOut().error("sms:+84912345678") == "sms: not without a gateway: set TRUCBAN_SMS_GATEWAY"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("mail_gateway", "mailtos://mail.vn"),
        ("mail_gateway", "json://mail.vn/?x={to}"),
        ("mail_gateway", "mailto:ai-do@mail.vn"),
        ("mail_gateway", "mailto://u:p%0aRSET@mail.vn?from=a@b.vn"),
        ("mail_gateway", "mailto://10.0.0.25?from=a@b.vn"),
        ("sms_gateway", "d7sms://mat-khau@+84912345678"),
        ("sms_gateway", "irc://mat-khau@host/{to}"),
        ("sms_gateway", "webhook://host/{to}"),
        ("sms_gateway", "sms:{to}"),
        ("sms_gateway", "smseagle://mat-khau@192.168.1.9/{to}"),
    ],
)
def test_a_gateway_that_cannot_work_is_named_by_its_setting(setting: str, value: str) -> None:
    way_out = WayOut(**{setting: value})  # type: ignore[arg-type]
    assert list(way_out.gateway_errors) == [f"TRUCBAN_{setting.upper()}"]
    assert "mat-khau" not in str(way_out.gateway_errors)
    assert WAY_OUT.gateway_errors == {}


def test_a_city_may_list_the_schemes_that_it_uses() -> None:
    way_out = WayOut.of(Settings(channel_schemes="mailto, sms", mail_gateway=WAY_OUT.mail_gateway))
    assert way_out.error("mailto:ten@thanhhoa.gov.vn") is None
    found = "json: not a channel of this city: use another, or add it to TRUCBAN_CHANNEL_SCHEMES"
    assert way_out.error("json://host/") == found
    assert way_out.error("outbox://desk") is None
    with pytest.raises(ValueError, match="TRUCBAN_CHANNEL_SCHEMES: irc is none"):
        WayOut.of(Settings(channel_schemes="irc"))


# --- hosts ---


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "x.localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0x7f.1",
        "①②⑦.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fc00::1]",
        "[fec0::1]",
        "[ff02::1]",
    ],
)
def test_a_host_of_this_network_is_refused_in_every_notation(host: str) -> None:
    for channel in (f"webhook://{host}/?secret=whsec_{SECRET}", f"mailto://{host}?from=a@b.vn&to=c@d.vn"):
        found = WAY_OUT.error(channel)
        assert found is not None, channel
        assert ": not " in found


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]", "[::ffff:8.8.8.8]", "[64:ff9b::808:808]"])
def test_a_host_of_the_internet_is_not(host: str) -> None:
    assert WAY_OUT.error(f"webhook://{host}/?secret=whsec_{SECRET}") is None


def test_a_host_of_this_network_that_a_setting_lists_is_accepted() -> None:
    way_out = WayOut.of(Settings(channel_hosts="10.1.0.0/16, sms.noi-bo.vn 192.168.1.9"))
    for host in ("10.1.2.3", "192.168.1.9", "[::ffff:10.1.2.3]"):
        assert way_out.error(f"webhook://{host}/?secret=whsec_{SECRET}") is None
    found = way_out.error(f"webhook://10.2.0.1/?secret=whsec_{SECRET}")
    assert found == (
        "webhook: not to 10.2.0.1, which is not of the internet: if it is meant, list it in TRUCBAN_CHANNEL_HOSTS"
    )


def test_a_setting_of_hosts_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ValueError, match=r"TRUCBAN_CHANNEL_HOSTS: '10\.0\.0\.0/99' is no name of a host"):
        WayOut.of(Settings(channel_hosts="10.0.0.0/99"))


def test_a_name_has_one_form() -> None:
    assert {canonical(name) for name in ("Máy-Chủ.vn.", "máy-chủ.vn", "MÁY-CHỦ.VN")} == {canonical("máy-chủ.vn")}
    assert canonical("máy-chủ.vn").startswith("xn--")
    assert canonical("Mail.ThanhHoa.gov.vn.") == "mail.thanhhoa.gov.vn"


def test_whatever_an_address_wraps_is_judged() -> None:
    assert not is_public(ip_address("::ffff:192.168.0.1"))
    assert is_public(ip_address("1.1.1.1"))


def test_a_name_that_is_listed_may_lead_anywhere_and_another_nowhere_within() -> None:
    inside = [(2, 1, 6, "", ("10.0.0.5", 443))]
    assert Hosts(("sms.noi-bo.vn",)).judge("SMS.noi-bo.vn.", inside) == ["10.0.0.5"]
    with pytest.raises(Exception, match=r"not to evil\.example \(10\.0\.0\.5\)"):
        Hosts(("sms.noi-bo.vn",)).judge("evil.example", inside)


# --- how a channel is shown ---


@pytest.mark.parametrize(
    ("channel", "shown"),
    [
        ("mailto://ten:mat-khau@server?from=a@b.vn&to=truc@thanhhoa.vn", "mailto://…@thanhhoa.vn"),
        ("mailto:truc@thanhhoa.vn", "mailto:…@thanhhoa.vn"),
        ("sms:+84912345678", "sms:…"),
        ("webhooks://u:mat-khau@cong.vn:8443/mat-khau?secret=whsec_" + SECRET, "webhooks://cong.vn/…"),
        ("tgram://123456789:mat-khau/1", "tgram://…"),
        ("json://mat-khau@cong.vn/0912", "json://cong.vn/…"),
        ("outbox://desk", "outbox://desk"),
        ("mailto://mat-khau", "mailto://…"),
    ],
)
def test_a_channel_is_shown_without_what_is_secret_or_personal(channel: str, shown: str) -> None:
    assert shown_channel(channel) == shown
    assert scheme(channel) == channel.partition(":")[0]
