"""What can be said of a channel by its text alone: its scheme, and whether it has the form of one. Pure.

A channel is `NAME:TO` (`mailto:ten@thanhhoa.gov.vn`, `sms:+84912345678`), which a gateway of the settings brings to its
person, or a URL with all that is needed.
"""

import re
from unicodedata import category
from urllib.parse import unquote

from services.escalation.domain.directory.channel_schemes import NAMED, OUTBOX, SCHEMES, USUAL

ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
NUMBER = re.compile(r"\+?[0-9]{6,15}")
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
MOST_LAYERS = 5
"""How often a URL is unquoted at most: whoever takes it apart may do so more than once."""
NO_CHANNEL = f"not a channel: write one without spaces, such as {USUAL}"


def scheme(channel: str) -> str:
    """Return the scheme of a channel. Nothing else of it may be shown: the rest is an address or a secret."""
    return channel.partition(":")[0].lower()


def named(channel: str) -> str | None:
    """Return to whom a channel `NAME:TO` leads, or None for a URL."""
    name, _, to = channel.partition(":")
    return to if name.lower() in NAMED and not to.startswith("//") else None


def form_error(channel: str) -> str | None:
    """Return what is wrong with a channel, or None. The text shows only its scheme."""
    shown = scheme(channel)
    to = named(channel)
    if (to is None and "://" not in channel) or any(c.isspace() for c in channel):
        return NO_CHANNEL
    if shown not in SCHEMES:
        return f"{shown[:40]}: not a channel that messages may go to: use another, such as {USUAL}"
    if (unseen := _unseen(channel)) is not None:
        return f"{shown}: not a channel, since it holds U+{ord(unseen):04X}, quoted or not: leave it out"
    if to is None:
        return "sms: not sms:+84912345678: write nothing before the number" if shown == "sms" else None
    if shown == "mailto" and not ADDRESS.fullmatch(to):
        return "mailto: not mailto:name@domain: correct the address"
    if shown == "sms" and not NUMBER.fullmatch(to):
        return "sms: not sms:+84912345678: write the number with digits only"
    return None


def is_file(channel: str) -> bool:
    return scheme(channel) == OUTBOX


def _unseen(channel: str) -> str | None:
    """Return a control character that the channel holds, also under several layers of quoting."""
    text = channel
    for _ in range(MOST_LAYERS):
        if found := next((c for c in text if category(c) in UNSEEN), None):
            return found
        plain = unquote(text, errors="surrogateescape")
        if plain == text:
            return None
        text = plain
    return "%"
