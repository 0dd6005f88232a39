"""Real receivers of notices: an HTTP server and a mail server that fail, stall and drop as a test says."""

import asyncio
import email
import json
import socket
import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from typing import Any, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from services.escalation.sending.channels import WayOut
from services.escalation.sending.channels.hosts import Hosts

TO_THIS_MACHINE = WayOut(Hosts(("127.0.0.0/8", "0.0.0.0", "localhost")))
"""The receivers here are on this machine, as no channel of a city is unless a setting lists it."""
Behaviour = Literal["stall", "drop", "drop midway", "trickle", "endless", "redirect"]
"""`trickle`: the head of the answer comes byte by byte and never ends. `endless`: 200 with a body that never ends.
`redirect`: to itself."""


@dataclass
class Request:
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP receiver such as a messaging gateway has. `script`: what comes of the first requests; then 200."""

    script: list[int | tuple[int, dict[str, str]] | Behaviour]
    always: Behaviour | None = None
    """What comes of each request after those."""
    host: str = ""
    requests: list[Request] = field(default_factory=list[Request])
    taken: list[Request] = field(default_factory=list[Request])
    """Those that were answered with 2xx."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(await _request(reader), writer)
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.requests.append(request)
        doing = self.script.pop(0) if self.script else self.always or 200
        if doing == "stall":
            await asyncio.sleep(3600)
        elif doing == "trickle":
            await _for_ever(writer, b"HTTP/1.1 200 OK\r\nx-filler: ", b"x", 0.02)
        elif doing == "endless":
            self.taken.append(request)
            await _for_ever(writer, b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n", b"x" * 65_536, 0)
        elif doing == "redirect":
            head = f"HTTP/1.1 307 X\r\nlocation: http://{self.host}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            writer.write(head.encode())
            await writer.drain()
        elif doing == "drop":
            _reset(writer)
        elif doing == "drop midway":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
            await writer.drain()
            _reset(writer)
        else:
            status, headers = doing if isinstance(doing, tuple) else (doing, dict[str, str]())
            if 200 <= status < 300:
                self.taken.append(request)
            more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {status} X\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()


async def _for_ever(writer: asyncio.StreamWriter, head: bytes, more: bytes, seconds: float) -> None:
    writer.write(head)
    while True:
        writer.write(more)
        await writer.drain()
        await asyncio.sleep(seconds)


async def _request(reader: asyncio.StreamReader) -> Request:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return Request(first.split()[1], headers, await reader.readexactly(int(headers.get("content-length", 0))))


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a peer that died."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def receiving(
    *script: int | tuple[int, dict[str, str]] | Behaviour, always: Behaviour | None = None
) -> AsyncGenerator[Receiver]:
    receiver = Receiver(list(script), always)
    handling: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(receiver.answer(reader, writer))
        handling.add(task)
        task.add_done_callback(handling.discard)

    server = await asyncio.start_server(accept, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    receiver.host = f"{host}:{port}"
    try:
        yield receiver
    finally:
        server.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)


@dataclass
class Post:
    """A mail server. `script`: what comes of the first letters at the step that it names; then each is taken."""

    script: list[tuple[Literal["MAIL", "RCPT", "DATA"], str | Behaviour]]
    host: str = ""
    letters: list[EmailMessage] = field(default_factory=list[EmailMessage])
    envelopes: list[tuple[str, Sequence[str]]] = field(default_factory=list[tuple[str, Sequence[str]]])
    logins: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])

    async def _at(self, step: str, server: SMTP) -> str | None:
        if not self.script or self.script[0][0] != step:
            return None
        _, doing = self.script.pop(0)
        if doing == "stall":
            await asyncio.sleep(3600)
        if doing == "drop":
            _abort(server)
            return "421 gone"
        return doing

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's names
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del session, options
        if refusal := await self._at("MAIL", server):
            return refusal
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del session, options
        if refusal := await self._at("RCPT", server):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        del session
        if refusal := await self._at("DATA", server):
            return refusal
        content = envelope.content
        assert isinstance(content, bytes)
        self.letters.append(email.message_from_bytes(content, policy=POLICY))
        self.envelopes.append((str(envelope.mail_from), list(envelope.rcpt_tos)))
        return "250 OK"

    def log_in(self, *given: Any) -> AuthResult:
        login = given[-1]
        assert isinstance(login, LoginPassword)
        self.logins.append((login.login, login.password))
        return AuthResult(success=login.password == b"mat-khau")


@asynccontextmanager
async def mail_server(
    *script: tuple[Literal["MAIL", "RCPT", "DATA"], str | Behaviour], **more: Any
) -> AsyncGenerator[Post]:
    post = Post(list(script))
    made: list[SMTP] = []

    def protocol() -> SMTP:
        made.append(SMTP(post, hostname="mail.test", authenticator=post.log_in, **more))
        return made[-1]

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    post.host = f"{host}:{port}"
    try:
        yield post
    finally:
        server.close()
        for smtp in made:
            _abort(smtp)


def _abort(server: SMTP) -> None:
    if isinstance(server.transport, asyncio.WriteTransport):
        server.transport.abort()
