"""Small random changes of bytes, the same for the same seed: the engine of the smoke test and the campaign."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 32,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


def mutants(seeds: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` mutants of the seeds in turn, each with one to four changes."""
    chance = random.Random(seed)
    for index in range(count):
        data = seeds[index % len(seeds)]
        for _ in range(chance.randint(1, 4)):
            data = mutant(data, chance, seeds)
        yield data


def mutant(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    at = chance.randrange(len(data) + 1)
    length = min(chance.choice((1, 1, 1, 2, 4, 8, 64)), len(data) - at)
    kind = chance.randrange(8)
    if kind == 0:
        return (
            data[:at]
            + bytes(byte ^ (1 << chance.randrange(8)) for byte in data[at : at + length])
            + data[at + length :]
        )
    if kind == 1:
        return data[:at] + chance.randbytes(length) + data[at + length :]
    if kind == 2:
        return data[:at] + data[at + length :]
    if kind == 3:
        return data[:at] + chance.randbytes(chance.randint(1, 8)) + data[at:]
    if kind == 4:
        start = chance.randrange(len(data) + 1)
        return data[:at] + data[start : start + 16 * length] + data[at:]
    if kind == 5:
        number = chance.choice(INTERESTING)
        form = chance.choice("BHIQ")
        raw = struct.pack(chance.choice("<>") + form, number & ((1 << 8 * struct.calcsize(form)) - 1))
        return data[:at] + raw + data[at + len(raw) :]
    if kind == 6 and others:
        other = chance.choice(others)
        start = chance.randrange(len(other) + 1)
        return data[:at] + other[start : start + chance.randint(1, 64)] + data[at:]
    return data[: at or len(data)]
