"""Adopt rulebooks. A version is adopted once, and its content never changes."""

from collections.abc import Sequence
from pathlib import Path

from services.escalation.application.escalation import Escalation
from services.escalation.domain.envelope import envelope
from services.escalation.domain.rules.rulebook import (
    AdoptedRulebook,
    Bundling,
    RulebookError,
    check_complete,
    in_force,
    newness,
    read,
)
from services.escalation.store import directory
from shared.events import Event, RulebookAdopted, RulebookAdoptedData

RULEBOOKS = Path(__file__).parents[1] / "rulebooks"


def packaged_rulebooks() -> list[AdoptedRulebook]:
    return [read(path.read_bytes()) for path in sorted(RULEBOOKS.glob("*.yaml"))]


async def adopt_rulebooks(escalation: Escalation, books: Sequence[AdoptedRulebook]) -> int:
    """Adopt the versions that are new, and return how many there were.

    Raises RulebookError if an adopted version has other content now, or if a new one is incomplete.
    """
    async with escalation.database.begin() as connection:
        await directory.lock(connection)
        adopted = {a.rulebook.version: a.sha256 for a in await directory.rulebooks(connection)}
        new: list[AdoptedRulebook] = []
        for book in books:
            version = book.rulebook.version
            if version not in adopted:
                check_complete(book.rulebook)
                new.append(book)
            elif adopted[version] != book.sha256:
                raise RulebookError(
                    f"rulebook {version} was adopted with SHA-256 {adopted[version][:12]}… and the file has "
                    f"{book.sha256[:12]}…: an adopted version never changes, give the new text a new version"
                )
        events: list[Event] = []
        for book in new:
            now = escalation.clock.now()
            await directory.add_rulebook(connection, book, now)
            data = RulebookAdoptedData(
                version=book.rulebook.version,
                sha256=book.sha256,
                valid_from=book.rulebook.valid_from,
                valid_to=book.rulebook.valid_to,
            )
            events.append(RulebookAdopted(**envelope(escalation.new_id(), book.rulebook.version, now), data=data))
        await escalation.emit(connection, events)
    escalation.wake()
    return len(new)


async def bundling_now(escalation: Escalation) -> Bundling:
    """Return how messages are bundled: as the rulebook in force says, or else the newest one."""
    async with escalation.database.connect() as connection:
        books = await directory.rulebooks(connection)
    book = in_force(books, escalation.clock.now()) or max(books, key=newness, default=None)
    return book.rulebook.bundling if book else Bundling()
