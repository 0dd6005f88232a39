"""Signed links: whoever holds one may acknowledge that notice in the name of its recipient, without a token. Pure."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

VALID_FOR = timedelta(days=3)
"""Counted from the issue of the notice. After that a person needs a token, or asks the desk."""
_DOMAIN = b"trucban/link/v1"
_SIGNATURE_BYTES = 16


class ForgedLinkError(Exception):
    """The link is not one that we made for this notice and recipient. It may be a guess, so nothing more is said."""


class ExpiredLinkError(Exception):
    """We made the link, and it has expired."""


def bearer(recipient: str, person: str | None) -> str:
    """Return for whom a link is signed: the recipient, or the person on duty at an office whose channel gets it."""
    return recipient if person is None else f"{recipient}/{person}"


class LinkSigner:
    """Makes and checks the links of one installation. Each installation has one `secret`.

    The signature is in the query, because logs often keep the path. It is an HMAC-SHA256, cut to 128 bits so that a
    link fits into a text message. The recipient is signed, but is not in the link.
    """

    def __init__(self, secret: bytes, base_url: str) -> None:
        self._secret, self._base_url = secret, base_url.rstrip("/")

    def url(self, notice_id: str, recipient: str, expires: datetime) -> str:
        e = str(int(expires.timestamp()))
        return f"{self._base_url}/escalation/v1/links/{notice_id}?e={e}&s={self._signature(notice_id, recipient, e)}"

    def of_notice(self, notice_id: str, recipient: str, issued_at: datetime) -> str:
        """Return the link of a notice. It is the same whenever the notice is sent again."""
        return self.url(notice_id, recipient, issued_at + VALID_FOR)

    def check(self, notice_id: str, recipient: str, e: str, s: str, now: datetime) -> None:
        """Check `e` and `s` as they came in the query. Raises ForgedLinkError or ExpiredLinkError."""
        if not hmac.compare_digest(s.encode(), self._signature(notice_id, recipient, e).encode()):
            raise ForgedLinkError
        if now >= datetime.fromtimestamp(int(e), UTC):
            raise ExpiredLinkError

    def _signature(self, notice_id: str, recipient: str, e: str) -> str:
        text = b"\0".join((_DOMAIN, e.encode(), notice_id.encode(), recipient.encode()))
        digest = hmac.new(self._secret, text, hashlib.sha256).digest()[:_SIGNATURE_BYTES]
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
