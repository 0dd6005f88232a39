"""Where messages may go: the one place that decides, for what is entered and for what is sent.

It is asked of the settings at the start, of each contact that is recorded, by `trucban doctor`, and at each attempt,
since a row may be older than the rule.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from services.escalation.domain.directory.channel_form import form_error, is_file, named, scheme
from services.escalation.domain.directory.channel_schemes import APPRISE, SCHEMES, WITH_A_SERVER
from services.escalation.sending.channels import mail, through_apprise, webhook
from services.escalation.sending.channels.hosts import Hosts
from services.escalation.sending.channels.message import DeliveryError
from shared.settings import Settings

GATEWAYS = {"mailto": "TRUCBAN_MAIL_GATEWAY", "sms": "TRUCBAN_SMS_GATEWAY"}
EXAMPLES = {"mailto": "mailto:name@domain", "sms": "sms:+84912345678"}
NONE_OF_THIS_NETWORK = Hosts()
TO = "{to}"
"""Stands in the address of the SMS gateway for the number."""


@dataclass(frozen=True)
class WayOut:
    """What the settings say of it."""

    hosts: Hosts = NONE_OF_THIS_NETWORK
    schemes: Collection[str] = SCHEMES
    mail_gateway: str | None = None
    """`mailto(s)://user:password@server?from=address`, for contacts `mailto:ADDRESS`."""
    sms_gateway: str | None = None
    """A URL with `{to}`, for contacts `sms:NUMBER`."""

    @classmethod
    def of(cls, settings: Settings) -> "WayOut":
        """Raises ValueError that names the setting."""
        return cls(
            _hosts(settings.channel_hosts),
            _schemes(settings.channel_schemes),
            settings.mail_gateway,
            settings.sms_gateway,
        )

    def error(self, channel: str) -> str | None:
        """Return why nothing can be sent to a channel, or None. The text shows neither a secret nor a person."""
        try:
            url = self.checked(channel)
            match scheme(url):
                case "webhook" | "webhooks":
                    webhook.endpoint(url)
                case "mailto" | "mailtos":
                    mail.mailbox(url)
                case _ if is_file(url):
                    return None if url.partition("://")[2] else "outbox: not outbox://name: give it a name"
                case _:
                    return through_apprise.channel_error(url)
        except DeliveryError as error:
            return str(error)
        return None

    def checked(self, channel: str) -> str:
        """Return the URL by which a channel is reached, that of the gateway if the channel only names its person.

        Raises DeliveryError, which is final. What only the sender of the scheme knows, such as the options that it
        takes, it checks itself; where a name leads is checked when a connection is made.
        """
        _refuse(form_error(channel))
        name = scheme(channel)
        if name not in self.schemes and not is_file(channel):
            _refuse(f"{name}: not a channel of this city: use another, or add it to TRUCBAN_CHANNEL_SCHEMES")
        url = self._through_gateway(channel)
        if scheme(url) in WITH_A_SERVER and (host := _host(url)) and (error := self.hosts.error(host)):
            _refuse(f"{name}: {error}")
        return url

    @property
    def gateway_errors(self) -> Mapping[str, str]:
        """What is wrong with the gateways, by the name of the setting."""
        given = {"mailto": self.mail_gateway, "sms": self.sms_gateway}
        errors = {GATEWAYS[name]: self.error(EXAMPLES[name]) for name, gateway in given.items() if gateway is not None}
        return {name: error for name, error in errors.items() if error is not None}

    def _through_gateway(self, channel: str) -> str:
        to, name = named(channel), scheme(channel)
        if to is None:
            return channel
        gateway = self.mail_gateway if name == "mailto" else self.sms_gateway
        if gateway is None:
            raise DeliveryError(f"{name}: not without a gateway: set {GATEWAYS[name]}", final=True)
        if name == "mailto":
            url, is_right = f"{gateway}{'&' if '?' in gateway else '?'}to={quote(to, safe='@')}", _is_mail(gateway)
        else:
            url, is_right = gateway.replace(TO, quote(to, safe="+")), TO in gateway and scheme(gateway) in APPRISE
        if not is_right:
            _refuse(f"{name}: not by this gateway: correct {GATEWAYS[name]}, as docs/operations.md says")
        _refuse(form_error(url))
        return url


def _refuse(error: str | None) -> None:
    if error is not None:
        raise DeliveryError(error, final=True)


def _is_mail(gateway: str) -> bool:
    return scheme(gateway) in ("mailto", "mailtos") and named(gateway) is None


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _hosts(text: str) -> Hosts:
    try:
        return Hosts(tuple(text.replace(",", " ").split()))
    except ValueError as error:
        raise ValueError(f"TRUCBAN_CHANNEL_HOSTS: {error}: list names, addresses and networks") from None


def _schemes(text: str) -> Collection[str]:
    """All that are known if none is given."""
    given = frozenset(text.lower().replace(",", " ").split())
    if unknown := sorted(given - SCHEMES):
        raise ValueError(f"TRUCBAN_CHANNEL_SCHEMES: {unknown[0]} is none that messages may go to: leave it out")
    return given or SCHEMES
