"""Whether a channel can work, and how it may be shown. Nothing is sent."""

from urllib.parse import urlsplit

from services.escalation.domain.notices.pacing import scheme
from services.escalation.sending.channels import mail, through_apprise, webhook
from services.escalation.sending.channels.message import DeliveryError

NO_CHANNEL = "not a channel: write an Apprise URL without spaces, such as mailto://… or webhooks://…"
THIS_MACHINE = frozenset({"blink1", "dbus", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows"})
"""Schemes of Apprise that show something on the screen or in the log of the machine that sends."""
WITH_A_SERVER = frozenset({"webhook", "webhooks", "json", "jsons", "xml", "xmls", "form", "forms", "ntfy", "ntfys"})
"""Schemes whose URL has a server where others may have a token."""


def channel_error(channel: str) -> str | None:
    """Return what is wrong with a channel's URL, or None. The text shows only its scheme."""
    _, separator, rest = channel.partition("://")
    shown = scheme(channel)
    if not separator or any(c.isspace() for c in channel):
        return NO_CHANNEL
    try:
        match shown:
            case "webhook" | "webhooks":
                webhook.endpoint(channel)
            case "mailto" | "mailtos":
                mail.mailbox(channel)
            case "outbox":
                return None if rest else "outbox: not outbox://name; give the name under which the file has it"
            case _ if shown in THIS_MACHINE:
                return f"{shown}: not a channel to a person, since it ends on this machine; choose another"
            case _:
                return through_apprise.channel_error(channel)
    except DeliveryError as error:
        return str(error)
    return None


def shown_channel(channel: str) -> str:
    """Return a channel as a log may show it: its scheme and where it goes, without a secret or a person's address."""
    shown = scheme(channel)
    try:
        if shown == "outbox":
            return channel
        if shown in ("mailto", "mailtos"):
            return f"{shown}://…@{mail.mailbox(channel).to.rpartition('@')[2]}"
        if shown in WITH_A_SERVER:
            return f"{shown}://{urlsplit(channel).hostname or ''}/…"
    except (DeliveryError, ValueError):
        pass
    return f"{shown}://…"
