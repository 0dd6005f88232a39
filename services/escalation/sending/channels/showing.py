"""How a channel may be shown."""

from urllib.parse import urlsplit

from services.escalation.domain.directory.channel_form import is_file, named, scheme
from services.escalation.domain.directory.channel_schemes import WITH_A_SERVER
from services.escalation.sending.channels import mail
from services.escalation.sending.channels.message import DeliveryError


def shown_channel(channel: str) -> str:
    """Return a channel as a log may show it: its scheme and where it goes, without a secret or a person's address."""
    shown, to = scheme(channel), named(channel)
    try:
        if is_file(channel):
            return channel
        if to is not None:
            return f"{shown}:…" + to[to.find("@") :] if "@" in to else f"{shown}:…"
        if shown in ("mailto", "mailtos"):
            return f"{shown}://…@{mail.mailbox(channel).to.rpartition('@')[2]}"
        if shown in WITH_A_SERVER:
            return f"{shown}://{urlsplit(channel).hostname or ''}/…"
    except (DeliveryError, ValueError):
        pass
    return f"{shown}://…"
