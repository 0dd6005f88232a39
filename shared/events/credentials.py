"""Events of credentials: who may act as whom, and until when.

An officer and a device are named by pseudonym, as everywhere; a credential by its id, never by its text.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.commitment import Committed
from shared.events.common import Data, Envelope

CredentialKind = Literal["token", "session", "link", "key"]


class CredentialIssuedData(Data):
    credential_id: str
    kind: CredentialKind
    holder: str
    """Who may act with it."""
    role: str
    ward: str | None = None
    post: str | None = None
    expires_at: AwareDatetime


class CredentialIssued(Envelope):
    type: Literal["vn.trucban.credential.issued.v1"] = "vn.trucban.credential.issued.v1"
    data: CredentialIssuedData


class CredentialRevokedData(Data):
    """From now on it is refused: one credential, or what a person has without an id, issued until `issued_before`."""

    kind: CredentialKind
    credential_id: str | None = None
    holder: str
    role: str
    issued_before: AwareDatetime | None = None
    reason: Committed


class CredentialRevoked(Envelope):
    type: Literal["vn.trucban.credential.revoked.v1"] = "vn.trucban.credential.revoked.v1"
    data: CredentialRevokedData


class CredentialRefusedData(Data):
    """A revoked credential was used, so often in one minute."""

    kind: CredentialKind
    credential_id: str | None = None
    holder: str
    role: str
    service: str
    minute: AwareDatetime
    count: Annotated[int, Field(ge=1)]


class CredentialRefused(Envelope):
    type: Literal["vn.trucban.credential.refused.v1"] = "vn.trucban.credential.refused.v1"
    data: CredentialRefusedData
