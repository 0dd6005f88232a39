"""What a signature of an entry covers, and whose key it takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messaging import ESCALATION, INTAKE, Seals, stream_name
from shared.messaging.signing import HIGHEST
from shared.messaging.stream import StoredEntry, StreamState

SEALS = Seals({INTAKE: b"a", ESCALATION: b"b"})
STREAM = stream_name(INTAKE, 0)
places = st.tuples(
    st.sampled_from([STREAM, stream_name(INTAKE, 1), stream_name(ESCALATION, 0)]),
    st.integers(0, HIGHEST),
    st.binary(max_size=5),
)


@given(places, places)
def test_a_signature_is_of_one_stream_one_number_and_one_body(
    one: tuple[str, int, bytes], other: tuple[str, int, bytes]
) -> None:
    assert SEALS.is_signed(*other, SEALS.sign(*one)) == (one == other)


@pytest.mark.parametrize("mac", [b"", b"x" * 32])
def test_what_is_not_signed_is_not_ours(mac: bytes) -> None:
    assert not SEALS.is_signed(STREAM, 1, b"body", mac)
    assert not SEALS.is_signed(STREAM, None, b"body", SEALS.sign(STREAM, 1, b"body"))


def test_a_stream_whose_entries_were_handled_and_trimmed_is_ours() -> None:
    assert SEALS.is_ours(STREAM, StreamState("7-0", 7, None, {}))
    assert SEALS.is_ours(STREAM, StreamState("7-0", 7, StoredEntry(7, b"b", SEALS.sign(STREAM, 7, b"b")), {}))
    assert not SEALS.is_ours(STREAM, StreamState("7-0", 7, StoredEntry(7, b"b", b""), {}))
    assert not SEALS.is_ours(STREAM, StreamState(f"{HIGHEST + 1}-0", HIGHEST + 1, None, {}))
