"""Signed webhooks (standardwebhooks.com, specification 1.0).

`webhook://host/path?secret=whsec_…` posts over HTTP, `webhooks://` over HTTPS. The secret is the receiver's own, 24 to
64 bytes in base64. It is never sent. With two secrets, while one replaces the other, a message has two signatures.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx

from services.escalation.domain.directory.channel_form import scheme
from services.escalation.sending.channels.content import content_of
from services.escalation.sending.channels.hosts import Hosts, canonical
from services.escalation.sending.channels.message import DeliveryError, Outgoing, SendOutcome

SCHEMES = {"webhook": "http", "webhooks": "https"}
PORTS = {"http": 80, "https": 443}
LONGEST_RETRY_AFTER = timedelta(hours=1)
GONE = 410
logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs whole addresses


@dataclass(frozen=True)
class Endpoint:
    """A parsed `webhook` or `webhooks` channel."""

    url: str
    secrets: tuple[bytes, ...]


class Webhooks:
    def __init__(
        self, *, seconds: float = 10.0, connect_seconds: float = 4.0, now: Callable[[], float] = time.time
    ) -> None:
        """`now`: real time, whatever the service's clock says. Receivers refuse a signature of another time."""
        self._timeout = httpx.Timeout(seconds, connect=connect_seconds)
        self._now = now
        self._made: httpx.AsyncClient | None = None

    def _client(self) -> httpx.AsyncClient:
        """Return the one client, for its TLS context. Each message has a new connection, which is never stale."""
        if self._made is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            # With a transport of its own it takes no proxy from the environment, which would connect unjudged.
            transport = httpx.AsyncHTTPTransport(limits=limits)
            self._made = httpx.AsyncClient(timeout=self._timeout, transport=transport, follow_redirects=False)
        return self._made

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    async def send(self, out: Outgoing, channel: str, hosts: Hosts) -> SendOutcome:
        shown, to, content = scheme(channel), endpoint(channel), content_of(out)
        headers = {"content-type": "application/json", "user-agent": "trucban"}
        headers |= signed(out.message_id, int(self._now()), content, to.secrets)
        try:
            pinned = await _pinned(to.url, hosts)
            for each in pinned[:-1]:
                with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                    return await self._post(shown, each, content, headers)
            return await self._post(shown, pinned[-1], content, headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise DeliveryError(f"{shown}: {type(error).__name__}") from None

    async def _post(self, shown: str, to: "Pinned", content: bytes, headers: dict[str, str]) -> SendOutcome:
        """Only the status and headers are read: a body may be endless."""
        posting = self._client().stream(
            "POST", to.url, content=content, headers=headers | {"host": to.host}, extensions={"sni_hostname": to.name}
        )
        async with posting as answer:
            if answer.is_success:
                return "delivered"
            raise self._refused(shown, answer)

    def _refused(self, shown: str, answer: httpx.Response) -> DeliveryError:
        wait = retry_after(answer.headers.get("retry-after"), self._now())
        text = f"{shown}: the receiver answered {answer.status_code}"
        return DeliveryError(text, final=answer.status_code == GONE, retry_after=wait)


@dataclass(frozen=True)
class Pinned:
    """A URL with an address in the place of the host's name. `name`: for TLS; `host`: for the header."""

    url: httpx.URL
    name: str
    host: str


async def _pinned(url: str, hosts: Hosts) -> Sequence[Pinned]:
    """Return where to connect, each address of the host once. Raises what `Hosts.resolve` does."""
    to = httpx.URL(url)
    name = canonical(to.host)
    found = await hosts.resolve(name, to.port or PORTS[to.scheme])
    return [Pinned(to.copy_with(host=each), name, to.netloc.decode()) for each in dict.fromkeys(found)]


def endpoint(channel: str) -> Endpoint:
    """Parse a channel. Raises DeliveryError."""
    shown = scheme(channel)
    try:
        parts = urlsplit(channel)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    query = parse_qsl(parts.query, keep_blank_values=True)
    try:
        secrets = tuple(_secret(value) for name, value in query if name == "secret")
    except (ValueError, binascii.Error):
        secrets = ()
    if not host or not secrets:
        raise DeliveryError(
            f"{shown}: not {shown}://host/path?secret=whsec_… with 24 to 64 bytes in base64; correct the contact",
            final=True,
        )
    rest = urlencode([(name, value) for name, value in query if name != "secret"])
    return Endpoint(urlunsplit((SCHEMES[shown], parts.netloc, parts.path or "/", rest, "")), secrets)


def _secret(text: str) -> bytes:
    """Decode a secret in either alphabet of base64. Raises ValueError.

    A plus sign has become a space in the query.
    """
    plain = text.removeprefix("whsec_").replace(" ", "+").replace("-", "+").replace("_", "/")
    secret = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    if not 24 <= len(secret) <= 64:
        raise ValueError
    return secret


def signed(message_id: str, at: int, content: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """Return the headers of the specification, with one signature for each secret."""
    to_sign = b".".join((message_id.encode(), str(at).encode(), content))
    digests = (hmac.new(secret, to_sign, hashlib.sha256).digest() for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def retry_after(value: str | None, now: float) -> timedelta | None:
    """Parse a Retry-After header (RFC 9110, section 10.2.3): seconds or a date. `now`: seconds since 1970.

    Returns at most LONGEST_RETRY_AFTER, and None for what is neither.
    """
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        wait = timedelta(seconds=min(int(value), LONGEST_RETRY_AFTER.total_seconds()))
    else:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        aware = until if until.tzinfo else until.replace(tzinfo=UTC)
        wait = aware - datetime.fromtimestamp(now, UTC)
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)
