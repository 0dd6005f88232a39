"""Issuing, listing and revoking credentials beside a running system, or while it is stopped, and replacing the key."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from services.cli.errors import CommandError
from services.cli.infrastructure import existing_system
from services.cli.keys import deal_keys
from services.escalation.app import connect_escalation
from services.escalation.application import credentials
from services.escalation.application.credentials import LONGEST, Credential, SaidByToken
from services.escalation.application.escalation import Escalation
from shared.clock import Clock
from shared.credentials.revocation import Revocation
from shared.database import PATIENT
from shared.events import Who
from shared.http.identity import KEY, Principal, issuer, verifier
from shared.http.problem import Problem
from shared.keys import forget_retired, retire
from shared.messaging import NOT_MIGRATED, sqlstate_of
from shared.settings import Settings


@asynccontextmanager
async def _escalation(settings: Settings) -> AsyncGenerator[Escalation]:
    """Its core on the system's database. Raises CommandError where there is none, or one of an older version."""
    async with existing_system(settings) as ready:
        escalation = connect_escalation(ready, Clock(ready.clock), limits=PATIENT)
        try:
            yield escalation
        except Problem as problem:
            raise CommandError(problem.detail) from problem
        except Exception as error:
            if sqlstate_of(error) not in NOT_MIGRATED:
                raise
            raise CommandError(
                "the database is not of this version: run trucban migrate, or start the system"
            ) from error
        finally:
            await escalation.database.dispose()


async def issue_token(settings: Settings, principal: Principal, days: float, who: Who) -> str:
    """A token, once its issue is recorded. Raises CommandError where there is no database to record it in."""
    issued = issuer(settings.keys_dir).sign(principal, days)
    async with _escalation(settings) as escalation:
        await credentials.record_token(escalation.by(who), issued, principal)
    return issued.text


async def list_credentials(settings: Settings, subject: str | None, *, ended: bool, limit: int) -> list[Credential]:
    async with _escalation(settings) as escalation:
        return await credentials.listed(escalation, subject=subject, all_of_them=ended, limit=limit)


async def revoke(
    settings: Settings,
    named: Sequence[str],
    who: Who,
    reason: str,
    *,
    subject: str | None = None,
    notice: str | None = None,
) -> list[Revocation]:
    """`named`: ids of credentials, or texts of tokens. Raises CommandError for one that is not known."""
    texts = [each for each in named if each.count(".") == 2]
    try:
        tokens = _said_by(settings, texts)
    except Problem as problem:
        raise CommandError(problem.detail) from problem
    async with _escalation(settings) as escalation:
        return await credentials.revoke(
            escalation.by(who),
            reason,
            ids=[each for each in named if each not in texts],
            subject=subject,
            notice=notice,
            tokens=tokens,
        )


def _said_by(settings: Settings, texts: Sequence[str]) -> list[SaidByToken]:
    if not texts:
        return []
    known = verifier(settings.keys_dir)
    return [credentials.said_by(known, text) for text in texts]


def rotate_key(settings: Settings, *, end_old: bool) -> tuple[str, str]:
    """Have another key sign from now on. Returns the ids of the old and of the new one.

    What the old one signed is accepted until it expires; with `end_old` no more, which every running service notices
    within a second.
    """
    old = issuer(settings.keys_dir).key_id
    retire(settings.keys_dir, KEY, old, datetime.now(UTC) + LONGEST)
    if end_old:
        forget_retired(settings.keys_dir, KEY)
    deal_keys(settings.keys_dir)
    return old, issuer(settings.keys_dir).key_id
