"""Zip archives, torch's included: directory and members must describe the same bytes, every byte owned once.

Source: PKWARE APPNOTE 6.3. Readers of zip files disagree whenever an archive says two things; so an
archive that says two things is refused: prefix or gap, duplicate or overlapping members, local header
against central directory, sizes, links, encryption, paths that leave the directory.
"""

from __future__ import annotations

import bz2
import lzma
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from garrison.artifacts.scanners.archive_zip_damaged import salvaged
from garrison.artifacts.scanners.base import Gap, Inner, Malformed, Seen, Source, high, shown
from garrison.artifacts.scanners.paths import unsafe_path
from garrison.artifacts.scanners.sources import Spool, Window, chunks
from garrison.artifacts.scanners.torch_tensors import record_findings
from garrison.core.finding import Finding

MAX_MEMBERS = 100_000  # a torch file has one per tensor; the largest have some thousands
MAX_DIRECTORY = 64 << 20
MAX_UNPACKED = 2 << 30  # of all members that have to be unpacked, per archive
MAX_RATIO = 1_200  # deflate cannot do better than 1,032
BOMB_RATIO = 200  # weights that compress so far hold nothing; small ones are harmless all the same
BOMB_SIZE = 32 << 20
_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_TORCH_RAW = re.compile(
    r"[^/]+/(?:data/\d+|\.data/serialization_id|traced_inputs/\d+|data/(?:weights/weight|constants/tensor)_\d+)\Z"
)
_TORCH_CODE = re.compile(r"[^/]+/code/(?:[^/]+/)*[^/]+\.py\Z")
_TORCH_PICKLE = re.compile(r"[^/]+/(?:data|constants|traced_inputs)\.pkl\Z")
_TORCH_NOTE = re.compile(
    r"[^/]+/(?:version|byteorder|\.format_version|\.storage_alignment|\.data/version|archive_(?:format|version))\Z"
)


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    local: int
    mode: int


class Zip:
    format = "zip"

    def recognises(self, head: bytes, source: Source) -> bool:
        if head[:4] in (b"PK\x03\x04", _END, b"PK\x07\x08"):
            return True
        return _find_end(source) is not None and head[:4] not in (b"GGUF",)

    def scan(self, source: Source) -> Iterator[Seen]:
        end, last = _find_end(source), _last_end(source)
        if last is None:
            yield Gap(
                "artifact.zip.truncated", "a zip archive without its end record", fix="get the file again"
            )
            yield from salvaged(source)
            return
        if end is None:
            end = last
        elif end != last:
            yield high("artifact.zip.end", "two end records, so that readers see two archives")
        members, directory, is_whole = _directory(source, end)
        if end + 22 != source.size:
            yield high("artifact.zip.comment", f"{source.size - end - 22} bytes follow the end record")
        yield from _names(members)
        spans = []
        for member in members:
            start, stop = _local(source, member, directory)
            spans.append((member.local, stop, start, member))
        at = _prefix(source, spans)
        for begin, stop, _, member in sorted(spans, key=lambda span: span[:2]):
            if begin < at:
                raise Malformed(
                    "artifact.zip.overlap", f"{shown(member.name)} shares bytes with another member"
                )
            if begin > at:
                yield high(
                    "artifact.zip.hidden", f"{begin - at} bytes before {shown(member.name)} belong to nothing"
                )
            at = stop
        if at != directory or not is_whole:
            yield high("artifact.zip.hidden", "bytes around the directory belong to nothing")
        has_pickle = any(member.name.endswith("/data.pkl") for member in members)
        is_torch = has_pickle or any(member.name.endswith("/archive_format") for member in members)
        is_script = has_pickle and any(_TORCH_CODE.match(member.name) for member in members)
        yield from _members(source, spans, is_torch, is_script)
        if has_pickle:
            yield from _torch_records(source, spans)


def _prefix(source: Source, spans: list[tuple[int, int, int, Member]]) -> int:
    """Bytes in front that are another scanner's: a TFLite model, which accounts for them up to the archive."""
    if source.read_at(4, 4) == b"TFL3" and spans:
        return min(begin for begin, _, _, _ in spans)
    return 0


def _find_end(source: Source) -> int | None:
    """Offset of the end record that a reader searching from the back finds first, if it is one."""
    size = min(source.size, 22 + 65_535)
    tail = source.read_at(source.size - size, size)
    at = tail.rfind(_END)
    while at >= 0:
        if at + 22 <= len(tail) and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            return source.size - size + at
        at = tail.rfind(_END, 0, at)
    return None


def _last_end(source: Source) -> int | None:
    """The end record as readers take it that do not mind bytes behind it."""
    size = min(source.size, 22 + 65_535)
    at = source.read_at(source.size - size, size).rfind(_END)
    return source.size - size + at if 0 <= at <= size - 22 else None


def _directory(source: Source, end: int) -> tuple[list[Member], int, bool]:
    """The members, the offset of the directory, and whether the end records follow it at once."""
    disk, start_disk, here, count, size, offset, _ = struct.unpack("<HHHHIIH", source.read_at(end + 4, 18))
    tail = end
    locator = source.read_at(end - 20, 20)
    if locator[:4] == _LOCATOR:
        _, at64, _ = struct.unpack("<IQI", locator[4:])
        record = source.read_at(at64, 56)
        if record[:4] != _END64 or len(record) < 56:
            raise Malformed("artifact.zip.end", "the zip64 end record is not where it is said to be")
        length, _, _, disk64, start64, here64, count64, size64, offset64 = struct.unpack(
            "<QHHIIQQQQ", record[4:]
        )
        if at64 + 12 + length != end - 20 or disk64 or start64 or here64 != count64:
            raise Malformed("artifact.zip.end", "the zip64 end record contradicts itself")
        pairs = ((count, count64, 0xFFFF), (size, size64, 0xFFFFFFFF), (offset, offset64, 0xFFFFFFFF))
        if any(short not in (long, mark) for short, long, mark in pairs):
            raise Malformed("artifact.zip.end", "the two end records disagree")
        here, count, size, offset, tail = here64, count64, size64, offset64, at64
    if disk or start_disk or (here != count and here != 0xFFFF):
        raise Malformed("artifact.zip.end", "an archive in several parts")
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        raise Malformed("artifact.zip.count", f"{count} members are more than any model has")
    if offset + size > tail:
        raise Malformed("artifact.zip.end", "the directory ends behind the end record")
    members = list(_entries(source.read_at(offset, size), count))
    return members, offset, offset + size == tail


def _entries(raw: bytes, count: int) -> Iterator[Member]:
    at = 0
    for _ in range(count):
        if raw[at : at + 4] != b"PK\x01\x02" or at + 46 > len(raw):
            raise Malformed(
                "artifact.zip.directory", "the directory holds fewer members than the end record says"
            )
        made, _, flags, method, _, _, crc, packed, size, n, extra, comment, _, _, outer, local = (
            struct.unpack("<HHHHHHIIIHHHHHII", raw[at + 4 : at + 46])
        )
        name = raw[at + 46 : at + 46 + n]
        fields = raw[at + 46 + n : at + 46 + n + extra]
        at += 46 + n + extra + comment
        packed, size, local = _zip64(fields, packed, size, local)
        _unicode_name(fields, name, flags)
        mode = outer >> 16 if made >> 8 == 3 else 0
        yield Member(_text(name, flags), flags, method, crc, packed, size, local, mode)
    if at != len(raw):
        raise Malformed("artifact.zip.directory", "the directory holds more than the end record says")


def _zip64(fields: bytes, packed: int, size: int, local: int) -> tuple[int, int, int]:
    """The 64-bit values of the extra field, in the order of APPNOTE 4.5.3."""
    at = 0
    while at + 4 <= len(fields):
        kind, length = struct.unpack("<HH", fields[at : at + 4])
        value = fields[at + 4 : at + 4 + length]
        at += 4 + length
        if kind != 1:
            continue
        numbers = [int.from_bytes(value[i : i + 8], "little") for i in range(0, len(value) // 8 * 8, 8)]
        wanted = [item == 0xFFFFFFFF for item in (size, packed, local)]
        if len(numbers) < sum(wanted):
            raise Malformed("artifact.zip.directory", "a zip64 field is too short")
        size = numbers.pop(0) if wanted[0] else size
        packed = numbers.pop(0) if wanted[1] else packed
        local = numbers.pop(0) if wanted[2] else local
    return packed, size, local


def _unicode_name(fields: bytes, name: bytes, flags: int) -> None:
    """Info-ZIP's Unicode path (0x7075) renames the member for those readers that know the field."""
    at = 0
    while at + 4 <= len(fields):
        kind, length = struct.unpack("<HH", fields[at : at + 4])
        value = fields[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == 0x7075 and value[5:] not in (name, _text(name, flags).encode()):
            raise Malformed("artifact.zip.disagree", f"{shown(_text(name, flags))} has a second name")


def _text(name: bytes, flags: int) -> str:
    try:
        return name.decode("utf-8" if flags & 0x800 else "ascii")
    except UnicodeDecodeError:
        return name.decode("cp437")


def _names(members: list[Member]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for member in members:
        name = shown(member.name)
        if member.name.casefold() in seen:
            yield high("artifact.zip.duplicate", f"two members have the name {name}", f"!{name}")
        seen[member.name.casefold()] = member.name
        if reason := unsafe_path(member.name):
            yield high("artifact.zip.slip", f"the member {name} {reason}", f"!{name}")
        if member.mode & 0o170000 not in (0, 0o100000, 0o040000):
            yield high("artifact.zip.link", f"the member {name} is a link or a device", f"!{name}")


def _local(source: Source, member: Member, directory: int) -> tuple[int, int]:
    """Start of the data and end of the member (its descriptor included); checked against the directory."""
    raw = source.read_at(member.local, 30)
    name = shown(member.name)
    if raw[:4] != b"PK\x03\x04" or len(raw) < 30:
        raise Malformed("artifact.zip.local", f"there is no member where {name} should be", where=f"!{name}")
    _, flags, method, _, _, crc, packed, size, n, extra = struct.unpack("<HHHHHIIIHH", raw[4:])
    rest = source.read_at(member.local + 30, n + extra)
    if flags & 8 == 0 or packed == 0xFFFFFFFF or size == 0xFFFFFFFF:
        packed, size, _ = (
            _zip64(rest[n:], packed, size, 0) if 0xFFFFFFFF in (packed, size) else (packed, size, 0)
        )
    described = flags & 8 and (crc, packed, size) == (0, 0, 0)
    same = described or (crc, packed, size) == (member.crc, member.packed, member.size)
    if (
        (_text(rest[:n], flags), method, flags & 0x841) != (member.name, member.method, member.flags & 0x841)
        or (flags ^ member.flags) & ~0x6
        or not same
    ):
        raise Malformed(
            "artifact.zip.disagree", f"header and directory disagree about {name}", where=f"!{name}"
        )
    start = member.local + 30 + n + extra
    stop = start + member.packed
    if flags & 8:
        stop += _descriptor(source, stop, member)
    if stop > directory:
        raise Malformed("artifact.zip.bounds", f"{name} ends inside the directory", where=f"!{name}")
    return start, stop


def _descriptor(source: Source, at: int, member: Member) -> int:
    """Length of the data descriptor: with or without signature, 32 or 64 bits."""
    raw = source.read_at(at, 24)
    for signature in (b"PK\x07\x08", b""):
        for form in ("<IQQ", "<III"):
            expected = signature + struct.pack("<I", member.crc)
            fits = form == "<IQQ" or (member.packed | member.size) < 1 << 32
            if fits and raw.startswith(expected + struct.pack(form, 0, member.packed, member.size)[4:]):
                return len(signature) + struct.calcsize(form)
    raise Malformed(
        "artifact.zip.disagree", f"the descriptor of {shown(member.name)} disagrees with the directory"
    )


def _members(
    source: Source, spans: list[tuple[int, int, int, Member]], is_torch: bool, is_script: bool
) -> Iterator[Seen]:
    unpacked = 0
    for _, _, start, member in spans:
        name = shown(member.name, 200)
        kind = _script_kind(member.name) if is_script else ""
        if member.flags & 0x2061:
            yield Gap(
                "artifact.zip.encrypted", f"{name} is encrypted or patched", f"!{name}", "unlock it first"
            )
            continue
        if member.name.endswith("/") and not member.size:
            continue
        if member.method == 0:
            if member.packed != member.size:
                raise Malformed(
                    "artifact.zip.disagree", f"{name} is stored but has two sizes", where=f"!{name}"
                )
            inner: Any = Window(member.name, source, start, member.size)
            # torch does not check its raw storages, and its writer may leave their checksums out.
            raw = is_torch and _TORCH_RAW.match(member.name) is not None
            if not raw and _crc(inner) != member.crc:
                yield high("artifact.zip.crc", f"the checksum of {name} is wrong", f"!{name}")
            note = is_torch and member.size <= 64 and _TORCH_NOTE.match(member.name) is not None
            yield Inner(name, inner, guess=raw or note, kind=kind)
            continue
        if member.method not in (8, 12, 14):
            message = f"{name} uses the compression method {member.method}"
            yield Gap("artifact.zip.method", message, f"!{name}", "pack it again with deflate")
            continue
        unpacked += member.size
        ratio = member.size / max(member.packed, 16)
        is_bomb = ratio > MAX_RATIO or (ratio > BOMB_RATIO and member.size > BOMB_SIZE)
        if is_bomb or unpacked > MAX_UNPACKED:
            yield high(
                "artifact.zip.bomb", f"{name} unpacks from {member.packed} to {member.size} bytes", f"!{name}"
            )
            return
        yield from _unpack(Window(member.name, source, start, member.packed), member, name, kind)


def _torch_records(source: Source, spans: list[tuple[int, int, int, Member]]) -> Iterator[Seen]:
    """What `data.pkl` says of its storages, against the members that hold them."""
    records = {member.name: member.size for _, _, _, member in spans}
    for _, _, start, member in spans:
        if member.name.endswith("/data.pkl") and member.method == 0:
            window = Window(member.name, source, start, member.size)
            yield from record_findings(records, member.name.removesuffix("/data.pkl"), window)


def _script_kind(name: str) -> str:
    if _TORCH_CODE.match(name):
        return "torchscript"
    return "torchscript-pickle" if _TORCH_PICKLE.match(name) else ""


def _crc(source: Source) -> int:
    crc = 0
    for data in chunks(source):
        crc = zlib.crc32(data, crc)
    return crc


def _unpack(packed: Window, member: Member, name: str, kind: str) -> Iterator[Seen]:
    engine: Any = zlib.decompressobj(-15) if member.method == 8 else bz2.BZ2Decompressor()
    start = 0
    if member.method == 14:
        engine, start = _zip_lzma(packed)
    spool, crc = Spool(member.name), 0
    try:
        for data in chunks(packed, start):
            while data and spool.size <= member.size:
                piece = engine.decompress(data, 1 << 20)
                crc = zlib.crc32(piece, crc)
                spool.write(piece)
                data = engine.unconsumed_tail if member.method == 8 else b""
                if member.method != 8:
                    while not engine.needs_input and not engine.eof and spool.size <= member.size:
                        piece = engine.decompress(b"", 1 << 20)
                        crc = zlib.crc32(piece, crc)
                        spool.write(piece)
    except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError):
        yield Gap("artifact.zip.damaged", f"{name} cannot be unpacked", f"!{name}", "get the file again")
        yield Inner(name, spool, guess=True)
        return
    if spool.size != member.size or crc != member.crc:
        yield high(
            "artifact.zip.crc", f"{name} unpacks to something other than the directory says", f"!{name}"
        )
    yield Inner(name, spool, kind=kind)


def _zip_lzma(packed: Window) -> tuple[Any, int]:
    """APPNOTE 5.8.8: two bytes version, two bytes length of the properties, then the properties."""
    head = packed.read_at(0, 9)
    if len(head) < 9 or head[2:4] != b"\x05\x00":
        raise Malformed("artifact.zip.damaged", "LZMA properties that are not understood")
    code, size = head[4], int.from_bytes(head[5:9], "little")
    if (
        code >= 225 or code % 9 + code // 9 % 5 > 4 or not 4096 <= size <= 64 << 20
    ):  # lc + lp, as liblzma wants
        raise Malformed("artifact.zip.damaged", "LZMA properties that are not understood")
    chain = [
        {"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": code % 9, "lp": code // 9 % 5, "pb": code // 45}
    ]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain), 9
