"""The checksum of HDF5 metadata: Bob Jenkins' lookup3, as the format specification (appendix) names it."""

from __future__ import annotations

_MASK = 0xFFFFFFFF


def _turned(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & _MASK


def lookup3(data: bytes) -> int:
    """The 32-bit hash of `data`, begun with 0."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    if not data:
        return c
    whole = (len(data) - 1) // 12 * 12
    for at in range(0, whole, 12):
        a = (a + int.from_bytes(data[at : at + 4], "little")) & _MASK
        b = (b + int.from_bytes(data[at + 4 : at + 8], "little")) & _MASK
        c = (c + int.from_bytes(data[at + 8 : at + 12], "little")) & _MASK
        a, b, c = _mixed(a, b, c)
    rest = data[whole:].ljust(12, b"\0")
    a = (a + int.from_bytes(rest[:4], "little")) & _MASK
    b = (b + int.from_bytes(rest[4:8], "little")) & _MASK
    c = (c + int.from_bytes(rest[8:], "little")) & _MASK
    c = ((c ^ b) - _turned(b, 14)) & _MASK
    a = ((a ^ c) - _turned(c, 11)) & _MASK
    b = ((b ^ a) - _turned(a, 25)) & _MASK
    c = ((c ^ b) - _turned(b, 16)) & _MASK
    a = ((a ^ c) - _turned(c, 4)) & _MASK
    b = ((b ^ a) - _turned(a, 14)) & _MASK
    return ((c ^ b) - _turned(b, 24)) & _MASK


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = ((a - c) & _MASK) ^ _turned(c, 4)
    c = (c + b) & _MASK
    b = ((b - a) & _MASK) ^ _turned(a, 6)
    a = (a + c) & _MASK
    c = ((c - b) & _MASK) ^ _turned(b, 8)
    b = (b + a) & _MASK
    a = ((a - c) & _MASK) ^ _turned(c, 16)
    c = (c + b) & _MASK
    b = ((b - a) & _MASK) ^ _turned(a, 19)
    a = (a + c) & _MASK
    c = ((c - b) & _MASK) ^ _turned(b, 4)
    b = (b + a) & _MASK
    return a, b, c
