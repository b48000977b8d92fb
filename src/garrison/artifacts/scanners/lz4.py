"""LZ4 frames (joblib writes them), unpacked here since the standard library cannot.

Source: LZ4 frame format 1.6 and block format. Checksums are not computed: a damaged frame unpacks to what
its scanner then judges, and a reader that checks them refuses it. Dictionaries are not understood.
"""

from __future__ import annotations

from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Inner, Malformed, Seen, Source, high
from garrison.artifacts.scanners.sources import Reader, Spool

MAX_UNPACKED = 256 << 20  # a loop in Python: some tens of megabytes a second
FREE_RATIO = 16 << 20  # below this size any ratio is harmless
MAX_RATIO = 200  # LZ4 cannot do better than 255
MAX_FRAMES = 100
_WINDOW = 65_536
_FRAME, _LEGACY = b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"
_SIZES = {4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22}
_LEGACY_BLOCK = 8 << 20
FIX = "unpack it and scan the result, or compress it with gzip"


class Lz4:
    format = "lz4"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return head[:4] in (_FRAME, _LEGACY)

    def scan(self, source: Source) -> Iterator[Seen]:
        reader, spool, reason = Reader(source), Spool("lz4 content"), ""
        try:
            for _ in range(MAX_FRAMES):
                _frame(reader, spool)
                if not reader.left or source.read_at(reader.offset, 4) not in (_FRAME, _LEGACY):
                    break
            if reader.left:
                yield high(
                    "artifact.compression.trailing", "bytes behind the compressed stream belong to nothing"
                )
        except _TooMuch:
            if spool.size > FREE_RATIO and spool.size > MAX_RATIO * source.size:
                yield high("artifact.bomb", f"{source.size} bytes unpack to more than {spool.size}")
                return
            reason = f"unpacks to more than {MAX_UNPACKED} bytes"
            yield Gap("artifact.limit.size", f"the lz4 stream {reason}", fix=FIX)
        except (EOFError, IndexError, Malformed) as error:
            reason = "is cut off" if not isinstance(error, Malformed) else str(error)
            yield Gap("artifact.compression.damaged", f"the lz4 stream {reason}", fix="get the file again")
        yield Inner("content", spool, guess=bool(reason))


class _TooMuch(Exception):
    """More than the limit."""


def _frame(reader: Reader, spool: Spool) -> None:
    legacy = reader.take(4) == _LEGACY
    flags, largest = 0, _LEGACY_BLOCK
    if not legacy:
        flags, size = reader.take(2)
        largest = _SIZES.get(size >> 4 & 7, 0)
        if flags >> 6 != 1 or flags & 3 or not largest or size & 0x8F:
            raise Malformed("artifact.compression.damaged", "has a header that is not understood")
        reader.skip((8 if flags & 8 else 0) + 1)
    history = b""
    while reader.left or not legacy:
        size = int.from_bytes(reader.take(4), "little")
        if not size and not legacy:
            reader.skip(4 if flags & 4 else 0)
            return
        stored, size = bool(size >> 31) and not legacy, size & 0x7FFFFFFF if not legacy else size
        if size > largest + largest // 255 + 16:
            if legacy and size == int.from_bytes(_FRAME, "little"):
                reader.offset -= 4
                return
            raise Malformed("artifact.compression.damaged", f"has a block of {size} bytes")
        data = reader.take(size)
        reader.skip(4 if flags & 16 else 0)
        block = data if stored else _block(data, history, largest)
        spool.write(block)
        if spool.size > MAX_UNPACKED:
            raise _TooMuch
        history = b"" if flags & 32 or legacy else (history + block)[-_WINDOW:]


def _block(data: bytes, history: bytes, largest: int) -> bytes:
    """One block: literals and copies from what was unpacked before."""
    out, at, end = bytearray(history), 0, len(data)
    base = len(history)
    while at < end:
        token = data[at]
        at += 1
        length, at = _length(data, at, token >> 4)
        if at + length > end:
            raise EOFError
        out += data[at : at + length]
        at += length
        if at >= end:
            break
        offset = data[at] | data[at + 1] << 8
        length, at = _length(data, at + 2, token & 15)
        length += 4
        if not 0 < offset <= len(out):
            raise Malformed("artifact.compression.damaged", "copies from before its beginning")
        if len(out) - base + length > largest:
            raise Malformed("artifact.compression.damaged", "has a block larger than it says")
        start = len(out) - offset
        piece = bytes(out[start : start + length])
        out += piece if len(piece) == length else (piece * (length // offset + 1))[:length]
    if len(out) - base > largest:
        raise Malformed("artifact.compression.damaged", "has a block larger than it says")
    return bytes(out[base:])


def _length(data: bytes, at: int, length: int) -> tuple[int, int]:
    if length == 15:
        more = 255
        while more == 255:
            more = data[at]
            length += more
            at += 1
    return length, at
