"""Bringing a notice to a person: Apprise, with the demo's `outbox://` channel, which writes a file and prints."""

import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog

from services.escalation.store.due import DueDelivery

log = structlog.get_logger()


@cache
def _apprise() -> Any:
    """Apprise with our channel registered. Imported where it is first needed: it takes longer than all else."""
    import apprise
    from apprise.decorators import notify

    notify(on="outbox", name="Trực Ban outbox file")(_write_outbox)
    return apprise


def _write_outbox(body: str, title: str, *_: Any, meta: dict[str, Any], **__: Any) -> bool:
    """`outbox://NAME?file=PATH&line=JSON`: append the line durably; a line is whole or absent."""
    query: dict[str, str] = meta["qsd"]
    line = json.loads(query["line"]) | {"title": title, "body": body}
    data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
    descriptor = os.open(query["file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def scheme(channel: str) -> str:
    """All of a channel that may be shown: the rest is an address or a secret."""
    return channel.partition("://")[0]


class Sender:
    """Sends one delivery. Raises DeliveryError when the channel did not take it."""

    def __init__(self, outbox: Path, *, printed: Callable[[str], None] | None = None) -> None:
        self._outbox = outbox
        self._printed = printed

    async def send(self, due: DueDelivery) -> None:
        channel = due.channel
        if scheme(channel) == "outbox":
            channel += f"?file={quote(str(self._outbox), safe='')}&line={quote(self._line(due), safe='')}"
        sender = _apprise().Apprise()
        if not sender.add(channel):
            raise DeliveryError(f"{scheme(channel)}: not a channel that Apprise knows; correct the contact")
        if not await sender.async_notify(title=due.title, body=due.body, body_format="text"):
            raise DeliveryError(f"{scheme(channel)}: the channel did not take the notice")
        if self._printed is not None:
            self._printed(f"→ {due.recipient}: {due.title}")

    def _line(self, due: DueDelivery) -> str:
        shown = ("delivery_id", "notice_id", "incident_id", "recipient", "purpose", "posts", "exercise")
        return json.dumps({name: getattr(due, name) for name in shown})


class DeliveryError(Exception):
    """A channel did not take a notice; the text names its scheme only."""


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
