"""Salted commitments: the form in which free text travels with an event, and what the ledger's body keeps of it.

A commitment is an HMAC-SHA256 (RFC 2104) under a random 256-bit salt. While value and salt exist, it binds event, field
and value. Once they are deleted, it says nothing about them.
"""

import hashlib
import hmac
import secrets

from pydantic import BaseModel, ConfigDict, Field


class Committed(BaseModel):
    """A personal value with the salt of its commitment. It can be deleted wherever it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str = Field(pattern=r"^[0-9a-f]{64}$")
    value: str


def new_salt() -> str:
    """Return 256 random bits as 64 hex digits."""
    return secrets.token_hex(32)


def commitment(event_id: str, field: str, committed: Committed) -> str:
    """Return the commitment to a value, as 64 hex digits.

    `field`: the dotted path of the value inside the data of the event.
    """
    message = b"\0".join((b"ledger/commit/v1", event_id.encode(), field.encode(), committed.value.encode()))
    return hmac.new(bytes.fromhex(committed.salt), message, hashlib.sha256).hexdigest()
