"""What can still be read of a zip archive without its directory: member by member from the front, as guesses.

Repair tools and streaming readers go this way too, so a harmful member is found although the archive is cut.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Inner, Source, shown
from garrison.artifacts.scanners.sources import Spool, Window, chunks

MAX_SALVAGED = 1_000
MAX_UNPACKED = 64 << 20  # of one member; pickles are far smaller


def salvaged(source: Source) -> Iterator[Inner]:
    at = 0
    for _ in range(MAX_SALVAGED):
        raw = source.read_at(at, 30)
        if raw[:4] != b"PK\x03\x04" or len(raw) < 30:
            return
        method, _, _, packed, _, n, extra = struct.unpack("<HIIIIHH", raw[8:])
        start = at + 30 + n + extra
        name = shown(source.read_at(at + 30, n).decode("utf-8", "replace"), 200)
        length = min(packed, source.size - start) if packed else source.size - start
        if length <= 0:
            return
        window = Window(name, source, start, length)
        yield Inner(name, _inflated(window) if method == 8 else window, guess=True)
        if not packed:
            return
        at = start + packed


def _inflated(packed: Window) -> Spool:
    spool, engine = Spool(packed.name), zlib.decompressobj(-15)
    try:
        for data in chunks(packed):
            while data and spool.size < MAX_UNPACKED:
                spool.write(engine.decompress(data, 1 << 20))
                data = engine.unconsumed_tail
    except zlib.error:
        pass  # what came out before is judged
    return spool
