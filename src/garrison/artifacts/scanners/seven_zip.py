"""7z archives: every byte of the file belongs to one stream, every stream to one coder chain, every file to a name.

Source: 7zFormat.txt of the 7-Zip SDK. The header is read in `seven_zip_header.py`, unpacked in `seven_zip_coders.py`.
"""

from __future__ import annotations

import posixpath
import zlib
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Inner, Malformed, Seen, Source, high, shown
from garrison.artifacts.scanners.paths import unsafe_path
from garrison.artifacts.scanners.seven_zip_coders import unpack
from garrison.artifacts.scanners.seven_zip_header import (
    RULE,
    Member,
    Part,
    Streams,
    Unread,
    number,
    read_header,
    read_streams,
)
from garrison.artifacts.scanners.sources import Reader, Window, chunks

MAX_HEADER = 16 << 20  # some tens of bytes for each file
MAX_UNPACKED = 2 << 30  # of all folders
MAX_LAYERS = 3  # a header that is packed unpacks to a header; writers pack it once
FREE_RATIO = 64 << 20  # below this size any ratio is harmless
MAX_RATIO = 500  # real weights stay under 20, text under 50
MAGIC = b"7z\xbc\xaf\x27\x1c"
FIX = "unpack it and scan the result, or pack it as zip"
_START = 32  # bytes in front of the packed streams
_HEADER, _PACKED_HEADER = 1, 23
_UNIX = 0x8000  # the upper half of the attributes is a mode of Unix
_REPARSE = 0x400  # a link of Windows


class SevenZip:
    format = "7z"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return head[:6] == MAGIC

    def scan(self, source: Source) -> Iterator[Seen]:
        spans: list[tuple[int, int]] = []
        try:
            header, end = _next_header(source)
            streams = Streams()
            members: tuple[Member, ...] = ()
            if header is not None:
                spans.append((end - header.size, end))
                streams, members = _unpacked_header(source, header, spans)
            yield from _names(members)
            parts = sum(len(own) for own in streams.parts)
            if parts != sum(member.has_stream for member in members):
                raise Malformed(RULE, f"{parts} streams for other than as many files")
            spans += _spans(streams, end)
            yield from _hidden(spans, source.size)
            yield from _content(source, streams, [member for member in members if member.has_stream])
        except Unread as error:
            yield Gap("artifact.7z.method", f"the archive {error}", fix=FIX)


def _next_header(source: Source) -> tuple[Source | None, int]:
    """The bytes of the header, and where it ends in the file."""
    reader = Reader(source, 6)
    version = reader.take(2)
    checksum = int.from_bytes(reader.take(4), "little")
    start = reader.take(20)
    if version[0] != 0:
        raise Unread(f"is of version {version[0]}")
    if zlib.crc32(start) != checksum:
        raise Malformed("artifact.7z.crc", "the checksum of the first header is wrong")
    offset, size = int.from_bytes(start[:8], "little"), int.from_bytes(start[8:16], "little")
    if not size:
        return None, _START
    if size > MAX_HEADER:
        raise Unread(f"has a header of {size} bytes")
    if _START + offset + size > source.size:
        raise EOFError
    header = Window("header", source, _START + offset, size)
    if _crc(header) != int.from_bytes(start[16:], "little"):
        raise Malformed("artifact.7z.crc", "the checksum of the header is wrong")
    return header, _START + offset + size


def _unpacked_header(
    source: Source, header: Source, spans: list[tuple[int, int]]
) -> tuple[Streams, tuple[Member, ...]]:
    for _ in range(MAX_LAYERS):
        reader = Reader(header)
        kind = number(reader)
        if kind == _HEADER:
            return read_header(reader)
        if kind != _PACKED_HEADER:
            break
        streams = read_streams(reader)
        if len(streams.folders) != 1 or reader.left:
            raise Malformed(RULE, "a packed header that is not one folder")
        spans += _spans(streams, source.size)
        ((begin, stop),) = _spans(streams, source.size)
        folder = streams.folders[0]
        header = unpack(folder, Window("header", source, begin, stop - begin), MAX_HEADER)
        if folder.crc is not None and _crc(header) != folder.crc:
            raise Malformed("artifact.7z.crc", "the checksum of the packed header is wrong")
    raise Malformed(RULE, "the header is not one")


def _spans(streams: Streams, end: int) -> list[tuple[int, int]]:
    """Where the packed streams lie, one behind the other."""
    at, spans = _START + streams.start, []
    for size in streams.packed:
        if at + size > end:
            raise Malformed(RULE, "a packed stream that ends behind the file")
        spans.append((at, at + size))
        at += size
    return spans


def _hidden(spans: list[tuple[int, int]], size: int) -> Iterator[Seen]:
    at = _START
    for begin, stop in sorted(spans):
        if begin < at:
            raise Malformed("artifact.7z.overlap", "two streams share bytes")
        if begin > at:
            yield high("artifact.7z.hidden", f"{begin - at} bytes at {at} belong to nothing")
        at = stop
    if at != size:
        yield high("artifact.7z.hidden", f"{size - at} bytes behind the end belong to nothing")


def _names(members: tuple[Member, ...]) -> Iterator[Seen]:
    seen: set[str] = set()
    for member in members:
        name = shown(member.name, 200)
        if reason := unsafe_path(member.name):
            yield high("artifact.7z.slip", f"the member {name} {reason}", f"!{name}")
        plain = posixpath.normpath(member.name)
        if plain in seen:
            yield high("artifact.7z.duplicate", f"two members have the name {name}", f"!{name}")
        seen.add(plain)
        mode = member.attributes >> 16 if member.attributes & _UNIX else 0
        if mode & 0o170000 not in (0, 0o100000, 0o040000) or member.attributes & _REPARSE:
            yield high("artifact.7z.link", f"the member {name} is a link or a device", f"!{name}")
        if member.is_anti:
            yield high("artifact.7z.link", f"the member {name} removes a file when unpacked", f"!{name}")


def _content(source: Source, streams: Streams, members: list[Member]) -> Iterator[Seen]:
    names, spans = iter(members), _spans(streams, source.size)
    left = MAX_UNPACKED
    if sum(folder.size for folder in streams.folders) > max(FREE_RATIO, MAX_RATIO * source.size):
        total = sum(folder.size for folder in streams.folders)
        yield high("artifact.bomb", f"{source.size} bytes unpack to {total}")
        return
    for folder, parts in zip(streams.folders, streams.parts, strict=True):
        own = [(next(names), part) for part in parts]
        try:
            begin, stop = spans[folder.packed]
            data = unpack(folder, Window("packed", source, begin, stop - begin), left)
        except Unread as error:
            yield Gap("artifact.7z.method", f"{_shown(own)} {error}", fix=FIX)
            continue
        except Malformed as error:
            yield error.finding
            continue
        left -= data.size
        yield from _files(data, own)


def _files(data: Source, own: list[tuple[Member, Part]]) -> Iterator[Seen]:
    at = 0
    for member, part in own:
        name = shown(member.name, 200)
        inner = Window(member.name, data, at, part.size)
        at += part.size
        if part.crc is not None and _crc(inner) != part.crc:
            yield high("artifact.7z.crc", f"the checksum of {name} is wrong", f"!{name}")
        yield Inner(name, inner)


def _shown(own: list[tuple[Member, Part]]) -> str:
    return shown(own[0][0].name, 100) if own else "a folder"


def _crc(source: Source) -> int:
    value = 0
    for data in chunks(source):
        value = zlib.crc32(data, value)
    return value
