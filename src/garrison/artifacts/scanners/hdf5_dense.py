"""HDF5 dense storage: the messages of links or attributes that lie in a fractal heap behind a B-tree.

Source: HDF5 File Format Specification 3.0, sections III.A.2 and III.G.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from garrison.artifacts.scanners.hdf5_file import Cursor, Hdf5File, Unsupported, bad

MAX_RECORDS = 200_000
MAX_TREE = 12
# where the heap id begins and how long it is, by the type of the record
_IDS = {5: (4, 7), 6: (8, 7), 8: (0, 8), 9: (0, 8)}


def heap_items(file: Hdf5File, heap_address: int, tree_address: int) -> Iterator[bytes]:
    """The message bodies in a heap, in the order of the tree that indexes them."""
    heap = _Heap.opened(file, heap_address)
    for record in _records(file, tree_address):
        yield heap.item(file, record)


def _records(file: Hdf5File, address: int) -> Iterator[bytes]:
    head = Cursor(file.read(address, 16 + file.offset_size + 2 + file.length_size))
    if head.take(4) != b"BTHD" or head.number(1) != 0:
        raise bad(f"there is no B-tree at {address}")
    kind, node, width, depth = head.number(1), head.number(4), head.number(2), head.number(2)
    head.take(2)
    root, count = file.address(head), head.number(2)
    if kind not in _IDS or depth > MAX_TREE or node < 32 or width < sum(_IDS[kind]):
        raise bad("a B-tree that is not one of links or attributes")
    if root is None:
        return
    tree = _Tree.shaped(file, node, width, depth)
    first, length = _IDS[kind]
    seen: set[int] = set()
    stack = [(root, count, depth)]
    total = 0
    while stack:
        at, used, level = stack.pop()
        total += used
        if at in seen or total > MAX_RECORDS:
            raise bad("a tree of links that is not a tree")
        seen.add(at)
        cursor = Cursor(file.read(at, node))
        if cursor.take(4) != (b"BTIN" if level else b"BTLF") or used > tree.most[level]:
            raise bad(f"there is no node of a B-tree at {at}")
        cursor.take(2)
        for _ in range(used):
            yield cursor.take(width)[first : first + length]
        for _ in range(used + 1 if level else 0):
            child, below = file.address(cursor), cursor.number(tree.count_width)
            cursor.take(tree.total_width[level])
            if child is None:
                raise bad("a B-tree that leads nowhere")
            stack.append((child, below, level - 1))


@dataclass(frozen=True, slots=True)
class _Tree:
    """How many records a node of each level holds, and how wide its counts are."""

    most: tuple[int, ...]
    count_width: int
    total_width: tuple[int, ...]

    @staticmethod
    def shaped(file: Hdf5File, node: int, width: int, depth: int) -> _Tree:
        most = [(node - 10) // width]
        count_width = _width(most[0])
        total, totals = most[0], [0]
        for level in range(1, depth + 1):
            extra = _width(total) if level > 1 else 0
            pointer = file.offset_size + count_width + extra
            most.append(max(0, (node - 10 - pointer) // (width + pointer)))
            total = most[level] + (most[level] + 1) * total
            totals.append(extra)
        return _Tree(tuple(most), count_width, tuple(totals))


def _width(value: int) -> int:
    return (max(value, 1).bit_length() + 7) // 8


@dataclass(frozen=True, slots=True)
class _Heap:
    offset_width: int
    length_width: int
    table_width: int
    start: int
    largest: int
    root: int
    rows: int
    bits: int

    @staticmethod
    def opened(file: Hdf5File, address: int) -> _Heap:
        length, offset = file.length_size, file.offset_size
        head = Cursor(file.read(address, 22 + 12 * length + 3 * offset))
        if head.take(4) != b"FRHP" or head.number(1) != 0:
            raise bad(f"there is no fractal heap at {address}")
        head.take(2)
        if head.number(2):
            raise Unsupported("a fractal heap that is filtered")
        head.take(1)
        managed = head.number(4)
        head.take(length + offset + length + offset + 8 * length)
        table, start, largest = head.number(2), file.length(head), file.length(head)
        bits = head.number(2)
        head.take(2)
        root, rows = file.address(head), head.number(2)
        if root is None:
            raise bad("a fractal heap without a root")
        if not 1 <= table <= 1024 or not 1 <= bits <= 64 or start < 1 or largest < start:
            raise bad("a fractal heap of impossible sizes")
        return _Heap((bits + 7) // 8, _width(min(largest, managed)), table, start, largest, root, rows, bits)

    def item(self, file: Hdf5File, identifier: bytes) -> bytes:
        kind = identifier[0] >> 4 & 3
        if identifier[0] >> 6 or kind == 3:
            raise bad("an object of a fractal heap of no known kind")
        if kind == 2:
            return identifier[1 : 2 + (identifier[0] & 15)]
        if kind == 1:
            raise Unsupported("an object too large for its fractal heap")
        cursor = Cursor(identifier, 1)
        at, size = cursor.number(self.offset_width), cursor.number(self.length_width)
        place, left = self._find(file, at)
        if size > left:
            raise bad("an object that leaves its fractal heap")
        return file.read(place, size)

    def _find(self, file: Hdf5File, at: int) -> tuple[int, int]:
        """The file address of a heap offset, and how many bytes of its block follow."""
        address, rows, base = self.root, self.rows, 0
        if rows == 0:
            return self._inside(file, address, at, self.start)
        for _ in range(MAX_TREE):
            row, size, first = self._row(at - base, rows)
            column = (at - base - first) // size
            entry = row * self.table_width + column
            head = 5 + file.offset_size + self.offset_width
            if file.read(address, 4) != b"FHIB":
                raise bad(f"there is no block of a fractal heap at {address}")
            child = file.address(
                Cursor(file.read(address + head + entry * file.offset_size, file.offset_size))
            )
            if child is None:
                raise bad("an object in a part of a fractal heap that is not there")
            base += first + column * size
            if size <= self.largest:
                return self._inside(file, child, at - base, size)
            address, rows = child, (size // (self.start * self.table_width)).bit_length()
        raise bad("a fractal heap nested too deep")

    def _row(self, at: int, rows: int) -> tuple[int, int, int]:
        """Row, size of its blocks and where it begins, for an offset in an indirect block."""
        first, size = 0, self.start
        for row in range(min(rows, 64)):
            size = self.start if row < 2 else size * 2
            if at < first + size * self.table_width:
                return row, size, first
            first += size * self.table_width
        raise bad("an object behind the end of its fractal heap")

    @staticmethod
    def _inside(file: Hdf5File, address: int, at: int, size: int) -> tuple[int, int]:
        if file.read(address, 4) != b"FHDB" or at >= size:
            raise bad(f"there is no block of a fractal heap at {address}")
        return address + at, size - at
