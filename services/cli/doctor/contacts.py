"""What is wrong with the channels of people. Most of it is older than the rule that it breaks."""

from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from services.cli.doctor.finding import Finding
from services.escalation.application.escalation import Escalation
from services.escalation.application.recorded_contacts import recorded_contacts
from services.escalation.domain.directory.channel_form import is_file
from services.escalation.sending.channels import WayOut
from shared.settings import Settings

SHOWN = 5
Contacts = Sequence[tuple[str, str]]
"""(holder id, channel)"""


async def look_at_channels(escalation: Escalation, settings: Settings) -> list[Finding]:
    """`settings`: those of the channels can be read."""
    recorded = await recorded_contacts(escalation)
    return check_contacts(recorded.contacts, WayOut.of(settings).error, is_real=recorded.is_real)


def check_contacts(contacts: Contacts, error: Callable[[str], str | None], *, is_real: bool) -> list[Finding]:
    """`is_real`: somebody in the directory is no sample, so that a file reaches nobody whom it should."""
    refused: dict[str, list[str]] = {}
    for holder, channel in contacts:
        if (said := error(channel)) is not None:
            refused.setdefault(said, []).append(holder)
    found = [
        Finding("contacts", _of(holders), said, "nothing is sent there: record another channel, or set what it names")
        for said, holders in refused.items()
    ]
    if is_real and (files := [holder for holder, channel in contacts if is_file(channel)]):
        found.append(Finding("contacts", _of(files), "outbox:// is a file", "they are told nothing: record a channel"))
    if holders := [holder for holder, channel in contacts if _has_password(channel)]:
        way_out = "set TRUCBAN_MAIL_GATEWAY, and record mailto:ADDRESS"
        found.append(Finding("contacts", _of(holders), "hold the password of a mail server", way_out))
    return found


def _of(holders: Iterable[str]) -> str:
    people = sorted(set(holders))
    more = f" and {len(people) - SHOWN} more" if len(people) > SHOWN else ""
    return f"channels of {', '.join(people[:SHOWN])}{more}"


def _has_password(channel: str) -> bool:
    try:
        parts = urlsplit(channel)
        return parts.scheme in ("mailto", "mailtos") and parts.password is not None
    except ValueError:
        return False
