"""Every channel that Apprise knows."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

from services.escalation.domain.notices.pacing import host_of, scheme
from services.escalation.sending.channels.message import DeliveryError, Outgoing, SendOutcome

MOST_HUNG = 16
"""Sends of one lane that may hang, outlived by their time-out, before it is not tried any more until one ends."""
MOST_CHARACTERS = 4_000
"""Of a text, even where a service would take more: somebody has to read it."""


class ThroughApprise:
    """Apprise blocks, so each send has a thread of its own: what hangs takes nobody else's."""

    def __init__(self) -> None:
        self._running = Counter[str]()

    async def send(self, out: Outgoing) -> SendOutcome:
        place, shown = host_of(out.message.channel), scheme(out.message.channel)
        if self._running[place] >= MOST_HUNG:
            raise DeliveryError(f"{shown}: {MOST_HUNG} earlier sends have not come back")
        self._running[place] += 1
        if not await _in_thread(lambda: _notify(out), lambda: self._running.subtract([place])):
            raise DeliveryError(f"{shown}: the channel did not take the notice")
        return "sent"


def _notify(out: Outgoing) -> bool:
    service = _service(out.message.channel)
    title, body = out.text(min(int(service[0].body_maxlen), MOST_CHARACTERS))
    return bool(service.notify(title=title, body=body, body_format="text"))


def channel_error(channel: str) -> str | None:
    try:
        _service(channel)
    except DeliveryError as error:
        return str(error)
    return None


def _service(channel: str) -> Any:
    """Raises DeliveryError. Apprise is imported where it is first needed: it takes longer than all else."""
    import apprise

    service = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
    if not service.add(channel):
        raise DeliveryError(f"{scheme(channel)}: not a channel that Apprise knows; correct the contact", final=True)
    return service


async def _in_thread(work: Callable[[], bool], at_end: Callable[[], None]) -> bool:
    """`at_end` is called when the work has really ended, whoever still waits for it. An exit does not wait."""
    loop = asyncio.get_running_loop()
    waited: asyncio.Future[bool] = loop.create_future()

    def settle(result: bool, error: Exception | None) -> None:
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
        with suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(settle, result, caught)

    Thread(target=run, name="apprise", daemon=True).start()
    return await waited
