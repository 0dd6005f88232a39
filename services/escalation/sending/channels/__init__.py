"""The channels that bring a message to a person: signed webhooks, e-mail, a file, and all that Apprise supports."""

import sys

from services.escalation.domain.notices.pacing import scheme
from services.escalation.sending.channels.checking import channel_error, shown_channel
from services.escalation.sending.channels.message import DeliveryError, SendOutcome
from services.escalation.sending.channels.sender import Link, Sender

__all__ = ["DeliveryError", "Link", "SendOutcome", "Sender", "channel_error", "print_line", "scheme", "shown_channel"]


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
