"""Pseudonyms: how events name whoever sent a report, or an officer who did something.

A pseudonym is an HMAC-SHA256 (RFC 2104) of the subject of a credential, under a key that only the services hold. The
same subject always has the same one, so that two senders can be told apart. Who has not got the key cannot find out
whose it is, nor check a guess. Intake's rows of reports say whose it is.
"""

import base64
import hashlib
import hmac
import re

KEY = "pseudonym"
"""Name of the key file."""
_FORM = re.compile("p_[a-z2-7]{16}")


def pseudonym(key: bytes, subject: str) -> str:
    """Return `p_` and 16 letters or digits, which stand for 80 bits."""
    digest = hmac.new(key, b"source/pseudonym/v1\0" + subject.encode(), hashlib.sha256).digest()
    return "p_" + base64.b32encode(digest[:10]).decode().lower()


def is_pseudonym(subject: str) -> bool:
    """Return whether it has the form of one."""
    return _FORM.fullmatch(subject) is not None


def known_pseudonym(key: bytes, subject: str) -> str:
    """Return the pseudonym of a subject, or the same where it is one: for what was stored before there were any."""
    return subject if is_pseudonym(subject) else pseudonym(key, subject)
