"""The Merkle tree of RFC 6962: hashing, appending in O(log n), and proofs with their verification.

Pure functions over bytes; it knows no storage. A *frontier* is what an append needs: the roots of the
complete subtrees of a tree, largest first, one per 1-bit of its size. Proofs ask for the root of a
complete subtree by `(level, index)`: level 0 are the leaf hashes, level k covers 2**k of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()  # RFC 6962 section 2.1: MTH({})
MAX_SIZE = 1 << 62  # a proof has at most 62 hashes; no real log comes near

Node = tuple[int, int, bytes]  # (level, index, hash) of a complete subtree
Subtree = Callable[[int, int], bytes]  # the stored root of the complete subtree (level, index)


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data), RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree of `size` leaves, kept as the roots of its complete subtrees, largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> tuple[Frontier, tuple[Node, ...]]:
        """The tree with one more leaf hash, and the subtrees of level 1 and up that it completed."""
        stack = list(self.hashes)
        completed: list[Node] = []
        node, index, level, remaining = leaf, self.size, 0, self.size
        while remaining & 1:
            node = node_hash(stack.pop(), node)
            remaining >>= 1
            index >>= 1
            level += 1
            completed.append((level, index, node))
        stack.append(node)
        return Frontier(self.size + 1, tuple(stack)), tuple(completed)

    def root(self) -> bytes:
        """The Merkle tree hash of all leaves (32 bytes)."""
        if not self.hashes:
            return EMPTY_ROOT
        node = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            node = node_hash(left, node)
        return node

    def as_bytes(self) -> bytes:
        return b"".join(self.hashes)

    @staticmethod
    def from_bytes(size: int, data: bytes) -> Frontier:
        """The inverse of `as_bytes`. Raises ValueError when the count of hashes does not fit the size."""
        if not 0 <= size < MAX_SIZE or len(data) != HASH_SIZE * size.bit_count():
            raise ValueError(f"a tree of {size} leaves does not have {len(data)} bytes of frontier")
        return Frontier(size, tuple(data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)))


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The Merkle tree hash of leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier, _ = frontier.append(leaf)
    return frontier.root()


def frontier_at(size: int, subtree: Subtree) -> Frontier:
    """The frontier of the first `size` leaves, read from stored subtrees."""
    hashes = []
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            hashes.append(subtree(level, start >> level))
            start += 1 << level
    return Frontier(size, tuple(hashes))


def _range_root(first: int, last: int, subtree: Subtree) -> bytes:
    """MTH(D[first:last]); `first` is aligned as the recursion of RFC 6962 section 2.1 makes it."""
    count = last - first
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return subtree(level, first >> level)
    split = first + _split(count)
    return node_hash(_range_root(first, split, subtree), _range_root(split, last, subtree))


def _split(count: int) -> int:
    """The largest power of two smaller than `count` (RFC 6962 section 2.1)."""
    return 1 << ((count - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, subtree: Subtree) -> tuple[bytes, ...]:
    """PATH(index, D[0:size]), RFC 6962 section 2.1.1. Raises ValueError unless 0 <= index < size."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    first, last = 0, size
    siblings = []
    while last - first > 1:
        split = first + _split(last - first)
        if index < split:
            siblings.append(_range_root(split, last, subtree))
            last = split
        else:
            siblings.append(_range_root(first, split, subtree))
            first = split
    return tuple(reversed(siblings))


def verify_inclusion(index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that `leaf` (a leaf hash) is number `index` of the tree. RFC 9162 2.1.3.2."""
    if not 0 <= index < size:
        return False
    position, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and node == root


def consistency_proof(old: int, size: int, subtree: Subtree) -> tuple[bytes, ...]:
    """PROOF(old, D[0:size]), RFC 6962 section 2.1.2. Raises ValueError unless 0 < old <= size."""
    if not 0 < old <= size:
        raise ValueError(f"no consistency proof from {old} to {size}")
    first, last, whole = 0, size, True
    tail: list[bytes] = []
    while first + old != last:
        split = first + _split(last - first)
        if first + old <= split:
            tail.append(_range_root(split, last, subtree))
            last = split
        else:
            tail.append(_range_root(first, split, subtree))
            old -= split - first
            first, whole = split, False
    head = () if whole else (_range_root(first, last, subtree),)
    return (*head, *reversed(tail))


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree of `old` leaves is a prefix of the tree of `size`. RFC 9162 2.1.4.2."""
    if not 0 < old <= size:
        return False
    if old == size:
        return not proof and old_root == root
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    position, last = old - 1, size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            before = node_hash(sibling, before)
            after = node_hash(sibling, after)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            after = node_hash(after, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and before == old_root and after == root
