"""A hash tree over one large file, so that all cores can verify it; SHA-256 itself has to go byte by byte.

The file is cut into chunks of 16 MiB. As in RFC 6962, section 2.1, a leaf is SHA-256(0x00 || chunk), an inner
node SHA-256(0x01 || left || right), the left half the largest power of two below the count; the prefixes keep
a leaf from passing for a node, and either from passing for a file's plain digest. The release statement lists
the root beside the plain digest and the size, under one signature: whoever trusts that signature may check
either. What the root cannot do is stand in for the plain digest elsewhere: bundles of other tools, objects in
the store and the manifest's digest are made of plain ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

CHUNK_BYTES = 16 << 20
TREE_FROM_BYTES = 64 << 20  # four chunks; below this one core is done before others have started
SHARE_OF_TOTAL = 4  # a model of five equal shards keeps four cores busy as it is
PREFIX = "sha256-16m:"
_LEAF, _NODE = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class ChunkTree:
    """What a verified statement says of one file: whoever finds `root` over `size` bytes found `digest`."""

    size: int
    root: str
    digest: str


def is_worth_it(size: int, total: int) -> bool:
    """Whether a signer records a tree: hashing twice pays where one file would leave cores idle."""
    return size >= TREE_FROM_BYTES and size * SHARE_OF_TOTAL > total


def is_root(text: str) -> bool:
    return text.startswith(PREFIX) and len(text) == len(PREFIX) + 64 and set(text[len(PREFIX) :]) <= _HEX


def count(size: int) -> int:
    return -(-size // CHUNK_BYTES)


def leaf() -> hashlib._Hash:
    """A hash to be fed one chunk."""
    return hashlib.sha256(_LEAF)


def root(leaves: Sequence[bytes]) -> str:
    """The root over the digests of all chunks, of which there is at least one."""
    return PREFIX + _subtree(leaves).hex()


class Growing:
    """The tree of a file whose bytes come in order."""

    def __init__(self) -> None:
        self._leaves: list[bytes] = []
        self._leaf = leaf()
        self._filled = 0

    def update(self, data: memoryview) -> None:
        while len(data):
            part = data[: CHUNK_BYTES - self._filled]
            self._leaf.update(part)
            self._filled += len(part)
            data = data[len(part) :]
            if self._filled == CHUNK_BYTES:
                self._end_chunk()

    def root(self) -> str:
        if self._filled:
            self._end_chunk()
        return root(self._leaves)

    def _end_chunk(self) -> None:
        self._leaves.append(self._leaf.digest())
        self._leaf, self._filled = leaf(), 0


def _subtree(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(_NODE + _subtree(leaves[:half]) + _subtree(leaves[half:])).digest()


_HEX = frozenset("0123456789abcdef")
