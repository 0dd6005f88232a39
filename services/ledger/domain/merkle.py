"""The Merkle tree of RFC 9162 (section 2.1) over SHA-256: hashes, roots, proofs and their verification.

Only completed perfect subtrees are stored, each under its coordinate `(level, position)`: the node over the
leaves `position << level` up to, not including, `(position + 1) << level`. Written once, they never change,
whatever is appended later. A proof is planned first (`inclusion_plan`, `consistency_plan`), so that its nodes
can be fetched in one query, and then assembled (`proof`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Coordinate: TypeAlias = tuple[int, int]
"""Level (0: leaves) and position of a perfect subtree."""
Node: TypeAlias = tuple[int, int, bytes]
"""Level, position, hash."""
Plan: TypeAlias = list[list[Coordinate]]
"""For each hash of a proof the perfect subtrees, left to right, that it is folded from."""

HASH_BYTES = 32
MAX_PROOF = 63
"""Hashes in the longest proof that is looked at: sizes are below 2^63."""
EMPTY_ROOT = hashlib.sha256(b"").digest()


class ProofError(Exception):
    """A proof, or a request for one, does not hold; the text says which part."""


def leaf_hash(body: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: all that is needed to append to it and to know its root."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """`hashes` are those of `subtrees(0, size)`, left to right. Raises ProofError."""
        places = subtrees(0, size)
        if len(places) != len(hashes):
            raise ProofError(f"frontier of size {size} needs {len(places)} hashes, got {len(hashes)}")
        _check_hashes("frontier", hashes)
        self.size = size
        self._pending = {level: value for (level, _), value in zip(places, hashes, strict=True)}

    def extend(self, leaves: Sequence[bytes]) -> list[Node]:
        """Append leaf hashes; returns the subtrees above level 0 that this completed. Raises ProofError."""
        _check_hashes("leaf", leaves)
        completed: list[Node] = []
        row, start, level = list(leaves), self.size, 0
        while row:
            if start & 1:
                row.insert(0, self._pending.pop(level))
                start -= 1
            parents = [
                hashlib.sha256(b"\x01" + left + right).digest()
                for left, right in zip(row[::2], row[1::2], strict=False)
            ]
            if len(row) & 1:
                self._pending[level] = row[-1]
            level, start = level + 1, start >> 1
            completed.extend((level, start + offset, value) for offset, value in enumerate(parents))
            row = parents
        self.size += len(leaves)
        return completed

    def root(self) -> bytes:
        return _fold([self._pending[level] for level in sorted(self._pending, reverse=True)])


def root(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree over these leaf hashes. Raises ProofError."""
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def subtrees(begin: int, end: int) -> list[Coordinate]:
    """The perfect subtrees that make up the subtree over leaves [begin, end), left to right, largest first.

    `begin` must be a multiple of a power of two not below `end - begin`, as every node of the tree's is.
    """
    found: list[Coordinate] = []
    for level in reversed(range((end - begin).bit_length())):
        if (end - begin) >> level & 1:
            found.append((level, begin >> level))
            begin += 1 << level
    return found


def inclusion_plan(index: int, size: int) -> Plan:
    """What proves leaf `index` in the tree of `size` (RFC 9162, 2.1.3.1). Raises ProofError."""
    if not 0 <= index < size:
        raise ProofError(f"index {index} is not in a tree of size {size}: ask for a larger size")
    begin, end, path = 0, size, Plan()
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(subtrees(middle, end))
            end = middle
        else:
            path.append(subtrees(begin, middle))
            begin = middle
    return path[::-1]


def consistency_plan(first: int, second: int) -> Plan:
    """What proves the tree of `first` a prefix of that of `second` (RFC 9162, 2.1.4.1). Raises ProofError."""
    if not 0 <= first <= second:
        raise ProofError(f"sizes {first} and {second}: the first must be between 0 and the second")
    if first in (0, second):
        return Plan()
    begin, end, path = 0, second, Plan()
    while end != first:
        middle = begin + _split(end - begin)
        if first <= middle:
            path.append(subtrees(middle, end))
            end = middle
        else:
            path.append(subtrees(begin, middle))
            begin = middle
    if begin:
        path.append(subtrees(begin, end))
    return path[::-1]


def proof(plan: Plan, nodes: Mapping[Coordinate, bytes]) -> list[bytes]:
    """The hashes of a planned proof. Raises ProofError where a node is missing."""
    try:
        return [_fold([nodes[place] for place in places]) for places in plan]
    except KeyError as missing:
        raise ProofError(f"the tree has no node at (level, position) {missing}") from missing


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """RFC 9162, 2.1.3.2. Raises ProofError unless `leaf` is at `index` of the tree of `size` with `root`."""
    _check_hashes("leaf", [leaf])
    _check_hashes("root", [root])
    _check_path(path)
    if not 0 <= index < size:
        raise ProofError(f"index {index} is not in a tree of size {size}")
    node, last, value = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofError("inclusion proof is too long")
        if node & 1 or node == last:
            value = node_hash(sibling, value)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError("inclusion proof is too short")
    if value != root:
        raise ProofError(f"inclusion proof of index {index} does not lead to the root of size {size}")


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> None:
    """RFC 9162, 2.1.4.2. Raises ProofError unless the tree of `first` is a prefix of that of `second`."""
    _check_hashes("first root", [first_root])
    _check_hashes("second root", [second_root])
    _check_path(path)
    if not 0 <= first <= second:
        raise ProofError(f"sizes {first} and {second}: the first must be between 0 and the second")
    if first == 0 and first_root != EMPTY_ROOT:
        raise ProofError("the root of size 0 is not that of the empty tree")
    if first in (0, second):
        if path:
            raise ProofError("consistency proof is too long")
        if first and first_root != second_root:
            raise ProofError(f"two roots of the same size {first}")
        return
    _walk_consistency(first, second, first_root, second_root, path)


def _walk_consistency(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> None:
    is_perfect = first & (first - 1) == 0
    hashes = [first_root, *path] if is_perfect else list(path)
    if not path:
        raise ProofError("consistency proof is empty")
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = hashes[0]
    for value in hashes[1:]:
        if last == 0:
            raise ProofError("consistency proof is too long")
        if node & 1 or node == last:
            old, new = node_hash(value, old), node_hash(value, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, value)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError("consistency proof is too short")
    if old != first_root:
        raise ProofError(f"consistency proof does not lead to the root of size {first}")
    if new != second_root:
        raise ProofError(f"consistency proof does not lead to the root of size {second}")


def _split(size: int) -> int:
    """The largest power of two below `size` (> 1)."""
    return 1 << (size - 1).bit_length() - 1


def _fold(hashes: Sequence[bytes]) -> bytes:
    """The root over perfect subtrees, given left to right with falling levels."""
    if not hashes:
        return EMPTY_ROOT
    value = hashes[-1]
    for left in reversed(hashes[:-1]):
        value = node_hash(left, value)
    return value


def _check_hashes(what: str, hashes: Sequence[bytes]) -> None:
    """RFC 9162's algorithms would take an empty leaf for an empty root: lengths are ours to check."""
    for value in hashes:
        if len(value) != HASH_BYTES:
            raise ProofError(f"{what} hash has {len(value)} bytes, not {HASH_BYTES}")


def _check_path(path: Sequence[bytes]) -> None:
    if len(path) > MAX_PROOF:
        raise ProofError(f"proof of {len(path)} hashes: at most {MAX_PROOF} are possible")
    _check_hashes("proof", path)
