"""HDF5 below its objects: superblock, object headers and their messages, global heap.

Source: HDF5 File Format Specification 3.0, sections II, III.E and IV.A.
Every address and length is checked against the end that the superblock states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from garrison.artifacts.scanners.base import Malformed, Source
from garrison.artifacts.scanners.hdf5_checksum import lookup3

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_USER_BLOCK = 1 << 20  # the signature stands at 0, 512, 1024, ...; real user blocks have 512 bytes
MAX_MESSAGES = 100_000  # of one object; a group with links in its header has some thousands
MAX_CHUNKS = 4_096  # continuations of one object header
MAX_READ = 64 << 20  # one piece of metadata; a model_config has at most a few megabytes
READ_AGAIN = (
    4  # metadata of a file may be read this many times its size, and BUDGET more: pointers may coincide
)
BUDGET = 256 << 20
MAX_HEAP_OBJECTS = 65_536  # the index of a global heap has 16 bits
_SIZES = frozenset({2, 4, 8})


class Unsupported(Exception):
    """A part of the format that is legal and not understood here: the file is incomplete."""


def bad(message: str) -> Malformed:
    return Malformed("artifact.hdf5.structure", message)


def find_signature(head: bytes, source: Source) -> int | None:
    """Where the superblock begins, behind a user block perhaps."""
    if head.startswith(SIGNATURE):
        return 0
    at = 512
    while at <= MAX_USER_BLOCK and at + 8 <= source.size:
        if source.read_at(at, 8) == SIGNATURE:
            return at
        at *= 2
    return None


@dataclass(frozen=True, slots=True)
class Message:
    """One header message. `is_shared` means the body points elsewhere."""

    kind: int
    is_shared: bool
    body: bytes


@dataclass(slots=True)
class Cursor:
    """Little-endian fields of a piece of metadata that has been read whole."""

    data: bytes
    at: int = 0

    def take(self, length: int) -> bytes:
        if length < 0 or self.at + length > len(self.data):
            raise bad("a field ends behind the structure that holds it")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")

    def text(self, end: bytes = b"\0") -> bytes:
        stop = self.data.find(end, self.at)
        if stop < 0:
            raise bad("a name without an end")
        name = self.data[self.at : stop]
        self.at = stop + len(end)
        return name

    @property
    def left(self) -> int:
        return len(self.data) - self.at


@dataclass(slots=True)
class Hdf5File:
    """Addresses are relative to `base`, the place of the superblock. `end` is where the file ends by its own word."""

    source: Source
    base: int
    offset_size: int = 8
    length_size: int = 8
    root: int = 0
    end: int = 0
    version: int = 0
    taken: int = 0
    heaps: dict[int, dict[int, tuple[int, int]]] = field(default_factory=dict)

    def read(self, address: int, length: int) -> bytes:
        """Exactly `length` bytes; `Malformed` when they are not all inside the file."""
        if length < 0 or length > MAX_READ or address < 0 or address + length > self.end:
            raise bad(f"{length} bytes at {address} are not inside the file")
        self.taken += length
        if self.taken > BUDGET + READ_AGAIN * self.source.size:
            raise bad("the same bytes are referred to again and again")
        data = self.source.read_at(self.base + address, length)
        if len(data) != length:
            raise EOFError(f"the file ended at {address}")
        return data

    def address(self, cursor: Cursor) -> int | None:
        """An address, or None when it is undefined (all bits set)."""
        value = cursor.number(self.offset_size)
        return None if value == (1 << (8 * self.offset_size)) - 1 else value

    def length(self, cursor: Cursor) -> int:
        return cursor.number(self.length_size)

    # -- superblock ------------------------------------------------------------------------------

    @staticmethod
    def opened(source: Source, base: int) -> Hdf5File:
        raw = source.read_at(base, 256)
        if len(raw) < 48:
            raise EOFError("the superblock is cut")
        file = Hdf5File(source, base)
        file.version = raw[8]
        if file.version in (0, 1):
            file._superblock_old(Cursor(raw))
        elif file.version in (2, 3):
            file._superblock_new(Cursor(raw))
        else:
            raise Unsupported(f"a superblock of version {file.version}")
        return file

    def _sizes(self, offset_size: int, length_size: int) -> None:
        if offset_size not in _SIZES or length_size not in _SIZES:
            raise bad("addresses or lengths of a size that there is not")
        self.offset_size, self.length_size = offset_size, length_size

    def _bases(self, stated: int | None) -> None:
        if stated is not None and stated not in (0, self.base):
            raise bad(f"the superblock at {self.base} says that it stands at {stated}")
        if stated == 0:
            self.base = 0  # addresses count from the start of the file, user block included

    def _superblock_old(self, cursor: Cursor) -> None:
        cursor.take(13)
        self._sizes(cursor.number(1), cursor.number(1))
        cursor.take(1 + 2 + 2 + 4)
        if self.version == 1:
            cursor.take(4)
        stated = self.address(cursor)
        self.address(cursor)  # free space: regenerated by the library
        end, driver = self.address(cursor), self.address(cursor)
        if driver is not None:
            raise Unsupported("a file that is split over several (a driver block)")
        cursor.take(self.offset_size)
        root = self.address(cursor)
        self._finish(stated, end, root)

    def _superblock_new(self, cursor: Cursor) -> None:
        cursor.take(9)
        self._sizes(cursor.number(1), cursor.number(1))
        cursor.take(1)
        stated, extension = self.address(cursor), self.address(cursor)
        end, root = self.address(cursor), self.address(cursor)
        if lookup3(cursor.data[: cursor.at]) != cursor.number(4):
            raise bad("the checksum of the superblock is wrong")
        self._finish(stated, end, root)
        if extension is not None:
            for message in self.messages(extension):
                if message.kind == 0x14:
                    raise Unsupported("a file that is split over several (a driver message)")

    def _finish(self, stated: int | None, end: int | None, root: int | None) -> None:
        if end is None or root is None:
            raise bad("a superblock without a root or an end")
        self._bases(stated)
        if self.base and self.base + end > self.source.size:
            end -= self.base  # the library counts the end from the start of the file
        self.end, self.root = end, root
        if self.base + end > self.source.size:
            raise EOFError(f"the file says it has {end} bytes")

    # -- object headers --------------------------------------------------------------------------

    def messages(self, address: int) -> Iterator[Message]:
        """The messages of one object header, its continuations included."""
        if self.read(address, 4) == b"OHDR":
            yield from self._messages_new(address)
        else:
            yield from self._messages_old(address)

    def _messages_old(self, address: int) -> Iterator[Message]:
        head = Cursor(self.read(address, 16))
        version, _, count = head.number(1), head.number(1), head.number(2)
        head.take(4)
        size = head.number(4)
        if version != 1:
            raise bad(f"there is no object header at {address}")
        chunks, seen = [(address + 16, size)], 0
        for index, (start, length) in enumerate(_bounded(chunks)):
            cursor = Cursor(self.read(start, length))
            while cursor.left >= 8:
                kind, extent, flags = cursor.number(2), cursor.number(2), cursor.number(1)
                cursor.take(3)
                body = cursor.take(extent)
                seen += 1
                if kind == 0x10:
                    chunks.append(self._continuation(body))
                else:
                    yield Message(kind, bool(flags & 2), body)
            if index > MAX_CHUNKS:
                break
        if seen != count:
            raise bad("an object header holds fewer messages than it says")

    def _messages_new(self, address: int) -> Iterator[Message]:
        head = self.read(address, 6)
        version, flags = head[4], head[5]
        if version != 2 or flags & 0xC0:
            raise bad(f"there is no object header at {address}")
        before = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(self.read(address + before, width), "little")
        self._checked(address, before + width + size)
        chunks, seen = [(address + before + width, size)], 0
        for start, length in _bounded(chunks):
            cursor = Cursor(self.read(start, length))
            while cursor.left >= 4 + (2 if flags & 4 else 0):
                kind, extent, marks = cursor.number(1), cursor.number(2), cursor.number(1)
                cursor.take(2 if flags & 4 else 0)
                body = cursor.take(extent)
                seen += 1
                if seen > MAX_MESSAGES:
                    raise bad(f"an object with more than {MAX_MESSAGES} messages")
                if kind == 0x10:
                    place, extent = self._continuation(body)
                    if self.read(place, 4) != b"OCHK" or extent < 8:
                        raise bad("the continuation of an object header is not one")
                    self._checked(place, extent - 4)
                    chunks.append((place + 4, extent - 8))
                else:
                    yield Message(kind, bool(marks & 2), body)

    def _checked(self, address: int, length: int) -> None:
        """The library refuses a header whose checksum is wrong; so does every reader that must agree with it."""
        raw = self.read(address, length + 4)
        if lookup3(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            raise bad(f"the checksum of the object header at {address} is wrong")

    def _continuation(self, body: bytes) -> tuple[int, int]:
        cursor = Cursor(body)
        address = self.address(cursor)
        if address is None:
            raise bad("an object header that continues nowhere")
        return address, self.length(cursor)

    # -- global heap -----------------------------------------------------------------------------

    def heap_object(self, address: int, index: int) -> tuple[int, int]:
        """Address and size of an object in the global heap."""
        if address not in self.heaps:
            self.heaps[address] = self._heap(address)
        if index not in self.heaps[address]:
            raise bad("a reference to nothing in the global heap")
        return self.heaps[address][index]

    def _heap(self, address: int) -> dict[int, tuple[int, int]]:
        head = Cursor(self.read(address, 8 + self.length_size))
        if head.take(4) != b"GCOL" or head.number(1) != 1:
            raise bad(f"there is no global heap at {address}")
        head.take(3)
        end = address + self.length(head)
        at, found = address + 8 + self.length_size, dict[int, tuple[int, int]]()
        while at + 8 + self.length_size <= end:
            entry = Cursor(self.read(at, 8 + self.length_size))
            index = entry.number(2)
            entry.take(6)
            size = self.length(entry)
            at += 8 + self.length_size
            if index == 0:
                break
            if at + size > end or len(found) >= MAX_HEAP_OBJECTS or index in found:
                raise bad("an object in the global heap that leaves it or stands twice")
            found[index] = (at, size)
            at += size + -size % 8
        return found


def _bounded(chunks: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The chunks of a header, those found on the way included; one that stands twice is a loop."""
    seen: set[int] = set()
    at = 0
    while at < len(chunks):
        if chunks[at][0] in seen or at > MAX_CHUNKS:
            raise bad("an object header that continues in a circle")
        seen.add(chunks[at][0])
        yield chunks[at]
        at += 1
