"""Dead letters: events that a group could not handle, kept whole until somebody has looked at them."""

from hashlib import sha256

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine


def dead_letter_table(metadata: MetaData) -> Table:
    """Events that a group could not handle. `body` may hold personal data: erasure deletes here too."""
    return Table(
        "dead_letter",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("group", Text, nullable=False),
        Column("stream", Text, nullable=False),
        Column("entry_id", Text, nullable=False),
        Column("digest", Text, nullable=False, comment="SHA-256 of the body"),
        Column("body", LargeBinary, nullable=False),
        Column("error", Text, nullable=False, comment="type and place of the error, never its text"),
        Column("deliveries", Integer, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        UniqueConstraint("group", "stream", "digest"),
    )


async def dead_letter_health_failure(engine: AsyncEngine, dead_letters: Table) -> str | None:
    """For /readyz: why the service is not healthy, or None. A dead letter stays until somebody has looked at it."""
    async with engine.connect() as connection:
        count = await connection.scalar(select(func.count()).select_from(dead_letters))
    return f"{count} events in {dead_letters.fullname}: look at their error" if count else None


async def keep_dead_letter(
    engine: AsyncEngine,
    dead_letters: Table,
    *,
    group: str,
    stream: str,
    entry_id: str,
    body: bytes,
    error: str,
    deliveries: int,
) -> None:
    """Commit one dead letter. Does nothing if the group has one of this body from this stream."""
    row = {
        "group": group,
        "stream": stream,
        "entry_id": entry_id,
        "digest": sha256(body).hexdigest(),
        "body": body,
        "error": error,
        "deliveries": deliveries,
    }
    async with engine.begin() as connection:
        await connection.execute(insert(dead_letters).values(row).on_conflict_do_nothing())
