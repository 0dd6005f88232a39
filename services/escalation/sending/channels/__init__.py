"""The channels that bring a message to a person: signed webhooks, e-mail, a file, and what Apprise knows."""

import sys

from services.escalation.domain.directory.channel_form import scheme
from services.escalation.sending.channels.message import DeliveryError, SendOutcome
from services.escalation.sending.channels.sender import Link, Sender
from services.escalation.sending.channels.showing import shown_channel
from services.escalation.sending.channels.way_out import WayOut

__all__ = ["DeliveryError", "Link", "SendOutcome", "Sender", "WayOut", "print_line", "scheme", "shown_channel"]


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
