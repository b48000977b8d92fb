"""Universal Binary JSON: read with bounds; arrays of one type of number stay packed.

Source: UBJSON draft 12. XGBoost writes it (`.ubj`), always with lengths.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Any

from garrison.artifacts.scanners.sources import Reader

MAX_DEPTH = 32  # XGBoost nests eight
MAX_VALUES = 4_000_000  # values that are not in packed arrays
MAX_TEXT = 16 << 20
_NUMBERS = {b"i": "b", b"U": "B", b"I": "h", b"l": "i", b"L": "q", b"d": "f", b"D": "d"}
_PACKED = {"b": "b", "B": "B", "h": "h", "i": "i", "q": "q", "f": "f", "d": "d"}


class BadUbj(ValueError):
    """Not UBJSON, or over a limit."""


class _State:
    def __init__(self, reader: Reader) -> None:
        self.reader, self.left = reader, MAX_VALUES

    def count(self, depth: int) -> None:
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            raise BadUbj(f"more than {MAX_VALUES} values or nested deeper than {MAX_DEPTH}")


def parse(reader: Reader) -> Any:
    """One value. Raises `BadUbj`, and EOFError when the file ends before it."""
    return _value(_State(reader), reader.take(1), 0)


def _value(state: _State, kind: bytes, depth: int) -> Any:
    state.count(depth)
    reader = state.reader
    while kind == b"N":
        state.count(depth)
        kind = reader.take(1)
    if kind in _NUMBERS:
        code = ">" + _NUMBERS[kind]
        return struct.unpack(code, reader.take(struct.calcsize(code)))[0]
    if kind == b"Z":
        return None
    if kind in (b"T", b"F"):
        return kind == b"T"
    if kind == b"C":
        return reader.take(1).decode("latin-1")
    if kind in (b"S", b"H"):
        return _text(reader)
    if kind == b"{":
        return _object(state, depth)
    if kind == b"[":
        return _array(state, depth)
    raise BadUbj(f"an unknown marker at {reader.offset - 1}")


def _length(reader: Reader) -> int:
    kind = reader.take(1)
    if kind not in (b"i", b"U", b"I", b"l", b"L"):
        raise BadUbj(f"a length that is not a number at {reader.offset - 1}")
    code = ">" + _NUMBERS[kind]
    length: int = struct.unpack(code, reader.take(struct.calcsize(code)))[0]
    if length < 0 or length > reader.size:
        raise BadUbj(f"a length of {length}")
    return length


def _text(reader: Reader) -> str:
    length = _length(reader)
    if length > MAX_TEXT:
        raise BadUbj(f"a text of {length} bytes")
    try:
        return reader.take(length).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadUbj("a text that is not UTF-8") from error


def _optimised(reader: Reader) -> tuple[bytes, int, bytes]:
    """The type and the count of a container, or the marker that begins its first value."""
    mark = reader.take(1)
    kind = b""
    if mark == b"$":
        kind, mark = reader.take(1), reader.take(1)
        if mark != b"#":
            raise BadUbj("a type without a count")
    if mark == b"#":
        return kind, _length(reader), b""
    return b"", -1, mark


def _object(state: _State, depth: int) -> dict[str, Any]:
    reader = state.reader
    kind, count, mark = _optimised(reader)
    table: dict[str, Any] = {}
    while count != 0 and mark != b"}":
        if mark:
            reader.offset -= 1
        key = _text(reader)
        if key in table:
            raise BadUbj("a key stands twice in one object")
        table[key] = _value(state, kind or reader.take(1), depth + 1)
        count -= 1
        mark = reader.take(1) if count < 0 else b""
    return table


def _array(state: _State, depth: int) -> Any:
    reader = state.reader
    kind, count, mark = _optimised(reader)
    if kind in _NUMBERS:
        packed = array(_PACKED[_NUMBERS[kind]])
        packed.frombytes(reader.take(count * packed.itemsize))
        if sys.byteorder == "little":
            packed.byteswap()
        return packed
    items: list[Any] = []
    while count != 0 and mark != b"]":
        items.append(_value(state, kind or mark or reader.take(1), depth + 1))
        count -= 1
        mark = reader.take(1) if count < 0 else b""
    return items
