"""A text as hashed n-grams: 3 to 5 bytes, and 1 to 3 words. What the classifier sees, in training and at work.

Everything is arithmetic on unsigned 32-bit arrays, so that a kilobyte costs a tenth of a millisecond and
the same text gives the same features on every machine. Hashing follows Weinberger et al. (2009), without
signs: each bucket is present or absent, and the vector has length one.
"""

from __future__ import annotations

import re
import zlib

import numpy as np
from numpy.typing import NDArray

BITS = 18  # 262,144 buckets: 512 kB a head in half precision
MASK = np.uint32((1 << BITS) - 1)
BYTE_LENGTHS = (3, 4, 5)
WORD_LENGTHS = (1, 2, 3)
OVERLAP = 4  # a window begins 3/4 of its size after the one before: a quarter is read twice

_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[^\W_]+|[<>\[\]{}#|=*]+")
_FNV = np.uint32(0x01000193)
_MIX = np.uint32(0x85EBCA77)
_WORD_MIX = np.uint32(0xC2B2AE3D)
_SHIFT_13, _SHIFT_15, _SHIFT_16 = np.uint32(13), np.uint32(15), np.uint32(16)
_RADIX = np.uint32(31)

Buckets = NDArray[np.uint32]


def windows(text: str, size: int) -> list[tuple[int, int]]:
    """Half-open stretches of `size` characters that cover a text; one for a short or empty text."""
    if len(text) <= size:
        return [(0, len(text))]
    stride = size - size // OVERLAP
    return [(start, min(start + size, len(text))) for start in range(0, len(text) - size + stride, stride)]


def buckets(text: str) -> Buckets:
    """The buckets that a text falls into, each once, in ascending order. Give it the normalised text."""
    lowered = f" {_SPACE.sub(' ', text.lower()).strip()} "
    found = _of_bytes(lowered) + _of_words(lowered)
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint32)


def _of_bytes(text: str) -> list[Buckets]:
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.uint32)
    size = len(data)
    found: list[Buckets] = []
    for length in BYTE_LENGTHS:
        if size < length:
            break
        hashed = np.zeros(size - length + 1, np.uint32)
        for place in range(length):
            hashed *= _RADIX
            hashed += data[place : size - length + 1 + place]
            hashed *= _FNV
        found.append(_finished(hashed, _MIX + np.uint32(2 * length), _SHIFT_15, _SHIFT_13))
    return found


def _of_words(text: str) -> list[Buckets]:
    words = np.array([zlib.crc32(word.encode("utf-8", "replace")) for word in _WORD.findall(text)], np.uint32)
    found: list[Buckets] = []
    for length in WORD_LENGTHS:
        count = len(words) - length + 1
        if count <= 0:
            break
        hashed = np.full(count, length * 0x9E3779B1 & 0xFFFFFFFF, np.uint32)
        for place in range(length):
            hashed ^= words[place : count + place]
            hashed *= _FNV
            hashed ^= hashed >> _SHIFT_15
        found.append(_finished(hashed, _WORD_MIX, _SHIFT_16, _SHIFT_16))
    return found


def _finished(hashed: Buckets, factor: np.uint32, first: np.uint32, second: np.uint32) -> Buckets:
    hashed ^= hashed >> first
    hashed *= factor
    hashed ^= hashed >> second
    return hashed & MASK
