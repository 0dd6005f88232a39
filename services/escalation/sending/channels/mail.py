"""E-mail through the mail server of the settings, or through one that the contact names.

`mailto://user:password@server:port?from=…&to=…` uses TLS if the server offers it (STARTTLS, port 587). `mailtos://`
uses it from the start (port 465). A password is sent over TLS only, or to this machine. A contact `mailto:ADDRESS` has
become such a URL by the gateway of the settings.
"""

import asyncio
import hashlib
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import parse_qsl, unquote, urlsplit

import aiosmtplib

from services.escalation.domain.directory.channel_form import ADDRESS, scheme
from services.escalation.sending.channels import content
from services.escalation.sending.channels.hosts import Hosts
from services.escalation.sending.channels.message import DeliveryError, Outgoing, SendOutcome

PORTS = {"mailto": 587, "mailtos": 465}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PERMANENT = 500
"""The first reply code that says that a failure is permanent (RFC 5321, section 4.2.1)."""


@dataclass(frozen=True)
class Mailbox:
    """A parsed `mailto` or `mailtos` channel."""

    scheme: str
    server: str
    port: int
    user: str | None
    password: str | None
    sender: str
    to: str

    @property
    def domain(self) -> str:
        return self.sender.partition("@")[2]


class Mail:
    def __init__(self, *, seconds: float = 10.0, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """`seconds`: limit for each answer of the server. `now`: real time, by which mail is sorted and judged."""
        self._seconds, self._now = seconds, now

    async def send(self, out: Outgoing, channel: str, hosts: Hosts) -> SendOutcome:
        box = mailbox(channel)
        letter = compose(box, out, self._now())
        client = aiosmtplib.SMTP(
            hostname=box.server,
            use_tls=box.scheme == "mailtos",
            timeout=self._seconds,
            local_hostname=socket.gethostname(),
        )
        try:
            await client.connect(sock=await self._connected(box, hosts))
            await self._hand_over(client, box, letter)
            with suppress(aiosmtplib.SMTPException, OSError):  # the server has accepted the mail
                await client.quit()
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _failed(box, error) from None
        finally:
            client.close()
        return "sent"

    async def _connected(self, box: Mailbox, hosts: Hosts) -> socket.socket:
        """Connect to the first of the server's addresses that answers. Raises what `Hosts.resolve` does."""
        async with asyncio.timeout(self._seconds):
            found = await hosts.resolve(box.server, box.port)
            for address in found[:-1]:
                with suppress(OSError):
                    return await connect(address, box.port)
            return await connect(found[-1], box.port)

    async def _hand_over(self, client: aiosmtplib.SMTP, box: Mailbox, letter: EmailMessage) -> None:
        if box.user is not None and box.password is not None:
            if client.get_transport_info("ssl_object") is None and box.server not in LOOPBACK:
                raise DeliveryError(f"{box.scheme}: the server offers no TLS, without which no password is sent")
            await client.login(box.user, box.password)
        await client.sendmail(box.sender, [box.to], letter.as_bytes(policy=SMTP))


async def connect(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, (address, port))
    except BaseException:
        made.close()
        raise
    return made


def _failed(box: Mailbox, error: Exception) -> DeliveryError:
    """Return the error to raise.

    It is final if the server refuses the recipient or the mail for good. Anything else may succeed the next time.
    """
    refused: Exception = error
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        refused = error.recipients[0]
    code = refused.code if isinstance(refused, aiosmtplib.SMTPResponseException) else None
    of_letter = isinstance(refused, aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPDataError)
    said = f"the server answered {code}" if code else type(error).__name__
    return DeliveryError(f"{box.scheme}: {said}", final=of_letter and code is not None and code >= PERMANENT)


def mailbox(channel: str) -> Mailbox:
    """Parse a channel. Raises DeliveryError."""
    shown = scheme(channel)
    try:
        parts = urlsplit(channel)
        host, port = parts.hostname, parts.port
        query = dict(parse_qsl(parts.query.replace("+", "%2B")))
        user, password = (unquote(part) if part else None for part in (parts.username, parts.password))
    except ValueError:
        host = None
        query, user, password, port = {}, None, None, None
    to, sender = query.get("to", ""), query.get("from") or user or ""
    if not host or not ADDRESS.fullmatch(to) or not ADDRESS.fullmatch(sender):
        text = f"{shown}: not {shown}://user:password@server?from=address&to=address; correct the contact"
        raise DeliveryError(text, final=True)
    return Mailbox(shown, host, port or PORTS[shown], user, password, sender, to)


def compose(box: Mailbox, out: Outgoing, now: datetime) -> EmailMessage:
    """Return the mail. All mails about one incident to one person form a thread.

    A bundle about several incidents belongs to no thread.
    """
    said = content.read(content.content_of(out))
    letter = EmailMessage(policy=SMTP)
    letter["From"], letter["To"] = box.sender, box.to
    letter["Subject"] = " ".join(said.title.split())
    letter["Date"] = now
    letter["Message-ID"] = f"<{out.message_id}@{box.domain}>"
    if len(said.threads) == 1:
        (thread,) = said.threads
        letter["In-Reply-To"] = letter["References"] = f"<{_thread(*thread)}@{box.domain}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(said.body, cte="base64")
    return letter


def _thread(incident_id: str, recipient: str) -> str:
    return f"{incident_id}.{hashlib.sha256(recipient.encode()).hexdigest()[:16]}"
