"""The tables of revocations and of tokens of before, one of each in the schema of every service."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, DateTime, Index, MetaData, Table, Text, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.credentials.refusals import OldToken
from shared.credentials.revocation import Revocation


@dataclass(frozen=True)
class CredentialTables:
    revocation: Table
    old_token: Table


def credential_tables(metadata: MetaData) -> CredentialTables:
    """The tables, in the metadata's schema."""
    revocation = Table(
        "revocation",
        metadata,
        Column("revocation_id", Text, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("credential", Text),
        Column("subject", Text),
        Column("issued_before", DateTime(timezone=True)),
        Column("holder", Text, nullable=False),
        Column("role", Text, nullable=False),
        Column("revoked_at", DateTime(timezone=True), nullable=False),
        Column("expires_at", DateTime(timezone=True), nullable=False),
        Column("stored_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        Index("revocation_by_storing", "stored_at"),
    )
    old_token = Table(
        "old_token",
        metadata,
        Column("digest", Text, primary_key=True),
        Column("subject", Text, nullable=False),
        Column("role", Text, nullable=False),
        Column("ward", Text),
        Column("issued_at", DateTime(timezone=True), nullable=False),
        Column("expires_at", DateTime(timezone=True), nullable=False),
    )
    return CredentialTables(revocation, old_token)


async def put_revocations(
    connection: AsyncConnection, tables: CredentialTables, revocations: Sequence[Revocation]
) -> None:
    """Store them, each once."""
    if revocations:
        rows = [each.model_dump() for each in revocations]
        await connection.execute(insert(tables.revocation).on_conflict_do_nothing(), rows)


async def revocations_since(
    connection: AsyncConnection, table: Table, since: datetime | None
) -> list[tuple[Revocation, datetime]]:
    """Those that were stored since, or all, but for the expired ones, each with when it was stored."""
    query = select(table).where(table.c.expires_at > func.clock_timestamp()).order_by(table.c.stored_at)
    if since is not None:
        query = query.where(table.c.stored_at > since)
    rows = (await connection.execute(query)).mappings().all()
    return [(Revocation.model_validate(dict(row)), row["stored_at"]) for row in rows]


async def put_old_tokens(connection: AsyncConnection, tables: CredentialTables, found: Sequence[OldToken]) -> None:
    if found:
        rows = [token._asdict() for token in found]
        await connection.execute(insert(tables.old_token).on_conflict_do_nothing(), rows)


async def old_tokens(connection: AsyncConnection, tables: CredentialTables) -> list[OldToken]:
    """Those that were used here and are still accepted."""
    table = tables.old_token
    query = select(table).where(table.c.expires_at > func.clock_timestamp()).order_by(table.c.subject, table.c.digest)
    return [OldToken(**row) for row in (await connection.execute(query)).mappings()]
