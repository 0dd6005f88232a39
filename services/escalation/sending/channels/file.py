"""`outbox://NAME`: a file of JSON lines that stands in for a channel. NAME is not used: there is one file."""

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from services.escalation.domain.notices.message import DueDelivery
from services.escalation.sending.channels.message import LONG, Outgoing, SendOutcome
from shared.group_commit import GroupCommit


class FileChannel:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = GroupCommit[str, SendOutcome](self._append)

    async def send(self, out: Outgoing) -> SendOutcome:
        title, body = out.text(LONG)
        lines = [json.dumps(_line(d) | {"title": title, "body": body}, ensure_ascii=False) for d in out.deliveries]
        return await self._writing.add("".join(f"{line}\n" for line in lines))

    async def _append(self, texts: list[str]) -> list[SendOutcome]:
        await asyncio.to_thread(append, self._path, "".join(texts).encode())
        return ["sent"] * len(texts)


def _line(due: DueDelivery) -> dict[str, Any]:
    shown = ("delivery_id", "notice_id", "incident_id", "recipient", "purpose", "posts", "exercise", "bundle_id")
    return {name: getattr(due, name) for name in shown}


def append(path: Path, data: bytes) -> None:
    """Append durably. If the disk takes only a part, that part is removed again. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # other replicas may write to the same file
        size = os.fstat(descriptor).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
