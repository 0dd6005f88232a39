"""The Merkle tree against published vectors and against RFC 9162's own recursive definition."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain import merkle
from services.ledger.domain.merkle import Coordinate, Frontier, ProofError

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "merkle_vectors.json").read_text())
INPUTS = [bytes.fromhex(value) for value in VECTORS["leaf_inputs"]]
LEAVES = [merkle.leaf_hash(value) for value in INPUTS]
ROOTS = [bytes.fromhex(value) for value in VECTORS["root_hashes"]]
SOME_HASH = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")


def definition_of_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, as it is written there."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = definition_of_root(leaves[:split]), definition_of_root(leaves[split:])
    return sha256(b"\x01" + left + right).digest()


def leaves_of(size: int) -> list[bytes]:
    return [merkle.leaf_hash(b"entry %d" % index) for index in range(size)]


def stored(leaves: list[bytes]) -> dict[Coordinate, bytes]:
    """What the store would hold: the leaves and every completed subtree."""
    nodes = {(level, place): value for level, place, value in Frontier().extend(leaves)}
    return nodes | {(0, index): leaf for index, leaf in enumerate(leaves)}


def included(index: int, size: int, leaf: bytes, path: list[bytes], root: bytes) -> bool:
    try:
        merkle.verify_inclusion(index, size, leaf, path, root)
    except ProofError:
        return False
    return True


def consistent(first: int, second: int, roots: tuple[bytes, bytes], path: list[bytes]) -> bool:
    try:
        merkle.verify_consistency(first, second, *roots, path)
    except ProofError:
        return False
    return True


def hashes(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


def corrupted(path: list[bytes], garbage: list[bytes]) -> Iterator[list[bytes]]:
    """Proofs that must not hold where `path` does: lengthened, shortened, one bit flipped."""
    for value in [b"", *garbage]:
        yield [*path, value]
        yield [value, *path]
    for place, value in enumerate(path):
        yield [*path[:place], bytes([value[0] ^ 16]) + value[1:], *path[place + 1 :]]
    if path:
        yield path[:-1]
        yield [path[0], *path]
        yield [path[0], SOME_HASH, *path[1:]]


def test_roots_of_certificate_transparency() -> None:
    """Every size of the eight golden inputs has the published root, appended at once or one by one."""
    frontier = Frontier()
    assert frontier.root() == ROOTS[0]
    for size in range(1, 9):
        frontier.extend(LEAVES[size - 1 : size])
        assert frontier.root() == ROOTS[size] == merkle.root(LEAVES[:size])


def test_nodes_of_certificate_transparency() -> None:
    """Appending the golden inputs completes exactly the published subtrees."""
    expected = {
        (level, place): bytes.fromhex(value)
        for level, row in enumerate(VECTORS["node_hashes"])
        for place, value in enumerate(row)
    }
    assert stored(LEAVES) == expected


@pytest.mark.parametrize("vector", VECTORS["inclusion"])
def test_published_inclusion_proofs(vector: dict[str, Any]) -> None:
    """The published proof holds, ours is the same, and each corruption of it is refused."""
    index, size, path = vector["index"], vector["size"], hashes(vector["proof"])
    leaf, root = LEAVES[index], ROOTS[size]
    assert merkle.proof(merkle.inclusion_plan(index, size), stored(LEAVES[:size])) == path
    assert included(index, size, leaf, path, root)
    for wrong_index in (index - 1, index + 1, index ^ 2):
        assert not included(wrong_index, size, leaf, path, root)
    for wrong_size in (size * 2, size // 2):
        assert not included(index, wrong_size, leaf, path, root)
    for wrong_root in (ROOTS[0], SOME_HASH, b"", root[:-1]):
        assert not included(index, size, leaf, path, wrong_root)
    for wrong_leaf in (b"WrongLeaf", b"", SOME_HASH):
        assert not included(index, size, wrong_leaf, path, root)
    for wrong_path in corrupted(path, [root, SOME_HASH]):
        assert not included(index, size, leaf, wrong_path, root)


@pytest.mark.parametrize("vector", VECTORS["consistency"])
def test_published_consistency_proofs(vector: dict[str, Any]) -> None:
    """The published proof holds, ours is the same, and each corruption of it is refused."""
    first, second, path = vector["first"], vector["second"], hashes(vector["proof"])
    roots = ROOTS[first], ROOTS[second]
    assert merkle.proof(merkle.consistency_plan(first, second), stored(LEAVES[:second])) == path
    assert consistent(first, second, roots, path)
    for sizes in ((first - 1, second), (first + 1, second), (first ^ 2, second), (first, second // 2)):
        assert not consistent(*sizes, roots, path)
    if first != second:
        assert not consistent(first, second * 2, roots, path)
        assert not consistent(first, second, roots[::-1], path)
        assert not consistent(first, second, roots, [])
    assert not consistent(first, second, (b"WrongRoot", roots[1]), path)
    assert not consistent(first, second, (roots[0], b"WrongRoot"), path)
    for wrong_path in corrupted(path, [*roots]):
        assert not consistent(first, second, roots, wrong_path)


@pytest.mark.parametrize("leaf", [b"", LEAVES[0]])
@pytest.mark.parametrize("root", [b"", LEAVES[0]])
def test_single_entry_with_hashes_of_no_length(leaf: bytes, root: bytes) -> None:
    """An empty leaf hash is not the leaf of an empty root hash, though RFC 9162's algorithm would say so."""
    assert included(0, 1, leaf, [], root) == (leaf == root == LEAVES[0])


@pytest.mark.parametrize(
    ("first", "second", "roots", "path", "expected"),
    [
        (0, 0, (ROOTS[0], ROOTS[0]), [], True),
        (0, 1, (ROOTS[0], SOME_HASH), [], True),
        (1, 1, (SOME_HASH, SOME_HASH), [], True),
        (0, 1, (SOME_HASH, ROOTS[1]), [], False),
        (1, 1, (SOME_HASH, ROOTS[1]), [], False),
        (1, 0, (SOME_HASH, ROOTS[0]), [], False),
        (1, 2, (ROOTS[1], ROOTS[2]), [], False),
        (0, 1, (ROOTS[0], ROOTS[1]), [ROOTS[0]], False),
        (1, 1, (ROOTS[1], ROOTS[1]), [ROOTS[1]], False),
    ],
)
def test_consistency_of_empty_and_equal_trees(
    first: int, second: int, roots: tuple[bytes, bytes], path: list[bytes], expected: bool
) -> None:
    """An empty tree is a prefix of every tree, a tree of itself, and neither takes a proof."""
    assert consistent(first, second, roots, path) == expected


@given(st.lists(st.integers(0, 40), max_size=8))
def test_appending_in_any_batches_gives_the_defined_root(batches: list[int]) -> None:
    """Root and completed subtrees depend on the leaves, not on how they were batched; a restart changes nothing."""
    leaves = leaves_of(sum(batches))
    frontier, nodes = Frontier(), dict[Coordinate, bytes]()
    for batch in batches:
        start = frontier.size
        nodes |= {(level, place): h for level, place, h in frontier.extend(leaves[start : start + batch])}
        known = nodes | {(0, index): leaf for index, leaf in enumerate(leaves)}
        frontier = Frontier(frontier.size, [known[at] for at in merkle.subtrees(0, frontier.size)])
    assert frontier.root() == definition_of_root(leaves)
    assert nodes == {at: value for at, value in stored(leaves).items() if at[0]}


@given(st.data())
def test_inclusion_proofs_hold_and_no_flipped_bit_does(data: st.DataObject) -> None:
    """The proof of any entry at any size verifies; a flip of any one bit of leaf, path or root is refused."""
    size = data.draw(st.integers(1, 300))
    index = data.draw(st.integers(0, size - 1))
    leaves = leaves_of(size)
    root = definition_of_root(leaves)
    path = merkle.proof(merkle.inclusion_plan(index, size), stored(leaves))
    assert included(index, size, leaves[index], path, root)
    parts = [leaves[index], root, *path]
    for flipped in each_with_one_bit_flipped(parts, data.draw(st.integers(0, 255))):
        assert not included(index, size, flipped[0], flipped[2:], flipped[1])


@given(st.data())
def test_consistency_proofs_hold_and_no_flipped_bit_does(data: st.DataObject) -> None:
    """Any earlier size is a provable prefix; a flip of any one bit of roots or path is refused."""
    second = data.draw(st.integers(1, 300))
    first = data.draw(st.integers(1, second))
    leaves = leaves_of(second)
    roots = definition_of_root(leaves[:first]), definition_of_root(leaves)
    path = merkle.proof(merkle.consistency_plan(first, second), stored(leaves))
    assert consistent(first, second, roots, path)
    for flipped in each_with_one_bit_flipped([*roots, *path], data.draw(st.integers(0, 255))):
        assert not consistent(first, second, (flipped[0], flipped[1]), flipped[2:])


def each_with_one_bit_flipped(parts: list[bytes], bit: int) -> Iterator[list[bytes]]:
    for place, value in enumerate(parts):
        changed = bytearray(value)
        changed[bit // 8] ^= 1 << bit % 8
        yield [*parts[:place], bytes(changed), *parts[place + 1 :]]


def test_every_flipped_bit_of_a_proof_is_refused() -> None:
    """All 256 bits of each hash, for every entry of a tree of seven."""
    leaves = leaves_of(7)
    root, nodes = definition_of_root(leaves), stored(leaves)
    for index in range(7):
        path = merkle.proof(merkle.inclusion_plan(index, 7), nodes)
        for bit in range(256):
            for flipped in each_with_one_bit_flipped([leaves[index], root, *path], bit):
                assert not included(index, 7, flipped[0], flipped[2:], flipped[1])


def test_proof_longer_than_any_tree_is_not_looked_at() -> None:
    """64 hashes would belong to a tree of more than 2^63 entries."""
    with pytest.raises(ProofError, match="at most 63"):
        merkle.verify_inclusion(0, 2**64, SOME_HASH, [SOME_HASH] * 64, SOME_HASH)


def test_request_outside_the_tree() -> None:
    """A proof that cannot exist is refused with the sizes in the text."""
    with pytest.raises(ProofError, match="index 3 is not in a tree of size 3"):
        merkle.inclusion_plan(3, 3)
    with pytest.raises(ProofError, match="sizes 4 and 3"):
        merkle.consistency_plan(4, 3)
    with pytest.raises(ProofError, match=r"no node at \(level, position\) \(1, 0\)"):
        merkle.proof(merkle.inclusion_plan(2, 3), {})


def test_frontier_refuses_what_is_no_hash() -> None:
    """A stored hash of another length is noticed when the log is opened, not at the next audit."""
    with pytest.raises(ProofError, match="31 bytes"):
        Frontier(1, [bytes(31)])
    with pytest.raises(ProofError, match="needs 2 hashes"):
        Frontier(3, [bytes(32)])
    with pytest.raises(ProofError, match="leaf hash has 0 bytes"):
        Frontier().extend([b""])
