"""HDF5 groups: their links, from symbol tables and from link messages, near by or in a fractal heap.

Source: HDF5 File Format Specification 3.0, sections III.A to III.D, III.G and IV.A.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from garrison.artifacts.scanners.hdf5_dense import heap_items
from garrison.artifacts.scanners.hdf5_file import Cursor, Hdf5File, Message, bad
from garrison.artifacts.scanners.hdf5_values import local_heap_text, named

HARD, SOFT, EXTERNAL = 0, 1, 64
MAX_LINKS = 200_000  # of one group; weights have some thousands
MAX_TREE = 12  # levels of a B-tree; five hold more links than the limit


@dataclass(frozen=True, slots=True)
class Link:
    """`address` of an object header, for a hard link; `target` for the others."""

    name: str
    kind: int
    address: int = 0
    target: str = ""


def links(file: Hdf5File, message: Message) -> Iterator[Link]:
    """The links that one message of a group's header stands for."""
    if message.kind == 0x11:
        cursor = Cursor(message.body)
        tree, heap = file.address(cursor), file.address(cursor)
        if tree is not None and heap is not None:
            yield from _symbols(file, tree, heap)
    elif message.kind == 6:
        yield link_of(file, message.body)
    elif message.kind == 2:
        cursor = Cursor(message.body)
        cursor.take(1)
        flags = cursor.number(1)
        cursor.take(8 if flags & 1 else 0)
        heap, tree = file.address(cursor), file.address(cursor)
        if heap is not None and tree is not None:
            for body in heap_items(file, heap, tree):
                yield link_of(file, body)


def link_of(file: Hdf5File, body: bytes) -> Link:
    cursor = Cursor(body)
    version, flags = cursor.number(1), cursor.number(1)
    if version != 1 or flags & 0xE0:
        raise bad("a link message that is not one")
    kind = cursor.number(1) if flags & 8 else HARD
    cursor.take((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    name = named(cursor.take(cursor.number(1 << (flags & 3))))
    if kind == HARD:
        address = file.address(cursor)
        if address is None:
            raise bad("a link to nowhere")
        return Link(name, kind, address)
    value = cursor.take(cursor.number(2))
    if kind == EXTERNAL:
        parts = value[1:].split(b"\0")
        return Link(name, kind, target=" in ".join(named(part) for part in parts[1::-1]))
    return Link(name, kind, target=named(value))


def _symbols(file: Hdf5File, tree: int, heap: int) -> Iterator[Link]:
    seen: set[int] = set()
    stack = [(tree, MAX_TREE)]
    count = 0
    while stack:
        address, depth = stack.pop()
        if address in seen or depth == 0 or len(seen) > MAX_LINKS:
            raise bad("a tree of links that is not a tree")
        seen.add(address)
        if file.read(address, 4) == b"TREE":
            stack.extend((child, depth - 1) for child in tree_children(file, address, 0))
            continue
        head = Cursor(file.read(address, 8))
        if head.take(4) != b"SNOD":
            raise bad(f"there is no symbol table at {address}")
        head.take(2)
        entries = head.number(2)
        width = 2 * file.offset_size + 24
        cursor = Cursor(file.read(address + 8, entries * width))
        for _ in range(entries):
            count += 1
            if count > MAX_LINKS:
                raise bad(f"a group with more than {MAX_LINKS} links")
            yield _symbol(file, cursor, heap)


def _symbol(file: Hdf5File, cursor: Cursor, heap: int) -> Link:
    name = local_heap_text(file, heap, cursor.number(file.offset_size))
    address, cached = file.address(cursor), cursor.number(4)
    cursor.take(4)
    scratch = Cursor(cursor.take(16))
    if cached == 2:
        return Link(name, SOFT, target=local_heap_text(file, heap, scratch.number(4)))
    if address is None or cached > 2:
        raise bad("a symbol table entry that is not one")
    return Link(name, HARD, address)


def tree_children(file: Hdf5File, address: int, kind: int, key: int = 0) -> list[int]:
    """Addresses below one node of a version 1 B-tree. `key` is the size of a key; 0 means a length."""
    size = 8 + 2 * file.offset_size
    head = Cursor(file.read(address, size))
    if head.take(4) != b"TREE" or head.number(1) != kind:
        raise bad(f"there is no B-tree at {address}")
    head.take(1)
    used = head.number(2)
    width = (key or file.length_size) + file.offset_size
    body = Cursor(file.read(address + size, used * width))
    found = []
    for _ in range(used):
        body.take(key or file.length_size)
        child = file.address(body)
        if child is None:
            raise bad("a B-tree that leads nowhere")
        found.append(child)
    return found
