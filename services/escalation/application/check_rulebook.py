"""Checking a rulebook before it is adopted."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from services.escalation.application.adopt_rulebooks import packaged_rulebooks
from services.escalation.domain.rules.lint import Inspection, inspect
from services.escalation.store import directory


async def check_rulebook(content: bytes, now: datetime, database: AsyncEngine | None) -> Inspection:
    """Whether a rulebook can be adopted, beside those that the system has adopted and those that come with the program.

    `database`: None where there is no system yet; only the rulebooks of the program are compared with then.
    """
    known = {book.rulebook.version: book for book in packaged_rulebooks()}
    if database is not None:
        async with database.connect() as connection:
            known |= {book.rulebook.version: book for book in await directory.rulebooks(connection)}
    return inspect(content, list(known.values()), now)
