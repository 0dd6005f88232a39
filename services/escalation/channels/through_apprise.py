"""Every channel that Apprise knows, with the demo's `outbox://`, which writes a file."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import quote

from services.escalation.channels.message import DeliveryError, Outcome, Outgoing
from services.escalation.pacing import lane, scheme
from services.escalation.store.deliveries import DueDelivery

MOST_HUNG = 16
"""Sends of one lane that may hang, outlived by their time-out, before it is not tried any more until one ends."""
MOST_CHARACTERS = 4_000
"""Of a text, even where a service would take more: somebody has to read it."""
_registering = Lock()


class ThroughApprise:
    """Apprise blocks, so each send has a thread of its own: what hangs takes nobody else's."""

    def __init__(self, outbox: Path) -> None:
        self._outbox = outbox
        self._running = Counter[str]()

    async def send(self, out: Outgoing) -> Outcome:
        place, shown = lane(out.message.channel), scheme(out.message.channel)
        if self._running[place] >= MOST_HUNG:
            raise DeliveryError(f"{shown}: {MOST_HUNG} earlier sends have not come back")
        self._running[place] += 1
        if not await _in_thread(lambda: self._notify(out), lambda: self._running.subtract([place])):
            raise DeliveryError(f"{shown}: the channel did not take the notice")
        return "sent"

    def _notify(self, out: Outgoing) -> bool:
        channel = out.message.channel
        if scheme(channel) == "outbox":
            lines = json.dumps([_line(d) for d in out.deliveries])
            channel += f"?file={quote(str(self._outbox), safe='')}&lines={quote(lines, safe='')}"
        service = _service(channel)
        title, body = out.text(min(int(service[0].body_maxlen), MOST_CHARACTERS))
        return bool(service.notify(title=title, body=body, body_format="text"))


def complaint(channel: str) -> str | None:
    try:
        _service(channel)
    except DeliveryError as error:
        return str(error)
    return None


def _service(channel: str) -> Any:
    """Raises DeliveryError."""
    apprise = _apprise()
    service = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
    if not service.add(channel):
        raise DeliveryError(f"{scheme(channel)}: not a channel that Apprise knows; correct the contact", final=True)
    return service


def _apprise() -> Any:
    with _registering:
        return _registered()


@cache
def _registered() -> Any:
    """Apprise with our channel. Imported where it is first needed: it takes longer than all else."""
    import apprise
    from apprise.decorators import notify

    notify(on="outbox", name="Trực Ban outbox file")(_write_outbox)
    return apprise


def _write_outbox(body: str, title: str, *_: Any, meta: dict[str, Any], **__: Any) -> bool:
    """`outbox://NAME?file=PATH&lines=JSON`: append them durably; what is written at once is whole or absent."""
    query: dict[str, str] = meta["qsd"]
    lines = [line | {"title": title, "body": body} for line in json.loads(query["lines"])]
    data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    descriptor = os.open(query["file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def _line(due: DueDelivery) -> dict[str, Any]:
    shown = ("delivery_id", "notice_id", "incident_id", "recipient", "purpose", "posts", "exercise", "bundle_id")
    return {name: getattr(due, name) for name in shown}


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
