"""HDF5 files: every object that can be reached, where its data comes from, and the Keras models inside.

A weight file holds numbers and names. What can do more: external files, external links and virtual data
sets read other files of the machine; unknown filters load a library; `model_config` builds Keras layers;
attributes and byte arrays may hold pickles that other programs load.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from garrison.artifacts.scanners.base import (
    Fact,
    Gap,
    Inner,
    Seen,
    Source,
    high,
    shown,
)
from garrison.artifacts.scanners.hdf5_dense import heap_items
from garrison.artifacts.scanners.hdf5_file import (
    Cursor,
    Hdf5File,
    Message,
    Unsupported,
    bad,
    find_signature,
)
from garrison.artifacts.scanners.hdf5_groups import EXTERNAL, HARD, SOFT, links, tree_children
from garrison.artifacts.scanners.hdf5_values import (
    CHUNKED,
    COMPACT,
    CONTIGUOUS,
    VIRTUAL,
    Attribute,
    Kind,
    Layout,
    attribute_of,
    count_of,
    external_files,
    filters_of,
    kind_of,
    layout_of,
    pointers,
    shared_address,
)
from garrison.artifacts.scanners.keras_config import judge_keras_text
from garrison.artifacts.scanners.sources import BytesSource, Window, all_zero

MAX_OBJECTS = 200_000  # groups and data sets; the largest models have some ten thousand
MAX_ATTRIBUTES = 1_000_000
MAX_POINTERS = 4_096  # elements of variable length that are looked into, of one data set
MAX_CHUNKS = 4_096  # chunks of one byte array that are unpacked and looked into
SHORT = 12  # no pickle that calls something is shorter
MAX_CHUNK = 64 << 20
MAX_RATIO = 1_200  # deflate cannot do better than 1,032
BOMB = 64 << 20  # shapes below this harm nobody, whatever is stored
_CORE = frozenset({1, 2, 3, 4, 5, 6, 32000})  # in the library itself, and lzf, which h5py brings
_KNOWN = frozenset({*range(0x19), 0x19, 0x1A}) - {9, 0x14}
FIX_PATH = "store the weights in the file itself and save it again"
FIX_FILTER = "save the file again without compression, or with gzip"
FIX_BOMB = "ask the author; a shape like this fills the memory of whoever loads it"


class Hdf5:
    format = "hdf5"

    def recognises(self, head: bytes, source: Source) -> bool:
        return find_signature(head, source) is not None

    def scan(self, source: Source) -> Iterator[Seen]:
        base = find_signature(source.read_at(0, 8), source) or 0
        try:
            file = Hdf5File.opened(source, base)
            yield from _around(file, base)
            yield from _Walk(file).objects()
        except Unsupported as error:
            yield Gap("artifact.hdf5.unsupported", f"{error} is not understood", fix=FIX_FILTER)


def _around(file: Hdf5File, signature: int) -> Iterator[Seen]:
    """The user block in front and what follows the end."""
    source = file.source
    if signature and not all_zero(source, 0, signature):
        yield Inner("userblock", Window("userblock", source, 0, signature))
    end = file.base + file.end
    if end < source.size:
        if not all_zero(source, end, source.size):
            yield high("artifact.hdf5.trailing", f"{source.size - end} bytes follow the end of the file")
        yield Inner("trailing", Window("trailing", source, end, source.size - end), guess=True)


class _Walk:
    """One pass over the objects, each once. Cycles of hard links are legal."""

    def __init__(self, file: Hdf5File) -> None:
        self.file = file
        self.attributes = 0

    def objects(self) -> Iterator[Seen]:
        seen = {self.file.root}
        queue = [(self.file.root, "")]
        while queue:
            address, path = queue.pop()
            messages = list(self.file.messages(address))
            for message in messages:
                for link in links(self.file, message):
                    place = f"{path}/{link.name}"
                    if link.kind == HARD and link.address not in seen:
                        seen.add(link.address)
                        queue.append((link.address, place))
                    elif link.kind == EXTERNAL:
                        text = f"the link {shown(place)} leads to {shown(link.target)}"
                        yield high("artifact.hdf5.external", text, ":" + shown(place), FIX_PATH)
                    elif link.kind not in (HARD, SOFT):
                        text = f"the link {shown(place)} is of the kind {link.kind}"
                        yield Gap("artifact.hdf5.unsupported", text, ":" + shown(place), FIX_PATH)
            if len(seen) > MAX_OBJECTS:
                raise bad(f"more than {MAX_OBJECTS} objects")
            yield from self._object(messages, path or "/")

    def _object(self, messages: list[Message], path: str) -> Iterator[Seen]:
        where = ":" + shown(path)
        bodies: dict[int, bytes] = {}
        for message in messages:
            if message.kind == 0xC:
                shape = self._resolved(message) if message.is_shared else message.body
                yield from self._attribute(shape, path)
            elif message.kind == 0x15:
                for body in self._dense(message.body):
                    yield from self._attribute(body, path)
            elif message.kind not in _KNOWN:
                yield Gap(
                    "artifact.hdf5.unsupported", f"a message of the kind {message.kind}", where, FIX_FILTER
                )
            elif message.kind in bodies and message.kind in (1, 3, 7, 8, 0xB):
                raise bad(f"{shown(path)} says twice what it is")
            else:
                bodies[message.kind] = self._resolved(message) if message.is_shared else message.body
        if 7 in bodies:
            names = ", ".join(shown(name) for name in external_files(self.file, bodies[7]))
            message_text = f"the data of {shown(path)} is read from {names}"
            yield high("artifact.hdf5.external", message_text, where, FIX_PATH)
        if 8 in bodies:
            if 1 not in bodies or 3 not in bodies:
                raise bad(f"{shown(path)} has data without a shape or a type")
            yield from self._data_set(bodies, path)

    def _resolved(self, message: Message) -> bytes:
        address = shared_address(self.file, message.body)
        for other in self.file.messages(address):
            if other.kind == message.kind and not other.is_shared:
                return other.body
        raise bad("a shared message that is not there")

    def _dense(self, body: bytes) -> Iterator[bytes]:
        cursor = Cursor(body)
        cursor.take(1)
        flags = cursor.number(1)
        cursor.take(2 if flags & 1 else 0)
        heap, tree = self.file.address(cursor), self.file.address(cursor)
        if heap is not None and tree is not None:
            yield from heap_items(self.file, heap, tree)

    # -- attributes ------------------------------------------------------------------------------

    def _attribute(self, body: bytes, path: str) -> Iterator[Seen]:
        self.attributes += 1
        if self.attributes > MAX_ATTRIBUTES:
            raise bad(f"more than {MAX_ATTRIBUTES} attributes")
        attribute = attribute_of(self.file, body, self._shared_type(body))
        where = f":{shown(path)}@{shown(attribute.name)}"
        for data in self._contents(attribute):
            yield from _judge_bytes(data, attribute.name, where)

    def _shared_type(self, body: bytes) -> bytes | None:
        """The committed data type that an attribute of version 2 or 3 points to."""
        if len(body) < 8 or body[0] == 1 or not body[1] & 1:
            return None
        cursor = Cursor(body, 2)
        name, kind = cursor.number(2), cursor.number(2)
        cursor.take(2 + (1 if body[0] == 3 else 0) + name)
        return self._resolved(Message(3, True, cursor.take(kind)))

    def _contents(self, attribute: Attribute) -> Iterator[bytes]:
        kind = attribute.kind
        if kind.is_vlen:
            if attribute.count > MAX_POINTERS:
                raise bad(f"more than {MAX_POINTERS} texts in the attribute {shown(attribute.name)}")
            for place, size in pointers(self.file, attribute.data, attribute.count, kind.size):
                yield self.file.read(place, size)
        elif kind.is_bytes and attribute.data:
            yield attribute.data

    # -- data sets -------------------------------------------------------------------------------

    def _data_set(self, bodies: dict[int, bytes], path: str) -> Iterator[Seen]:
        where = ":" + shown(path)
        kind, count = kind_of(bodies[3]), count_of(self.file, bodies[1])
        layout = layout_of(self.file, bodies[8])
        applied = filters_of(bodies[0xB]) if 0xB in bodies else []
        yield Fact("tensor", path)
        for number in applied:
            if number not in _CORE:
                text = f"{shown(path)} needs the filter {number}, a library of its own"
                yield Gap("artifact.hdf5.filter", text, where, FIX_FILTER)
        if layout.number == VIRTUAL:
            text = f"{shown(path)} is put together from other files"
            yield high("artifact.hdf5.external", text, where, FIX_PATH)
            return
        size = count * kind.size
        if size > BOMB and size > MAX_RATIO * self.file.source.size:
            text = f"{shown(path)} has a shape of {size} bytes in a file of {self.file.source.size}"
            yield high("artifact.hdf5.bomb", text, where, FIX_BOMB)
            return
        self._check(layout, size, path, is_outside=7 in bodies)
        if kind.is_bytes or kind.has_vlen:
            yield from self._look(layout, kind, count, applied, path)

    def _check(self, layout: Layout, size: int, path: str, *, is_outside: bool) -> None:
        if layout.number == COMPACT and len(layout.data) < size:
            raise bad(f"{shown(path)} is shorter than its shape")
        if layout.number == CONTIGUOUS and layout.address is not None and not is_outside:
            if layout.size >= 0 and layout.size < size:
                raise bad(f"{shown(path)} is shorter than its shape")
            if layout.address + max(size, layout.size) > self.file.end:
                raise bad(f"the data of {shown(path)} is not inside the file")

    def _look(self, layout: Layout, kind: Kind, count: int, applied: list[int], path: str) -> Iterator[Seen]:
        """Byte arrays and texts may be files of other formats; numbers are not looked into."""
        where = ":" + shown(path)
        if kind.has_vlen and not kind.is_vlen:
            yield Gap(
                "artifact.hdf5.unsupported", f"{shown(path)} has elements with pointers", where, FIX_FILTER
            )
            return
        for data in self._pieces(layout, kind, count, applied):
            if data is None:
                text = f"the chunks of {shown(path)} are not looked into"
                yield Gap("artifact.hdf5.unsupported", text, where, FIX_FILTER)
            elif not kind.is_vlen:
                yield Inner(shown(path), data, guess=True)
            else:
                yield from self._texts(data, kind, min(count, data.size // kind.size), path)

    def _texts(self, data: Source, kind: Kind, count: int, path: str) -> Iterator[Seen]:
        if count > MAX_POINTERS:
            text = f"{count} texts in {shown(path)}, of which {MAX_POINTERS} were read"
            yield Gap("artifact.limit.count", text, ":" + shown(path), FIX_FILTER)
        count = min(count, MAX_POINTERS)
        raw = data.read_at(0, count * kind.size)
        for place, size in pointers(self.file, raw, count, kind.size):
            yield from _judge_bytes(self.file.read(place, size), path, ":" + shown(path))

    def _pieces(self, layout: Layout, kind: Kind, count: int, applied: list[int]) -> Iterator[Source | None]:
        """The stored bytes, unpacked; None for what cannot be unpacked here."""
        source, base = self.file.source, self.file.base
        if layout.number == COMPACT:
            yield BytesSource("data", layout.data)
        elif layout.address is None or count == 0:
            return
        elif layout.number == CONTIGUOUS:
            yield Window("data", source, base + layout.address, count * kind.size)
        else:
            extent = kind.size
            for each in layout.chunk[:-1]:
                extent *= each
            for place, size in self._chunks(layout, extent):
                unpacked = self._unpacked(place, size, extent, applied)
                yield unpacked
                if unpacked is None:
                    return

    def _chunks(self, layout: Layout, extent: int) -> Iterator[tuple[int, int]]:
        """Address and stored size of each chunk; a size of -1 for an index that is not read."""
        if layout.number != CHUNKED or layout.address is None:
            return
        if layout.index == 1:
            yield layout.address, layout.size or extent
        elif layout.index != 0:
            yield 0, -1
        else:
            yield from self._tree(layout.address, 8 + 8 * len(layout.chunk))

    def _tree(self, root: int, key: int) -> Iterator[tuple[int, int]]:
        seen: set[int] = set()
        stack, found = [root], 0
        while stack:
            address = stack.pop()
            if address in seen:
                raise bad("a tree of chunks that is not a tree")
            seen.add(address)
            is_leaf = self.file.read(address, 6)[5] == 0
            children = tree_children(self.file, address, 1, key)
            if not is_leaf:
                stack.extend(children)
                continue
            at = address + 8 + 2 * self.file.offset_size
            for index, child in enumerate(children):
                found += 1
                if found > MAX_CHUNKS:
                    yield 0, -1
                    return
                entry = at + index * (key + self.file.offset_size)
                yield child, int.from_bytes(self.file.read(entry, 4), "little")

    def _unpacked(self, place: int, size: int, extent: int, applied: list[int]) -> Source | None:
        if size < 0 or extent > MAX_CHUNK or not set(applied) <= {1, 2, 3}:
            return None
        raw = self.file.read(place, size)
        if 3 in applied:
            raw = raw[:-4]
        if 1 in applied:
            try:
                raw = zlib.decompressobj().decompress(raw, extent + 1)
            except zlib.error as error:
                raise bad("a chunk that cannot be unpacked") from error
        return BytesSource("chunk", raw[:extent])


def _judge_bytes(data: bytes, name: str, where: str) -> Iterator[Seen]:
    """A text or blob: a Keras configuration, or perhaps a file of another format."""
    text = data.rstrip(b"\0 ")
    if name in ("model_config", "training_config", "keras_config") or text[:1] == b"{":
        is_model = name == "model_config"
        yield from judge_keras_text(text, where, is_model=is_model)
    elif len(text) >= SHORT:
        yield Inner(where, BytesSource("value", text), guess=True, glue="")
