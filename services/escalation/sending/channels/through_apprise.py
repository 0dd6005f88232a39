"""All channels that Apprise supports."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from threading import Thread
from typing import Any

from services.escalation.domain.notices.pacing import host_of, scheme
from services.escalation.sending.channels.message import DeliveryError, Outgoing, SendOutcome
from shared.clock import monotonic

MOST_HUNG = 16
"""How many sends to one host may hang after their time-out. Then nothing is sent there until one ends."""
LONGEST_ANSWER = 1_000_000
"""Bytes of an answer that are read."""
LONGEST_ANSWER_SECONDS = 5.0
MOST_CHARACTERS = 4_000
"""Longest text, even where a service takes more: somebody has to read it."""


class ThroughApprise:
    """Sends through Apprise, which blocks. Each send has a thread, so that one that hangs delays no other."""

    def __init__(self) -> None:
        self._running = Counter[str]()

    async def send(self, out: Outgoing) -> SendOutcome:
        server, shown = host_of(out.message.channel), scheme(out.message.channel)
        if self._running[server] >= MOST_HUNG:
            raise DeliveryError(f"{shown}: {MOST_HUNG} earlier sends have not come back")
        self._running[server] += 1
        if not await _in_thread(lambda: _notify(out), lambda: self._running.subtract([server])):
            raise DeliveryError(f"{shown}: the channel did not take the notice")
        return "sent"


def _notify(out: Outgoing) -> bool:
    service = _service(out.message.channel)
    title, body = out.text(min(int(service[0].body_maxlen), MOST_CHARACTERS))
    return bool(service.notify(title=title, body=body, body_format="text"))


def channel_error(channel: str) -> str | None:
    """Return why nothing can be sent, or None. Apprise also takes a URL that names nobody to send to."""
    try:
        service = _service(channel)
    except DeliveryError as error:
        return str(error)
    return None if len(service[0]) else f"{scheme(channel)}: not to anybody; add the recipient to the contact"


def _service(channel: str) -> Any:
    """Return Apprise for one channel. Raises DeliveryError. Apprise is imported here, because importing it is slow."""
    import apprise

    _bound_answers()
    service = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
    if not service.add(channel):
        raise DeliveryError(f"{scheme(channel)}: not a channel that Apprise knows; correct the contact", final=True)
    return service


@cache
def _bound_answers() -> None:
    """Let Apprise's plug-ins read no more of an answer than a person would send: a body may be endless.

    They call `requests`, which reads the whole body into memory. Nothing else here uses `requests`.
    """
    from requests import sessions
    from requests.adapters import HTTPAdapter

    class Bounded(HTTPAdapter):
        def send(self, request: Any, *more: Any, **options: Any) -> Any:
            response = super().send(request, *more, **options | {"stream": True})
            body, until = bytearray(), monotonic() + LONGEST_ANSWER_SECONDS
            while len(body) < LONGEST_ANSWER and monotonic() < until:
                part = response.raw.read1(LONGEST_ANSWER - len(body), decode_content=True)
                if not part:
                    break
                body += part
            response.raw.close()
            response.raw = BytesIO(body)
            return response

    setattr(sessions, "HTTPAdapter", Bounded)  # noqa: B010 - it is not among the names that the module exports


async def _in_thread(work: Callable[[], bool], at_end: Callable[[], None]) -> bool:
    """Run `work` in a thread that does not delay the exit of the process, and return its result.

    `at_end` is called in the event loop when the work has really ended, even if nobody waits for it any more.
    """
    loop = asyncio.get_running_loop()
    waited: asyncio.Future[bool] = loop.create_future()

    def finish(result: bool, error: Exception | None) -> None:
        at_end()
        if waited.done():
            return
        if error is None:
            waited.set_result(result)
        else:
            waited.set_exception(error)

    def run() -> None:
        result, caught = False, None
        try:
            result = work()
        except Exception as error:
            caught = error
        with suppress(RuntimeError):  # the event loop may have closed
            loop.call_soon_threadsafe(finish, result, caught)

    Thread(target=run, name="apprise", daemon=True).start()
    return await waited
