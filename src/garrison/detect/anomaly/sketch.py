"""A keyed sketch of a text: near-duplicates have sketches that share bytes, and the text cannot be had back.

Eight minima of keyed hashes over all 8-byte windows of the text's ends (b-bit MinHash, Li and König 2010).
Without the key, which lives as long as a server runs, not even a guessed text can be recognised.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16
END_BYTES = 256  # looked at, at either end of a text: what is asked stands there, and long ones cost no more
WINDOW = 8
BYTES = 8  # of a sketch, which near-duplicates share
WHOLE = 2  # further ones, of the whole text: they tell a repetition from a near-duplicate


class Sketcher:
    """One key's sketches. About ten microseconds each."""

    __slots__ = ("_key", "_mask", "_odd")

    def __init__(self, key: bytes) -> None:
        self._key = key
        stream = hashlib.blake2b(b"sketch", key=key, digest_size=64).digest()
        mask = hashlib.blake2b(b"mask", key=key, digest_size=8).digest()
        self._odd = (np.frombuffer(stream, dtype="<u8") | np.uint64(1)).reshape(BYTES, 1)
        self._mask = np.uint64(int.from_bytes(mask, "little"))

    def sketch(self, text: str) -> str:
        """Twenty hexadecimal digits; the empty text for one of fewer than eight bytes."""
        if len(text) > 2 * END_BYTES:
            text = text[:END_BYTES] + text[-END_BYTES:]
        raw = text.encode("utf-8", "replace")
        count = len(raw) - WINDOW + 1
        if count < 1:
            return ""
        windows: NDArray[np.uint64] = np.ndarray((count,), dtype="<u8", buffer=raw, strides=(1,))
        least = ((windows ^ self._mask) * self._odd).min(axis=1)
        whole = hashlib.blake2b(raw, key=self._key, digest_size=WHOLE)
        near: bytes = ((least >> np.uint64(40)) & np.uint64(0xFF)).astype(np.uint8).tobytes()
        return near.hex() + whole.hexdigest()


def shared(one: bytes, others: NDArray[np.uint8]) -> int:
    """The most bytes that a sketch shares with one of others (rows)."""
    return int((others[:, :BYTES] == np.frombuffer(one, np.uint8, BYTES)).sum(axis=1).max())
