"""Zstandard streams: frames and blocks are walked here, the blocks unpacked by libzstd one at a time.

Source: RFC 8878. A block unpacks to at most 128 KiB, so what one call may return is known before it is made.
The library is loaded when there is such a stream (`base.Later`), as it costs every start otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from garrison.artifacts.scanners.base import Gap, Inner, Later, Malformed, Seen, Source, high
from garrison.artifacts.scanners.sources import Reader, Spool, Window

MAX_UNPACKED = 2 << 30
MAX_WINDOW = 128 << 20  # what `zstd --long=27` needs; a larger one has to be asked for by its reader, too
MAX_FRAMES = 100_000  # seekable files and `pzstd` write one for each piece
FREE_RATIO = 64 << 20  # below this size any ratio is harmless
MAX_RATIO = 500  # real weights stay under 20, text under 50
_BLOCK = 128 << 10
_FRAME = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # behind a first byte of 0x50 to 0x5f
_RULE = "artifact.compression.damaged"
FIX = "unpack it and scan the result, or compress it with gzip"


class Zstd:
    format = "zstd"

    def recognises(self, head: bytes, source: Source) -> bool:
        if _is_skippable(head):
            behind = 8 + int.from_bytes(head[4:8], "little")
            return source.read_at(behind, 4) == _FRAME
        return head[:4] == _FRAME

    def scan(self, source: Source) -> Iterator[Seen]:
        engine, reader, spool = _engine(), Reader(source), Spool("zstd content")
        reason = ""
        try:
            for count in range(MAX_FRAMES + 1):
                if not reader.left or not _starts_frame(source, reader.offset):
                    break
                if count == MAX_FRAMES:
                    raise _Unread(f"has more than {MAX_FRAMES} frames")
                if _is_skippable(source.read_at(reader.offset, 4)):
                    yield Inner("skipped", _skipped(reader), guess=True)
                else:
                    _frame(reader, engine, spool)
        except _Unread as error:
            reason = str(error)
            yield Gap("artifact.limit.size", f"the zstd stream {reason}", fix=FIX)
        except (EOFError, Malformed) as error:
            reason = str(error) if isinstance(error, Malformed) else "is cut off"
            yield Gap(_RULE, f"the zstd stream {reason}", fix="get the file again")
        if spool.size > max(FREE_RATIO, MAX_RATIO * source.size):
            yield high("artifact.bomb", f"{source.size} bytes unpack to more than {spool.size}")
            return
        if reader.left and not reason:
            yield high(
                "artifact.compression.trailing", "bytes behind the compressed stream belong to nothing"
            )
        yield Inner("content", spool, guess=bool(reason))


class _Unread(Exception):
    """Over a limit."""


@dataclass(frozen=True, slots=True)
class Engine:
    """libzstd: `decoder` reads one frame, `failure` is what it raises."""

    decoder: Any
    failure: type[Exception]


def _engine() -> Engine:
    try:
        import zstandard  # 0.01 s, which every scan would pay; see `base.Later`
    except (ImportError, OSError) as error:
        raise Later from error
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    return Engine(decompressor.decompressobj, zstandard.ZstdError)


def _is_skippable(head: bytes) -> bool:
    return len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == _SKIPPABLE


def _starts_frame(source: Source, offset: int) -> bool:
    head = source.read_at(offset, 4)
    return head == _FRAME or _is_skippable(head)


def _skipped(reader: Reader) -> Window:
    reader.skip(4)
    size = int.from_bytes(reader.take(4), "little")
    start = reader.offset
    reader.skip(size)
    return Window("skipped", reader.source, start, size)


def _frame(reader: Reader, engine: Engine, spool: Spool) -> None:
    decoder, start = engine.decoder(), spool.size
    header, content, checked = _header(reader)
    limit = max(FREE_RATIO, MAX_RATIO * reader.size)
    try:
        spool.write(decoder.decompress(header))
        last = False
        while not last:
            head = reader.take(3)
            word = int.from_bytes(head, "little")
            last, kind, size = bool(word & 1), word >> 1 & 3, word >> 3
            if kind == 3 or size > _BLOCK:
                raise Malformed(_RULE, "has a block that is not understood")
            spool.write(decoder.decompress(head + reader.take(1 if kind == 1 else size)))
            if spool.size > limit or spool.size > MAX_UNPACKED:
                raise _Unread(f"unpacks to more than {spool.size} bytes")
        if checked:
            spool.write(decoder.decompress(reader.take(4)))
    except engine.failure as error:
        raise Malformed(_RULE, "is damaged") from error
    if content is not None and spool.size - start != content:
        raise Malformed(_RULE, "unpacks to another size than it says")


def _header(reader: Reader) -> tuple[bytes, int | None, bool]:
    """The frame's header, how many bytes it says that it unpacks to, and whether a checksum ends it."""
    head = reader.take(5)
    flags = head[4]
    single = bool(flags & 0x20)
    if flags & 0x08:
        raise Malformed(_RULE, "has a header that is not understood")
    if flags & 3:
        raise _Unread("needs a dictionary")
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    window = 0
    if not single:
        head += reader.take(1)
        base = 1 << (10 + (head[5] >> 3))
        window = base + base // 8 * (head[5] & 7)
    size = reader.take(width)
    head += size
    content = int.from_bytes(size, "little") + (256 if width == 2 else 0) if width else None
    if max(window, content or 0 if single else 0) > MAX_WINDOW:
        raise _Unread(f"needs more than {MAX_WINDOW} bytes of memory to be read")
    return head, content, bool(flags & 4)
