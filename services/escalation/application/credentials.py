"""Credentials: record that one was issued, revoke, and record uses after a revocation.

Tokens use real time, whatever the clock of the domain says, and so do these rows.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import DESK, LEADERSHIP
from services.escalation.domain.envelope import envelope
from services.escalation.domain.notices.signed_link import VALID_FOR
from services.escalation.store import credentials as store
from services.escalation.store.credentials import Credential as Credential
from shared.commitment import Committed, new_salt
from shared.credentials.refusals import Seen, refusal_event
from shared.credentials.revocation import Revocation
from shared.events import (
    CredentialIssued,
    CredentialIssuedData,
    CredentialKind,
    CredentialRevoked,
    CredentialRevokedData,
    Event,
    Who,
)
from shared.http.identity import IssuedToken, Principal, TokenVerifier
from shared.http.problem import Problem
from shared.pseudonym import pseudonym

LONGEST = timedelta(days=400)
"""No credential is valid for longer."""
_ROLE_OF = {DESK: "desk", LEADERSHIP: "leader"}
NAME = "escalation"


@dataclass(frozen=True)
class SaidByToken:
    """What a token says of itself, whether its issue was recorded or not."""

    token_id: str
    principal: Principal
    expires_at: datetime


def said_by(verifier: TokenVerifier, token: str) -> SaidByToken:
    """What a token of ours says of itself. Raises Problem for one that is not accepted, or has no id."""
    principal, expires_at = verifier.verify_with_end(token)
    if principal.credential is None:
        raise Problem(422, "it is one of before, without an id: revoke all of its subject")
    return SaidByToken(principal.credential, principal, expires_at)


async def record_token(
    escalation: Escalation, issued: IssuedToken, principal: Principal, kind: CredentialKind = "token"
) -> None:
    """Record a token that is about to be given to somebody. `escalation`: working for whoever issues it."""
    who = _author(escalation)
    row = Credential(
        credential_id=issued.token_id,
        kind=kind,
        subject=principal.subject,
        role=principal.role,
        ward=principal.ward,
        post=principal.post,
        key_id=issued.key_id,
        issued_at=issued.issued_at,
        expires_at=issued.expires_at,
        issued_by=who.subject,
    )
    async with escalation.database.begin() as connection:
        if await store.add_credential(connection, row):
            data = CredentialIssuedData(
                officials=_officials(row),
                credential_id=row.credential_id,
                kind=kind,
                holder=_named(escalation, row.subject, row.role),
                role=row.role,
                ward=row.ward,
                post=row.post,
                expires_at=row.expires_at,
            )
            head = envelope(escalation.new_id(), row.credential_id, escalation.clock.now())
            await escalation.emit(connection, [CredentialIssued(**head, data=data)])
    escalation.wake()


async def revoke(
    escalation: Escalation,
    reason: str,
    *,
    ids: Collection[str] = (),
    subject: str | None = None,
    notice: str | None = None,
    tokens: Sequence[SaidByToken] = (),
) -> list[Revocation]:
    """Revoke credentials by id, all of a person, the link of a notice, or tokens by their text.

    All of a person: what is recorded, and what has no id and was issued until now. Safe to repeat. Returns what was
    not revoked before. Raises Problem 404 for an id that is not known; nothing is revoked then.
    """
    who, now = _author(escalation), datetime.now(UTC)
    async with escalation.database.begin() as connection:
        found = await store.lock(connection, [*ids, *(each.token_id for each in tokens)], subject)
        known = {row.credential_id for row in found}
        if missing := set(ids) - known:
            advice = "list those that are recorded, or revoke a token by its text"
            raise Problem(404, f"there is no credential {min(missing)}: {advice}")
        for token in tokens:
            if token.token_id not in known:
                row = _stored(token, who)
                await store.add_credential(connection, row)
                found.append(row)
        revocations = [
            _of(escalation, now, row.kind, row.credential_id, row.subject, row.role, row.expires_at)
            for row in found
            if row.revoked_at is None
        ]
        if notice is not None:
            revocations += await _of_link(escalation, connection, now, notice, who)
        if subject is not None:
            revocations.append(await _of_all(escalation, connection, now, subject))
        if revocations:
            await store.revoke(connection, revocations, who.subject)
            await escalation.emit(connection, [_event(escalation, each, reason) for each in revocations])
    escalation.wake()
    return revocations


async def take_seen(escalation: Escalation, seen: Seen) -> None:
    """Record uses of revoked credentials, and keep the tokens of before that were used."""
    now = escalation.clock.now()
    async with escalation.database.begin() as connection:
        await store.see_old(connection, seen.old)
        events: list[Event] = [refusal_event(NAME, refused, count, now) for refused, count in seen.refused]
        if events:
            await escalation.emit(connection, events)
    escalation.wake()


async def listed(
    escalation: Escalation,
    *,
    subject: str | None,
    all_of_them: bool,
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> list[Credential]:
    async with escalation.database.connect() as connection:
        return await store.some(connection, subject=subject, all_of_them=all_of_them, after=after, limit=limit)


def _author(escalation: Escalation) -> Who:
    assert escalation.who is not None, "a credential is issued and revoked by somebody"
    return escalation.who


def _stored(each: SaidByToken, who: Who) -> Credential:
    """As if it had been recorded: nobody knows when it was issued."""
    holder = each.principal
    return Credential(
        each.token_id,
        "token",
        holder.subject,
        holder.role,
        holder.ward,
        holder.post,
        None,
        datetime.now(UTC),
        each.expires_at,
        who.subject,
    )


async def _of_link(
    escalation: Escalation, connection: AsyncConnection, now: datetime, notice: str, who: Who
) -> list[Revocation]:
    found = await store.recipient_of(connection, notice)
    if found is None:
        raise Problem(404, f"there is no notice {notice}")
    recipient, issued_at = found
    role = _ROLE_OF.get(recipient, "official")
    # links go by the domain's clock, which may have been moved
    expires_at = max(now, issued_at) + VALID_FOR
    row = Credential(notice, "link", recipient, role, None, None, None, issued_at, expires_at, who.subject)
    if not await store.add_credential(connection, row):
        return []
    return [_of(escalation, now, "link", notice, recipient, role, expires_at)]


async def _of_all(escalation: Escalation, connection: AsyncConnection, now: datetime, subject: str) -> Revocation:
    role = await store.role_of(connection, subject) or _ROLE_OF.get(subject, "unknown")
    named = pseudonym(escalation.pseudonym_key, subject) if role == "unknown" else _named(escalation, subject, role)
    return Revocation(
        revocation_id=escalation.new_id(),
        kind="token",
        subject=subject,
        issued_before=max(now, escalation.clock.now()),
        holder=named,
        role=role,
        revoked_at=now,
        expires_at=now + LONGEST,
    )


def _of(
    escalation: Escalation,
    now: datetime,
    kind: CredentialKind,
    credential: str,
    subject: str,
    role: str,
    expires_at: datetime,
) -> Revocation:
    return Revocation(
        revocation_id=escalation.new_id(),
        kind=kind,
        credential=credential,
        holder=_named(escalation, subject, role),
        role=role,
        revoked_at=now,
        expires_at=expires_at,
    )


def _event(escalation: Escalation, each: Revocation, reason: str) -> Event:
    data = CredentialRevokedData(
        kind=each.kind,
        credential_id=each.credential,
        holder=each.holder,
        role=each.role,
        issued_before=each.issued_before,
        reason=Committed(salt=new_salt(), value=reason),
    )
    head = envelope(each.revocation_id, each.credential or each.holder, escalation.clock.now())
    return CredentialRevoked(**head, data=data)


def _named(escalation: Escalation, subject: str, role: str) -> str:
    """As events name the holder: an officer and a device by pseudonym, as where they report."""
    return pseudonym(escalation.pseudonym_key, subject) if role in {"officer", "device"} else subject


def _officials(row: Credential) -> tuple[str, ...]:
    return (row.subject,) if row.role == "official" else ()
