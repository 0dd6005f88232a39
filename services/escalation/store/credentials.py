"""Queries for credentials that were issued and revoked."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.store.tables import credential, credentials, notice, revocation_outbox
from shared.credentials.refusals import OldToken
from shared.credentials.revocation import Revocation, encode
from shared.credentials.store import put_old_tokens, put_revocations
from shared.database import any_of
from shared.events import CredentialKind
from shared.messaging import Outgoing, add, revocation_streams


@dataclass(frozen=True)
class Credential:
    """A credential, but for its text, which nobody keeps."""

    credential_id: str
    kind: CredentialKind
    subject: str
    role: str
    ward: str | None
    post: str | None
    key_id: str | None
    issued_at: datetime
    expires_at: datetime
    issued_by: str
    """Whoever issued it."""
    revoked_at: datetime | None = None
    revoked_by: str | None = None


async def add_credential(connection: AsyncConnection, issued: Credential) -> bool:
    """Returns whether it was not recorded yet."""
    statement = insert(credential).values(asdict(issued)).on_conflict_do_nothing().returning(credential.c.credential_id)
    return (await connection.scalar(statement)) is not None


async def some(
    connection: AsyncConnection,
    *,
    subject: str | None = None,
    all_of_them: bool = False,
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> list[Credential]:
    """A page, the newest first. Without `all_of_them`, those that are still accepted. `after`: the last one before."""
    order = (credential.c.issued_at, credential.c.credential_id)
    query = select(credential).order_by(*(column.desc() for column in order)).limit(limit)
    if subject is not None:
        query = query.where(credential.c.subject == subject)
    if not all_of_them:
        query = query.where(credential.c.revoked_at.is_(None), credential.c.expires_at > func.clock_timestamp())
    if after is not None:
        at, credential_id = after
        is_before = (credential.c.issued_at == at) & (credential.c.credential_id < credential_id)
        query = query.where(or_(credential.c.issued_at < at, is_before))
    return [Credential(**row) for row in (await connection.execute(query)).mappings()]


async def lock(connection: AsyncConnection, ids: Collection[str], subject: str | None = None) -> list[Credential]:
    """These, and those of `subject` that are still accepted; locked, in one order."""
    wanted = any_of(credential.c.credential_id, ids)
    if subject is not None:
        is_live = credential.c.revoked_at.is_(None) & (credential.c.expires_at > func.clock_timestamp())
        wanted |= (credential.c.subject == subject) & is_live
    query = select(credential).where(wanted).order_by(credential.c.credential_id).with_for_update()
    return [Credential(**row) for row in (await connection.execute(query)).mappings()]


async def role_of(connection: AsyncConnection, subject: str) -> str | None:
    """The role of the newest credential of a person; None if none was recorded."""
    query = select(credential.c.role).where(credential.c.subject == subject).order_by(credential.c.issued_at.desc())
    return await connection.scalar(query.limit(1))


async def recipient_of(connection: AsyncConnection, notice_id: str) -> tuple[str, datetime] | None:
    """Whose link the notice carries, and when it was issued."""
    query = select(notice.c.recipient, notice.c.issued_at).where(notice.c.notice_id == notice_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row.recipient, row.issued_at)


async def revoke(connection: AsyncConnection, revocations: Sequence[Revocation], by: str) -> None:
    """Mark the credentials, and send the revocations to the other services, in the caller's transaction.

    Take every other lock before.
    """
    for each in revocations:
        await connection.execute(
            update(credential)
            .where(credential.c.credential_id == each.credential)
            .values(revoked_at=each.revoked_at, revoked_by=by)
        )
    await put_revocations(connection, credentials, revocations)
    (stream,) = revocation_streams()
    await add(
        connection, revocation_outbox, [Outgoing(each.revocation_id, stream, encode(each)) for each in revocations]
    )


async def see_old(connection: AsyncConnection, found: Sequence[OldToken]) -> None:
    await put_old_tokens(connection, credentials, found)
