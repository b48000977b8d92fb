"""One compressed stream that the standard library reads: gzip, bzip2, xz, lzma, zlib."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from garrison.artifacts.scanners.base import Gap, Inner, Seen, Source, high
from garrison.artifacts.scanners.sources import CHUNK, Spool, chunks

MAX_UNPACKED = 2 << 30  # joblib models are compressed whole; larger ones are not understood
TRAILER = 12  # checksum and length of gzip, zlib and xz
FREE_RATIO = 64 << 20  # below this size any ratio is harmless
MAX_RATIO = 500  # real weights stay under 20, text under 50
MAX_STREAMS = 100  # gzip, bzip2 and xz files may be several streams one after the other


@dataclass(frozen=True, slots=True)
class Compressed:
    format: str
    looks: Callable[[bytes], bool]
    engine: Callable[[], Any]

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        if not self.looks(head):
            return False
        if self.format not in ("zlib", "lzma"):
            return True
        try:  # their headers are two weak bytes: only what unpacks is one
            return bool(self.engine().decompress(head, 64))
        except (zlib.error, lzma.LZMAError, EOFError):
            return False

    def scan(self, source: Source) -> Iterator[Seen]:
        spool = Spool(f"{self.format} content")
        reason = self._unpack(source, spool)
        if reason == "bomb":
            yield high("artifact.bomb", f"{source.size} bytes unpack to more than {spool.size}")
            return
        if reason == "trailing":
            yield high(
                "artifact.compression.trailing", "bytes behind the compressed stream belong to nothing"
            )
        elif reason:
            yield Gap(
                "artifact.compression.damaged", f"the {self.format} stream {reason}", fix="get the file again"
            )
        yield Inner("content", spool, guess=bool(reason) and reason != "trailing")

    def _unpack(self, source: Source, spool: Spool) -> str:
        """Unpack into `spool`; the reason why not, "trailing", "bomb", or ""."""
        engine, streams = self.engine(), 1
        try:
            for data in _pieces(source):
                while True:
                    piece = engine.decompress(data, CHUNK)
                    spool.write(piece)
                    if spool.size > MAX_UNPACKED or spool.size > max(FREE_RATIO, MAX_RATIO * source.size):
                        return "bomb"
                    if engine.eof:
                        data = engine.unused_data
                        if not data:
                            break
                        if (
                            self.format in ("zlib", "lzma")
                            or not self.looks(data[:16])
                            or streams >= MAX_STREAMS
                        ):
                            return "" if not any(data) else "trailing"
                        engine, streams = self.engine(), streams + 1
                        continue
                    data = getattr(engine, "unconsumed_tail", b"")
                    if not data and (getattr(engine, "needs_input", True)):
                        break
        except (zlib.error, lzma.LZMAError, OSError, EOFError):
            return "is damaged"
        return "" if engine.eof else "is cut off"


def _pieces(source: Source) -> Iterator[bytes]:
    """The last bytes by themselves: a wrong checksum then costs nothing of what was unpacked before it."""
    end = max(0, source.size - TRAILER)
    yield from chunks(source, 0, end)
    yield source.read_at(end, TRAILER)


def _zlib_header(head: bytes) -> bool:
    return len(head) > 8 and head[0] == 0x78 and (head[0] * 256 + head[1]) % 31 == 0


COMPRESSED = (
    Compressed("gzip", lambda head: head[:3] == b"\x1f\x8b\x08", lambda: zlib.decompressobj(31)),
    Compressed("bzip2", lambda head: head[:3] == b"BZh" and head[4:10] == b"1AY&SY", bz2.BZ2Decompressor),
    Compressed(
        "xz", lambda head: head[:6] == b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(memlimit=128 << 20)
    ),
    Compressed(
        "lzma", lambda head: head[:3] == b"]\0\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, 128 << 20)
    ),
    Compressed("zlib", _zlib_header, zlib.decompressobj),
)
