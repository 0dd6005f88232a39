"""Credentials as administrators see them, and what they ask for."""

from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from services.escalation.store.credentials import Credential
from shared import inputs
from shared.events import CredentialKind
from shared.http.fields import Answer, Page

Name = Annotated[inputs.Id, Field(min_length=1, max_length=200)]


class CredentialItem(Answer):
    """A credential, but for its text, which nobody keeps."""

    credential_id: str
    kind: CredentialKind
    subject: str
    role: str
    ward: str | None
    post: str | None
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    issued_by: str
    revoked_at: AwareDatetime | None
    revoked_by: str | None


CredentialPage = Page[CredentialItem]


class NewRevocation(BaseModel):
    """What is to be revoked: exactly one of `credential`, `token`, `notice` and `subject`."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, use_attribute_docstrings=True)

    credential: Name | None = None
    """The id of one that is recorded."""
    token: Annotated[str, Field(max_length=4_000)] | None = None
    """The text of a token."""
    notice: Name | None = None
    """The notice whose link is to work no more."""
    subject: Name | None = None
    """Whose credentials are all to end: what is recorded, and tokens without an id and links issued until now."""
    reason: Annotated[inputs.Text, Field(min_length=1, max_length=2_000)]

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if sum(given is not None for given in (self.credential, self.token, self.notice, self.subject)) != 1:
            raise ValueError("name exactly one of credential, token, notice and subject")
        return self


class RevokedItem(Answer):
    kind: CredentialKind
    credential_id: str | None
    """Null: all of the subject that have no id."""
    expires_at: AwareDatetime


class RevocationAnswer(Answer):
    """What was not revoked before."""

    revoked: list[RevokedItem]


def credential_item(found: Credential) -> CredentialItem:
    return CredentialItem(**{name: getattr(found, name) for name in CredentialItem.model_fields})
