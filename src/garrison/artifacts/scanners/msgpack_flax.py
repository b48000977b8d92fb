"""MessagePack as Flax writes it: nested tables of names, and arrays that are as long as their shape.

Numbers, texts and arrays cannot run; objects of other kinds can, in readers that know them. Sources: the
MessagePack specification; flax.serialization (extension types 1 to 3, chunked arrays).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Fact, Gap, Inner, Malformed, Seen, Source, high, shown
from garrison.artifacts.scanners.embedded import program_in
from garrison.artifacts.scanners.sources import BytesSource, Reader, Window

MAX_DEPTH = 64  # tables in tables; the deepest models have about fifteen
MAX_VALUES = 2_000_000
MAX_TEXT = 16 << 20
MAX_RANK = 64
MAX_HEADER = 4_096  # the name of the type of an array
MAX_PATH = 1_024
SHORT = 40  # shorter texts cannot be a pickle that calls something, nor an archive
_KINDS = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
}
_KINDS |= {
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "bfloat16": 2,
    "complex64": 8,
    "complex128": 16,
    "int4": 1,
}
_KINDS |= {"uint4": 1, "int2": 1, "uint2": 1}
FIX = "save the parameters again with flax.serialization.to_bytes"
FIX_CODE = "ask the author for the weights as safetensors, which cannot carry code"


def bad(message: str) -> Malformed:
    return Malformed("artifact.msgpack.structure", message)


class _State:
    """Where the reader is, what has been counted, and the path of names to here."""

    def __init__(self, source: Source, reader: Reader) -> None:
        self.source, self.reader = source, reader
        self.left = MAX_VALUES

    def count(self, depth: int) -> None:
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            raise bad(f"more than {MAX_VALUES} values or nested deeper than {MAX_DEPTH}")

    def number(self, form: str) -> int:
        value: int = struct.unpack(">" + form, self.reader.take(struct.calcsize(form)))[0]
        return value

    def items(self, count: int, each: int) -> int:
        if count * each > self.reader.left:
            raise bad(f"{count} entries in {self.reader.left} bytes")
        return count


class MsgpackFlax:
    format = "flax-msgpack"

    def recognises(self, head: bytes, source: Source) -> bool:
        """A table whose first key is a name; the only name that decides is `.msgpack`, as there is no magic."""
        if source.name.endswith(".msgpack"):
            return True
        if not head or not (0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
            return False
        at = 1 + {0xDE: 2, 0xDF: 4}.get(head[0], 0)
        if head[at : at + 1] == b"\xd9":
            at, length = at + 2, head[at + 1] if at + 1 < len(head) else 0
        elif at < len(head) and 0xA1 <= head[at] <= 0xBF:
            at, length = at + 1, head[at] & 31
        else:
            return False
        name = head[at : at + length]
        return len(name) == length > 0 and re.fullmatch(rb"[A-Za-z_][\w./ -]*|\d{1,9}", name) is not None

    def scan(self, source: Source) -> Iterator[Seen]:
        state = _State(source, Reader(source))
        yield from _value(state, "", 0)
        left = state.reader.left
        if left:
            yield high("artifact.msgpack.trailing", f"{left} bytes follow the value")
            yield Inner("trailing", Window("trailing", source, state.reader.offset, left), guess=True)


# first byte -> (what follows, how its length or value is written)
_HEADS: dict[int, tuple[str, str]] = {
    **{0xC4 + index: ("bytes", form) for index, form in enumerate("BHI")},
    **{0xC7 + index: ("ext", form) for index, form in enumerate("BHI")},
    0xCA: ("real", "f"),
    0xCB: ("real", "d"),
    **{0xCC + index: ("number", form) for index, form in enumerate("BHIQbhiq")},
    **{0xD9 + index: ("text", form) for index, form in enumerate("BHI")},
    0xDC: ("list", "H"),
    0xDD: ("list", "I"),
    0xDE: ("table", "H"),
    0xDF: ("table", "I"),
}


def _head(state: _State) -> tuple[str, int]:
    """What a value is, and its length, its number of entries or its value."""
    first = state.reader.take(1)[0]
    if first <= 0x7F or first >= 0xE0:
        return "number", first if first <= 0x7F else first - 256
    if first <= 0x8F:
        return "table", first & 15
    if first <= 0x9F:
        return "list", first & 15
    if first <= 0xBF:
        return "text", first & 31
    if first in (0xC0, 0xC2, 0xC3):
        return "constant", first
    if 0xD4 <= first <= 0xD8:
        return "ext", 1 << (first - 0xD4)
    if first not in _HEADS:
        raise bad(f"the byte {first:#x}, which begins nothing")
    kind, form = _HEADS[first]
    size = state.number(form)
    if kind in ("bytes", "text", "ext") and size > state.reader.left:
        raise bad(f"a value of {size} bytes, with {state.reader.left} left in the file")
    return kind, size


def _value(state: _State, path: str, depth: int) -> Iterator[Seen]:
    state.count(depth)
    kind, size = _head(state)
    if kind == "table":
        yield from _table(state, state.items(size, 2), path, depth)
    elif kind == "list":
        for _ in range(state.items(size, 1)):
            yield from _value(state, path, depth + 1)
    elif kind == "text":
        yield from _judged(_text(state, size), path)
    elif kind == "bytes":
        start = state.reader.offset
        state.reader.skip(size)
        yield Inner(f":{shown(path)}", Window("value", state.source, start, size), guess=True, glue="")
    elif kind == "ext":
        yield from _extension(state, size, path)


def _table(state: _State, count: int, path: str, depth: int) -> Iterator[Seen]:
    seen: set[object] = set()
    for _ in range(count):
        state.count(depth)
        kind, size = _head(state)
        if kind not in ("text", "number"):
            raise bad(f"a key that is no name in {shown(path)}")
        key: object = _text(state, size) if kind == "text" else size
        if key in seen:
            raise bad(f"the key {shown(key)} stands twice in one table")
        seen.add(key)
        if isinstance(key, str):
            yield from _judged(key, path)
        yield from _value(state, f"{path}/{key}"[-MAX_PATH:], depth + 1)


def _text(state: _State, size: int) -> str:
    if size > MAX_TEXT:
        raise bad(f"a text of {size} bytes")
    try:
        return state.reader.take(size).decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad("a text that is not UTF-8") from error


def _judged(value: str, path: str) -> Iterator[Seen]:
    if program := program_in(value):
        message = f"a text like a program: {program}"
        yield high("artifact.msgpack.code", message, f":{shown(path)}", FIX_CODE)
    elif len(value) > SHORT:
        data = BytesSource("value", value.encode("utf-8"))
        yield Inner(f":{shown(path)}", data, guess=True, glue="")


def _extension(state: _State, size: int, path: str) -> Iterator[Seen]:
    """1 and 3: an array or scalar, [shape, type, bytes]; 2: a complex number, [real, imaginary]."""
    code = state.number("b")
    start = state.reader.offset
    if size > state.reader.left:
        raise EOFError(f"{size} bytes at {start}")
    end = start + size
    if code in (1, 3):
        yield from _array(state, end, path, is_scalar=code == 3)
    elif code == 2:
        if _head(state) != ("list", 2) or any(_head(state)[0] not in ("number", "real") for _ in range(2)):
            raise bad("a complex number that is not one")
    else:
        message = f"{shown(path)} is of the extension type {code}, which Flax does not write"
        yield Gap("artifact.msgpack.extension", message, f":{shown(path)}", FIX)
        yield Inner(f":{shown(path)}", Window("value", state.source, start, size), guess=True, glue="")
        state.reader.skip(size)
    if state.reader.offset != end:
        raise bad(f"{shown(path)} is not as long as its extension")


def _array(state: _State, end: int, path: str, *, is_scalar: bool) -> Iterator[Seen]:
    if _head(state) != ("list", 3):
        raise bad(f"{shown(path)} is not an array")
    kind, rank = _head(state)
    if kind != "list" or rank > MAX_RANK:
        raise bad(f"{shown(path)} has no shape")
    elements = 1
    for _ in range(rank):
        kind, extent = _head(state)
        if kind != "number" or extent < 0:
            raise bad(f"{shown(path)} has an extent that is not a number")
        elements *= extent
    kind, size = _head(state)
    if kind not in ("text", "bytes") or size > MAX_HEADER:
        raise bad(f"{shown(path)} has no type")
    name = state.reader.take(size).decode("utf-8", "backslashreplace")
    kind, length = _head(state)
    yield Fact("tensor", path)
    if kind not in ("bytes", "text") or state.reader.offset + length > end:
        raise bad(f"the data of {shown(path)} leaves its extension")
    if name in ("object", "O", "|O"):
        yield high(
            "artifact.msgpack.object", f"{shown(path)} is an array of Python objects", f":{shown(path)}", FIX
        )
    elif name not in _KINDS and not re.fullmatch(r"[SUV]\d{1,9}|float8_\w{1,20}|float[46]_\w{1,20}", name):
        message = f"{shown(path)} is of the type {shown(name)}, which is not known"
        yield Gap("artifact.msgpack.extension", message, f":{shown(path)}", FIX)
    elif elements * _KINDS.get(name, 0) not in (length, 0) or (is_scalar and elements != 1):
        raise bad(f"{shown(path)} has {length} bytes, which is not its shape")
    start = state.reader.offset
    state.reader.skip(length)
    if name in ("int8", "uint8") or name not in _KINDS:
        yield Inner(f":{shown(path)}", Window("value", state.source, start, length), guess=True, glue="")
