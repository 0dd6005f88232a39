"""Routes on credentials, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from services.escalation.api.common import Wired
from services.escalation.api.models.credentials import (
    CredentialPage,
    NewRevocation,
    RevocationAnswer,
    RevokedItem,
    credential_item,
)
from services.escalation.application import credentials
from services.escalation.application.credentials import SaidByToken
from shared.http import cursor as cursors
from shared.http.body import bounded
from shared.http.cursor import Limit
from shared.http.guard import Caller, guarded
from shared.http.identity import TokenVerifier
from shared.http.openapi import problems
from shared.http.problem import FieldError, Problem, invalid

MAX_BYTES = 20_000
router = APIRouter(prefix="/credentials", route_class=bounded(MAX_BYTES))


@router.get("", dependencies=[guarded])
async def list_credentials(
    escalation: Wired,
    subject: Annotated[str | None, Query(max_length=200, description="of this person or device")] = None,
    ended: Annotated[bool, Query(description="those too that have expired or were revoked")] = False,
    limit: Limit = 50,
    cursor: str | None = None,
) -> CredentialPage:
    """Credentials that were issued and recorded, the newest first; those that are accepted, unless it is said."""
    after = cursors.decode_instant(cursor) if cursor else None
    found = await credentials.listed(escalation, subject=subject, all_of_them=ended, after=after, limit=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    following = cursors.encode([last.issued_at.isoformat(), last.credential_id]) if last else None
    return CredentialPage(items=[credential_item(each) for each in found[:limit]], next=following)


@router.post("/revocations", responses=problems({404: "no such credential or notice is known"}))
async def post_revocation(request: Request, escalation: Wired, caller: Caller, body: NewRevocation) -> RevocationAnswer:
    """From now on it is refused, in every service within a second. A second time it changes nothing."""
    done = await credentials.revoke(
        escalation.by(caller),
        body.reason,
        ids=[body.credential] if body.credential else (),
        subject=body.subject,
        notice=body.notice,
        tokens=_said_by(request, body.token) if body.token else (),
    )
    items = [RevokedItem(kind=r.kind, credential_id=r.credential, expires_at=r.expires_at) for r in done]
    return RevocationAnswer(revoked=items)


def _said_by(request: Request, token: str) -> list[SaidByToken]:
    """What a token of ours says. Raises Problem 422 for any other, and for one without an id."""
    verifier: TokenVerifier = request.app.state.verifier
    try:
        return [credentials.said_by(verifier, token)]
    except Problem as problem:
        raise invalid([FieldError("#/token", problem.detail)]) from problem
