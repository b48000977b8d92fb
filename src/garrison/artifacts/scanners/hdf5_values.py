"""HDF5 values: data types, shapes, storage layouts, filters and attributes, each from its header message.

Source: HDF5 File Format Specification 3.0, section IV.A.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from garrison.artifacts.scanners.hdf5_file import Cursor, Hdf5File, Unsupported, bad

MAX_NAME = 65_536  # the length of a link's name has 16 bits in most places
MAX_RANK = 32  # H5S_MAX_RANK
MAX_NUMBER = 32  # bytes of one number; extended precision has 16
MAX_FILTERS = 32  # H5Z_MAX_NFILTERS
COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = range(4)
_FIXED, _FLOAT, _TIME, _STRING, _BITS, _OPAQUE, _COMPOUND, _REFERENCE, _ENUM, _VLEN, _ARRAY, _COMPLEX = range(
    12
)
_PROPERTIES = {_FIXED: 4, _FLOAT: 12, _TIME: 2, _STRING: 0, _BITS: 4, _REFERENCE: 0}
MAX_NESTED = 16  # types in types; real ones stay under four


@dataclass(frozen=True, slots=True)
class Kind:
    """A data type: `size` of one element in bytes; `is_vlen` elements point into the global heap."""

    number: int
    size: int
    is_vlen: bool = False
    has_vlen: bool = False

    @property
    def is_bytes(self) -> bool:
        """Elements that may together be a file of another format: bytes, text, opaque."""
        return self.number in (_STRING, _OPAQUE) or (self.number in (_FIXED, _BITS) and self.size == 1)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the elements of a data set are. `chunk` is the extents of one chunk, the element size last."""

    number: int
    address: int | None = None
    size: int = 0
    data: bytes = b""
    chunk: tuple[int, ...] = ()
    index: int = 0


@dataclass(frozen=True, slots=True)
class Attribute:
    name: str
    kind: Kind
    count: int
    data: bytes


def kind_of(body: bytes) -> Kind:
    return _kind(Cursor(body), 0)


def _kind(cursor: Cursor, depth: int) -> Kind:
    first = cursor.number(1)
    bits, size = cursor.number(3), cursor.number(4)
    number, version = first & 15, first >> 4
    if number > _COMPLEX or not 1 <= version <= 5 or (size == 0 and number not in (_STRING, _OPAQUE)):
        raise bad(f"a data type of the class {number} and {size} bytes")
    if number in (_FIXED, _FLOAT, _BITS) and size > MAX_NUMBER:
        raise bad(f"a number of {size} bytes")
    if depth > MAX_NESTED:
        raise bad(f"data types nested deeper than {MAX_NESTED}")
    has_vlen = False
    if number == _OPAQUE:
        cursor.take(bits & 0xFF)
    elif number == _COMPOUND:
        has_vlen = _members(cursor, version, bits & 0xFFFF, size, depth)
    elif number == _ARRAY:
        rank = cursor.number(1)
        cursor.take((3 + 8 * rank) if version < 3 else 4 * rank)
        has_vlen = _kind(cursor, depth + 1).has_vlen
    elif number == _VLEN:
        _kind(cursor, depth + 1)
        return Kind(number, size, is_vlen=depth == 0, has_vlen=True)
    elif number == _ENUM:
        _enumeration(cursor, version, bits & 0xFFFF, depth)
    elif number == _COMPLEX:
        _kind(cursor, depth + 1)
    else:
        cursor.take(_PROPERTIES[number])
    return Kind(number, size, has_vlen=has_vlen)


def _members(cursor: Cursor, version: int, count: int, size: int, depth: int) -> bool:
    """Whether a member of a compound has elements of variable length."""
    found = False
    for _ in range(count):
        _name(cursor, version)
        if version < 3:
            cursor.take(4)
        else:
            cursor.take((size.bit_length() + 7) // 8)
        if version == 1:
            cursor.take(1 + 3 + 4 + 4 + 16)
        found |= _kind(cursor, depth + 1).has_vlen
    return found


def _name(cursor: Cursor, version: int) -> None:
    start = cursor.at
    cursor.text()
    if version < 3:
        cursor.take(-(cursor.at - start) % 8)


def _enumeration(cursor: Cursor, version: int, count: int, depth: int) -> None:
    base = _kind(cursor, depth + 1)
    for _ in range(count):
        _name(cursor, version)
    cursor.take(count * base.size)


def count_of(file: Hdf5File, body: bytes) -> int:
    """How many elements; 0 for the empty shape."""
    cursor = Cursor(body)
    version, rank, flags = cursor.number(1), cursor.number(1), cursor.number(1)
    if version == 1:
        cursor.take(5)
    elif version == 2:
        if cursor.number(1) == 2:
            return 0
    else:
        raise bad(f"a shape of version {version}")
    if rank > MAX_RANK or flags & ~3:
        raise bad(f"a shape of {rank} dimensions")
    count = 1
    for _ in range(rank):
        count *= file.length(cursor)
    return count


def layout_of(file: Hdf5File, body: bytes) -> Layout:
    cursor = Cursor(body)
    version = cursor.number(1)
    if version in (1, 2):
        return _layout_old(file, cursor)
    if version not in (3, 4, 5):
        raise Unsupported(f"a storage layout of version {version}")
    number = cursor.number(1)
    if number == COMPACT:
        return Layout(number, data=cursor.take(cursor.number(2)))
    if number == CONTIGUOUS:
        address = file.address(cursor)
        return Layout(number, address, file.length(cursor))
    if number == VIRTUAL:
        return Layout(number)
    if number != CHUNKED:
        raise bad(f"a storage layout of the class {number}")
    if version == 3:
        rank = cursor.number(1)
        address = file.address(cursor)
        return Layout(number, address, chunk=_extents(cursor, rank, 4))
    flags, rank, width = cursor.number(1), cursor.number(1), cursor.number(1)
    chunk = _extents(cursor, rank, width)
    index = cursor.number(1)
    size = 0
    if index == 1 and flags & 2:
        size = file.length(cursor)
        cursor.take(4)
    elif index == 3:
        cursor.take(1)
    elif index == 4:
        cursor.take(5)
    elif index == 5:
        cursor.take(6)
    return Layout(number, file.address(cursor), size, chunk=chunk, index=index)


def _layout_old(file: Hdf5File, cursor: Cursor) -> Layout:
    rank, number = cursor.number(1), cursor.number(1)
    cursor.take(5)
    address = None if number == COMPACT else file.address(cursor)
    extents = _extents(cursor, rank, 4)
    if number == COMPACT:
        return Layout(number, data=cursor.take(cursor.number(4)))
    if number == CONTIGUOUS:
        size = 1
        for extent in extents:
            size *= extent
        # The element size is not among these extents in version 2; the data type decides.
        return Layout(number, address, -1)
    if number == CHUNKED:
        return Layout(number, address, chunk=extents)
    raise bad(f"a storage layout of the class {number}")


def _extents(cursor: Cursor, rank: int, width: int) -> tuple[int, ...]:
    if rank > MAX_RANK + 1 or not 1 <= width <= 8:
        raise bad(f"a chunk of {rank} dimensions")
    return tuple(cursor.number(width) for _ in range(rank))


def filters_of(body: bytes) -> list[int]:
    """The filters that were applied when writing, in that order."""
    cursor = Cursor(body)
    version, count = cursor.number(1), cursor.number(1)
    if version not in (1, 2) or count > MAX_FILTERS:
        raise bad("a list of filters that is not one")
    cursor.take(6 if version == 1 else 0)
    found = []
    for _ in range(count):
        number = cursor.number(2)
        named = version == 1 or number >= 256
        length = cursor.number(2) if named else 0
        cursor.take(2)
        values = cursor.number(2)
        cursor.take(length + (-length % 8 if version == 1 else 0))
        cursor.take(4 * values + (4 if version == 1 and values % 2 else 0))
        found.append(number)
    return found


def external_files(file: Hdf5File, body: bytes) -> list[str]:
    """The names in an external file list: the data set's bytes are read from there."""
    cursor = Cursor(body)
    cursor.take(4)
    cursor.number(2)
    used = cursor.number(2)
    heap = file.address(cursor)
    names: list[str] = []
    if heap is None:
        return ["(a list without names)"]
    for _ in range(min(used, 64)):
        at = file.length(cursor)
        cursor.take(2 * file.length_size)
        names.append(local_heap_text(file, heap, at))
    return names or ["(an empty list)"]


def local_heap_text(file: Hdf5File, address: int, at: int) -> str:
    head = Cursor(file.read(address, 8 + 2 * file.length_size + file.offset_size))
    if head.take(4) != b"HEAP":
        raise bad(f"there is no local heap at {address}")
    head.take(4)
    size = file.length(head)
    file.length(head)
    data = file.address(head)
    if data is None or at >= size:
        raise bad("a name that is not in its heap")
    for limit in (256, MAX_NAME):
        raw = file.read(data + at, min(size - at, limit))
        if b"\0" in raw:
            return named(Cursor(raw).text())
    raise bad("a name without an end")


def attribute_of(file: Hdf5File, body: bytes, shared: bytes | None = None) -> Attribute:
    """`shared` is the data type message when the attribute only points to it."""
    cursor = Cursor(body)
    version, flags = cursor.number(1), cursor.number(1)
    if version not in (1, 2, 3):
        raise bad(f"an attribute of version {version}")
    sizes = [cursor.number(2) for _ in range(3)]
    cursor.take(1 if version == 3 else 0)
    parts = [cursor.take(size + (-size % 8 if version == 1 else 0))[:size] for size in sizes]
    if version > 1 and flags & 2:
        raise Unsupported("an attribute whose shape is shared")
    name = named(parts[0].split(b"\0")[0])
    kind = kind_of(shared if shared is not None else parts[1])
    count = count_of(file, parts[2])
    if count * kind.size > cursor.left:
        raise bad(f"the attribute {name} is shorter than its shape")
    return Attribute(name, kind, count, cursor.take(count * kind.size))


def shared_address(file: Hdf5File, body: bytes) -> int:
    """The object header that a shared message points to."""
    cursor = Cursor(body)
    version, kind = cursor.number(1), cursor.number(1)
    if version == 1:
        cursor.take(6)
    elif version == 3 and kind == 1:
        raise Unsupported("a message in the shared message heap")
    address = file.address(cursor)
    if address is None or version not in (1, 2, 3):
        raise bad("a shared message that is nowhere")
    return address


def pointers(file: Hdf5File, data: bytes, count: int, size: int) -> Iterator[tuple[int, int]]:
    """Address and size of the global heap objects that elements of variable length point to."""
    for index in range(count):
        cursor = Cursor(data, index * size)
        length = cursor.number(4)
        address, item = file.address(cursor), cursor.number(4)
        if length and address:
            place, whole = file.heap_object(address, item)
            yield place, whole


def named(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
