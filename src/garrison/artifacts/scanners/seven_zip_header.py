"""The header of a 7z archive: what is packed where, by which coders, and the names of the files. Unpacks nothing.

Source: 7zFormat.txt of the 7-Zip SDK. Every count is checked against the bytes that are left before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from garrison.artifacts.scanners.base import Malformed
from garrison.artifacts.scanners.sources import Reader

RULE = "artifact.7z.structure"
MAX_CODERS = 4  # a compressor, a cipher and two filters
_END, _PACK, _UNPACK, _SUBSTREAMS = 0, 6, 7, 8
_SIZE, _CRC, _FOLDER, _CODERS, _COUNT = 9, 10, 11, 12, 13
_MAIN, _FILES = 4, 5
_EMPTY, _EMPTY_FILE, _ANTI, _NAMES, _ATTRIBUTES, _DUMMY = 14, 15, 16, 17, 21, 25
_TIMES = (18, 19, 20, 24)  # creation, access and modification; where a stream begins in a split archive


class Unread(Exception):
    """Something of the format that is not read here."""


@dataclass(frozen=True, slots=True)
class Coder:
    method: bytes
    properties: bytes
    is_simple: bool  # one stream in, one out


@dataclass(slots=True)
class Folder:
    """Coders in the order in which they unpack, the size behind each, and the packed stream they begin with.

    `chain` is empty when the streams branch (BCJ2), which is not read here.
    """

    coders: tuple[Coder, ...]
    chain: tuple[int, ...]
    packed: int
    sizes: tuple[int, ...] = ()
    size: int = 0
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One file's bytes in what a folder unpacks to."""

    size: int
    crc: int | None


@dataclass(slots=True)
class Streams:
    start: int = 0
    packed: tuple[int, ...] = ()
    folders: tuple[Folder, ...] = ()
    parts: tuple[tuple[Part, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    has_stream: bool
    is_directory: bool
    is_anti: bool  # removes a file where it is unpacked
    attributes: int


def number(reader: Reader) -> int:
    """The first byte's leading ones say how many bytes follow; its other bits are the highest."""
    first = reader.take(1)[0]
    extra = 8
    for count in range(8):
        if not first & (0x80 >> count):
            extra = count
            break
    value = int.from_bytes(reader.take(extra), "little")
    return value | (first & ((0x80 >> extra) - 1)) << (8 * extra) if extra < 8 else value


def _counted(reader: Reader) -> int:
    """A count of things that take a byte each at least."""
    count = number(reader)
    if count > reader.left:
        raise Malformed(RULE, f"a count of {count} in a header of {reader.size} bytes")
    return count


def _expect(reader: Reader, kind: int) -> None:
    if reader.take(1)[0] != kind:
        raise Malformed(RULE, "the header's parts are out of order")


def _bits(reader: Reader, count: int) -> list[bool]:
    data = reader.take((count + 7) // 8)
    return [bool(data[index >> 3] & 0x80 >> (index & 7)) for index in range(count)]


def _defined(reader: Reader, count: int) -> list[bool]:
    return [True] * count if reader.take(1)[0] else _bits(reader, count)


def _checksums(reader: Reader, count: int) -> list[int | None]:
    return [int.from_bytes(reader.take(4), "little") if known else None for known in _defined(reader, count)]


def read_streams(reader: Reader) -> Streams:
    """Packed streams, folders of coders, and how the unpacked bytes are divided into files."""
    streams = Streams()
    kind = reader.take(1)[0]
    if kind == _PACK:
        _packed(reader, streams)
        kind = reader.take(1)[0]
    if kind == _UNPACK:
        _folders(reader, streams)
        kind = reader.take(1)[0]
    streams.parts = tuple((Part(folder.size, folder.crc),) for folder in streams.folders)
    if kind == _SUBSTREAMS:
        streams.parts = _divided(reader, streams.folders)
        kind = reader.take(1)[0]
    if kind != _END:
        raise Malformed(RULE, "the header's parts are out of order")
    if sum(1 for folder in streams.folders if folder.chain) > len(streams.packed):
        raise Malformed(RULE, "fewer packed streams than folders")
    return streams


def _packed(reader: Reader, streams: Streams) -> None:
    streams.start = number(reader)
    count = _counted(reader)
    kind = reader.take(1)[0]
    if kind == _SIZE:
        streams.packed = tuple(number(reader) for _ in range(count))
        kind = reader.take(1)[0]
    if kind == _CRC:
        _checksums(reader, count)  # of packed bytes; what they unpack to is checked
        kind = reader.take(1)[0]
    if kind != _END or len(streams.packed) != count:
        raise Malformed(RULE, "packed streams without sizes")


def _folders(reader: Reader, streams: Streams) -> None:
    _expect(reader, _FOLDER)
    count = _counted(reader)
    if reader.take(1)[0]:
        raise Unread("keeps its folders in another stream")
    folders, at = [], 0
    for _ in range(count):
        folder, used = _folder(reader, at)
        folders.append(folder)
        at += used
    if at != len(streams.packed):
        raise Malformed(RULE, f"{len(streams.packed)} packed streams, of which {at} are used")
    _expect(reader, _CODERS)
    for folder in folders:
        folder.sizes = tuple(number(reader) for _ in folder.coders)
        folder.size = folder.sizes[folder.chain[-1]] if folder.chain else max(folder.sizes)
    kind = reader.take(1)[0]
    if kind == _CRC:
        for folder, crc in zip(folders, _checksums(reader, count), strict=True):
            folder.crc = crc
        kind = reader.take(1)[0]
    if kind != _END:
        raise Malformed(RULE, "the header's parts are out of order")
    streams.folders = tuple(folders)


def _folder(reader: Reader, at: int) -> tuple[Folder, int]:
    """One folder, and how many packed streams it takes from number `at` on."""
    count = number(reader)
    if not 0 < count <= MAX_CODERS:
        raise Unread(f"has a folder of {count} coders")
    coders, inputs, outputs = [], 0, 0
    for _ in range(count):
        flags = reader.take(1)[0]
        if flags & 0xC0:
            raise Unread("has a coder with alternatives")
        method = reader.take(flags & 15)
        into, out = (number(reader), number(reader)) if flags & 16 else (1, 1)
        properties = reader.take(_counted(reader)) if flags & 32 else b""
        if not 0 < into <= MAX_CODERS or out != 1:
            raise Unread("has a coder with several outputs")
        coders.append(Coder(method, properties, into == 1))
        inputs, outputs = inputs + into, outputs + out
    bound = [(number(reader), number(reader)) for _ in range(outputs - 1)]
    used = inputs - len(bound)
    if used < 1:
        raise Malformed(RULE, "a folder whose streams go round")
    if used > 1:
        for _ in range(used):
            number(reader)
    chain = _chain(coders, bound) if all(coder.is_simple for coder in coders) else ()
    return Folder(tuple(coders), chain, at), used


def _chain(coders: list[Coder], bound: list[tuple[int, int]]) -> tuple[int, ...]:
    """The order of simple coders: the first reads what is packed, each other one what its pair says."""
    source, targets = dict(bound), [out for _, out in bound]
    ends = [index for index in range(len(coders)) if index not in targets]
    if len(source) != len(bound) or len(set(targets)) != len(bound) or len(ends) != 1:
        raise Malformed(RULE, "a folder whose coders are not one chain")
    order = [ends[0]]
    while order[-1] in source:
        following = source[order[-1]]
        if following in order or following >= len(coders):
            raise Malformed(RULE, "a folder whose coders are not one chain")
        order.append(following)
    if len(order) != len(coders):
        raise Malformed(RULE, "a folder whose coders are not one chain")
    return tuple(reversed(order))


def _divided(reader: Reader, folders: tuple[Folder, ...]) -> tuple[tuple[Part, ...], ...]:
    counts = [1] * len(folders)
    kind = reader.take(1)[0]
    if kind == _COUNT:
        counts = [number(reader) for _ in folders]
        kind = reader.take(1)[0]
    if sum(counts) > reader.size + len(folders):
        raise Malformed(RULE, f"{sum(counts)} files in a header of {reader.size} bytes")
    sizes = []
    for folder, count in zip(folders, counts, strict=True):
        own = [number(reader) for _ in range(count - 1)] if kind == _SIZE else []
        rest = folder.size - sum(own)
        if (count > 1 and kind != _SIZE) or rest < 0:
            raise Malformed(RULE, "files that do not fit what their folder unpacks to")
        sizes.append([*own, rest] if count else [])
    if kind == _SIZE:
        kind = reader.take(1)[0]
    known = [folder.crc if count == 1 else None for folder, count in zip(folders, counts, strict=True)]
    missing = sum(count for count, crc in zip(counts, known, strict=True) if crc is None)
    found: Iterator[int | None] = iter([None] * missing)
    if kind == _CRC:
        found = iter(_checksums(reader, missing))
        kind = reader.take(1)[0]
    if kind != _END:
        raise Malformed(RULE, "the header's parts are out of order")
    return tuple(
        tuple(Part(size, next(found) if crc is None else crc) for size in own)
        for own, crc in zip(sizes, known, strict=True)
    )


def read_header(reader: Reader) -> tuple[Streams, tuple[Member, ...]]:
    """Behind the byte that says that this is a header."""
    streams = Streams()
    members: tuple[Member, ...] = ()
    kind = reader.take(1)[0]
    if kind == _MAIN:
        streams = read_streams(reader)
        kind = reader.take(1)[0]
    if kind == _FILES:
        members = _members(reader)
        kind = reader.take(1)[0]
    if kind != _END:
        raise Unread("has a header with properties or streams of its own")
    if reader.left:
        raise Malformed(RULE, f"{reader.left} bytes in the header belong to nothing")
    return streams, members


def _members(reader: Reader) -> tuple[Member, ...]:
    count = _counted(reader)
    empty, empty_file, anti = [False] * count, [False] * count, [False] * count
    names, attributes = [""] * count, [0] * count
    seen: set[int] = set()
    while kind := reader.take(1)[0]:
        end = number(reader) + reader.offset
        if end > reader.size or (kind in seen and kind != _DUMMY):
            raise Malformed(RULE, "a property of the files that ends behind the header, or comes twice")
        seen.add(kind)
        if kind == _EMPTY:
            empty = _bits(reader, count)
        elif kind in (_EMPTY_FILE, _ANTI):
            given = iter(_bits(reader, sum(empty)))
            spread = [next(given) if none else False for none in empty]
            empty_file, anti = (spread, anti) if kind == _EMPTY_FILE else (empty_file, spread)
        elif kind == _NAMES:
            names = _names(reader, end, count)
        elif kind == _ATTRIBUTES:
            attributes = _attributes(reader, count)
        elif kind == _DUMMY or kind in _TIMES:
            if kind == _DUMMY and any(reader.take(end - reader.offset)):
                raise Malformed(RULE, "padding in the header that is not zero")
            reader.offset = end
        else:
            raise Unread(f"has files with a property {kind}")
        if reader.offset != end:
            raise Malformed(RULE, "a property of the files of another size than it says")
    if any(not name for name in names):
        raise Malformed(RULE, "a file without a name")
    return tuple(
        Member(name, not none, none and not file, gone, attribute)
        for name, none, file, gone, attribute in zip(names, empty, empty_file, anti, attributes, strict=True)
    )


def _names(reader: Reader, end: int, count: int) -> list[str]:
    if reader.take(1)[0]:
        raise Unread("keeps its names in another stream")
    try:
        names = reader.take(end - reader.offset).decode("utf-16-le").split("\0")
    except UnicodeDecodeError as error:
        raise Malformed(RULE, "a name that is not text") from error
    if len(names) != count + 1 or names[-1]:
        raise Malformed(RULE, f"{len(names) - 1} names for {count} files")
    return names[:-1]


def _attributes(reader: Reader, count: int) -> list[int]:
    known = _defined(reader, count)
    if reader.take(1)[0]:
        raise Unread("keeps attributes in another stream")
    return [int.from_bytes(reader.take(4), "little") if each else 0 for each in known]
