"""Salted commitments: how free text travels with an event, and what the ledger's body keeps of it.

A commitment is the HMAC-SHA256 of event, field and value under a random 256-bit salt. While value and salt are there,
it proves them. Once they are deleted, it tells nothing of the value.
"""

import hashlib
import hmac
import secrets

from pydantic import BaseModel, ConfigDict, Field


class Committed(BaseModel):
    """A personal value with the salt of its commitment: stays deletable wherever it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str = Field(pattern=r"^[0-9a-f]{64}$")
    value: str


def new_salt() -> str:
    return secrets.token_hex(32)


def commitment(event_id: str, field: str, committed: Committed) -> str:
    """64 hex digits. `field` is the dotted path of the value inside the event's data."""
    message = b"\0".join((b"ledger/commit/v1", event_id.encode(), field.encode(), committed.value.encode()))
    return hmac.new(bytes.fromhex(committed.salt), message, hashlib.sha256).hexdigest()
