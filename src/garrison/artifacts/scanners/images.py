"""Pictures and sounds beside a model (PNG, JPEG, GIF, RIFF with WebP and WAVE): walked to their last byte.

They carry no code; what counts is that they are what they seem, and that nothing hides behind them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Inner, Malformed, Seen, Source
from garrison.artifacts.scanners.sources import Reader, Window, all_zero, chunks

MAX_PARTS = 1_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
FIX = "save the picture again, or leave it out"


class Image:
    format = "image"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        riff = head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE")
        return riff or head.startswith((_PNG, b"\xff\xd8\xff", b"GIF87a", b"GIF89a"))

    def scan(self, source: Source) -> Iterator[Seen]:
        reader = Reader(source)
        head = source.read_at(0, 12)
        if head.startswith(_PNG):
            _png(reader)
        elif head[:2] == b"\xff\xd8":
            _jpeg(reader)
        elif head[:3] == b"GIF":
            _gif(reader)
        else:
            reader.skip(8)
            length = int.from_bytes(head[4:8], "little")
            reader.skip(min(length + length % 2, max(reader.left, length)))
        if reader.left:
            rest = Window("rest", source, reader.offset, reader.left)
            if not all_zero(rest, 0, rest.size):
                yield Gap("artifact.image.trailing", f"{reader.left} bytes follow the picture", fix=FIX)
            yield Inner(f"from byte {reader.offset}", rest, guess=True)


def _png(reader: Reader) -> None:
    """PNG 1.2 section 5: chunks with a checksum each, IEND the last."""
    reader.skip(8)
    for _ in range(MAX_PARTS):
        length = int.from_bytes(reader.take(4), "big")
        kind = reader.take(4)
        if not kind.isalpha() or length >= 1 << 31:
            raise Malformed("artifact.image.damaged", "a chunk without a name", fix=FIX)
        start = reader.offset
        reader.skip(length)
        crc = zlib.crc32(kind)
        for data in chunks(reader.source, start, start + length):
            crc = zlib.crc32(data, crc)
        if crc != int.from_bytes(reader.take(4), "big"):
            raise Malformed("artifact.image.damaged", "a chunk whose checksum is wrong", fix=FIX)
        if kind == b"IEND":
            return


def _jpeg(reader: Reader) -> None:
    """ITU T.81 B.1: segments with a length, entropy-coded data up to the next marker, EOI the last."""
    reader.skip(2)
    for _ in range(MAX_PARTS):
        marker = reader.take(2)
        while marker == b"\xff\xff":
            marker = b"\xff" + reader.take(1)
        if marker[0] != 0xFF:
            raise Malformed("artifact.image.damaged", "a segment without a marker", fix=FIX)
        if marker[1] == 0xD9:
            return
        if 0xD0 <= marker[1] <= 0xD7 or marker[1] == 1:
            continue
        reader.skip(max(int.from_bytes(reader.take(2), "big") - 2, 0))
        if marker[1] == 0xDA:
            _entropy(reader)


def _entropy(reader: Reader) -> None:
    while True:
        data = reader.source.read_at(reader.offset, 65_536)
        at = data.find(b"\xff")
        while 0 <= at < len(data) - 1 and (data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7):
            at = data.find(b"\xff", at + 2)
        if 0 <= at < len(data) - 1:
            reader.skip(at)
            return
        reader.skip(max(at if at >= 0 else len(data), 1))


def _gif(reader: Reader) -> None:
    """GIF89a: header, colour table, blocks of sub-blocks, the trailer 0x3B."""
    flags = reader.take(13)[10]
    reader.skip(3 << (flags & 7) + 1 if flags & 0x80 else 0)
    for _ in range(MAX_PARTS):
        kind = reader.take(1)
        if kind == b";":
            return
        if kind == b"!":
            reader.skip(1)
        elif kind == b",":
            flags = reader.take(9)[8]
            reader.skip(3 << (flags & 7) + 1 if flags & 0x80 else 0)
            reader.skip(1)
        else:
            raise Malformed("artifact.image.damaged", "a block without a name", fix=FIX)
        while length := reader.take(1)[0]:
            reader.skip(length)
