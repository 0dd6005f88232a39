"""The channels that bring a message to a person: signed webhooks, e-mail, a file, and all that Apprise supports."""

import sys

from services.escalation.domain.notices.pacing import scheme
from services.escalation.sending.channels import mail, through_apprise, webhook
from services.escalation.sending.channels.message import DeliveryError, SendOutcome
from services.escalation.sending.channels.sender import Link, Sender

__all__ = ["DeliveryError", "Link", "SendOutcome", "Sender", "channel_error", "print_line", "scheme"]


def channel_error(channel: str) -> str | None:
    """Return what is wrong with a contact's URL, or None. The text shows only its scheme."""
    try:
        match scheme(channel):
            case "webhook" | "webhooks":
                webhook.endpoint(channel)
            case "mailto" | "mailtos":
                mail.mailbox(channel)
            case "outbox":
                pass
            case _:
                return through_apprise.channel_error(channel)
    except DeliveryError as error:
        return str(error)
    return None


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
