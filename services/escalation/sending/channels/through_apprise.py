"""The channels that Apprise brings messages to: those that `channel_schemes` lists, with the options listed there."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

from services.escalation.domain.directory.channel_form import scheme
from services.escalation.domain.directory.channel_schemes import APPRISE
from services.escalation.domain.notices.pacing import host_of
from services.escalation.sending.channels.connecting import connecting_to
from services.escalation.sending.channels.hosts import HostError, Hosts
from services.escalation.sending.channels.message import DeliveryError, Outgoing, SendOutcome

MOST_HUNG = 16
"""How many sends to one host may hang after their time-out. Then nothing is sent there until one ends."""
MOST_CHARACTERS = 4_000
"""Longest text, even where a service takes more: somebody has to read it."""


class ThroughApprise:
    """Sends through Apprise, which blocks. Each send has a thread, so that one that hangs delays no other."""

    def __init__(self) -> None:
        self._running = Counter[str]()

    async def send(self, out: Outgoing, channel: str, hosts: Hosts) -> SendOutcome:
        server, shown = host_of(out.message.channel), scheme(channel)
        if self._running[server] >= MOST_HUNG:
            raise DeliveryError(f"{shown}: {MOST_HUNG} earlier sends have not come back")
        self._running[server] += 1
        if not await _in_thread(lambda: _notify(out, channel, hosts), lambda: self._running.subtract([server])):
            raise DeliveryError(f"{shown}: the channel did not take the notice")
        return "sent"


def _notify(out: Outgoing, channel: str, hosts: Hosts) -> bool:
    """Raises HostError where a host is refused, which a plug-in takes for any failure."""
    service = _service(channel)
    title, body = out.text(min(int(service[0].body_maxlen), MOST_CHARACTERS))
    with connecting_to(hosts) as refused:
        taken = bool(service.notify(title=title, body=body, body_format="text"))
    if refused:
        raise HostError(refused[0])
    return taken


def channel_error(channel: str) -> str | None:
    """Return why nothing can be sent, or None. Apprise also takes a URL that names nobody to send to."""
    try:
        service = _service(channel)
    except DeliveryError as error:
        return str(error)
    return None if len(service[0]) else f"{scheme(channel)}: not to anybody; add the recipient to the contact"


def _service(channel: str) -> Any:
    """Return Apprise for one channel. Raises DeliveryError. Apprise is imported here, because importing it is slow.

    The channel is taken apart by its own plug-in, so that the options that are looked at are those that it gets, and is
    never split into several.
    """
    import apprise
    from apprise.manager_plugins import NotificationManager

    from services.escalation.sending.channels.requests_guard import install

    install()
    shown = scheme(channel)
    parts: dict[str, Any] | None = NotificationManager()[shown].parse_url(channel)
    if parts and (other := sorted(set(parts["qsd"]) - APPRISE.get(shown, frozenset()))):
        text = f"{shown}: not with the option {other[0][:40]!r}: leave it out; {_allowed(shown)}"
        raise DeliveryError(text, final=True)
    asset = apprise.AppriseAsset(async_mode=False)
    plugin = apprise.Apprise.instantiate(parts, asset=asset) if parts else None
    if plugin is None:
        raise DeliveryError(f"{shown}: not a channel that Apprise knows; correct the contact", final=True)
    service = apprise.Apprise(asset=asset)
    service.add(plugin)
    return service


def _allowed(shown: str) -> str:
    options = sorted(APPRISE.get(shown, ()))
    return f"it may have {', '.join(options)}" if options else "it may have none"


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
