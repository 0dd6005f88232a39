"""A commitment says nothing of the value, and holds it, its event and its field fast."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.commitment import Committed, commitment, new_salt
from tests.support import SALT

salts = st.binary(min_size=32, max_size=32).map(bytes.hex)
texts = st.text(max_size=40)


def test_a_commitment_is_the_hmac_that_an_auditor_can_compute() -> None:
    value = "Nghe tiếng nổ ở đầu phố"
    expected = hmac.new(
        bytes.fromhex(SALT), b"ledger/commit/v1\0event-1\0description\0" + value.encode(), hashlib.sha256
    ).hexdigest()
    assert commitment("event-1", "description", Committed(salt=SALT, value=value)) == expected


@given(salts, salts, texts, texts)
def test_another_salt_value_event_or_field_is_another_commitment(
    salt: str, other_salt: str, value: str, other: str
) -> None:
    made = commitment("event-1", "description", Committed(salt=salt, value=value))
    assert (made == commitment("event-1", "description", Committed(salt=other_salt, value=value))) == (
        salt == other_salt
    )
    assert (made == commitment("event-1", "description", Committed(salt=salt, value=other))) == (value == other)
    assert made != commitment("event-2", "description", Committed(salt=salt, value=value))
    assert made != commitment("event-1", "location", Committed(salt=salt, value=value))


def test_each_salt_is_32_bytes_of_its_own() -> None:
    made = [new_salt() for _ in range(50)]
    assert len(set(made)) == 50
    assert {len(bytes.fromhex(salt)) for salt in made} == {32}


@pytest.mark.parametrize("salt", ["", "5a", "5A" * 32, "5a" * 33, "zz" * 32, "5a" * 32 + "\n"], ids=repr)
def test_a_salt_is_32_bytes_in_small_hex(salt: str) -> None:
    with pytest.raises(ValidationError):
        Committed(salt=salt, value="x")
