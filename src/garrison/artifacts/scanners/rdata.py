"""R data (`.rds`, `.rda`): every item of the serialisation is stepped over; what R would evaluate is refused.

A promise in the data runs when the value is first used; closures, byte code, environments with bindings and
external pointers are programs or handles. Formulas and calls of modelling functions are data of any R
model and pass when every function in them is on a list. Source: "R Internals" 1.8, versions 2 and 3 of the
format in its XDR, native and ASCII forms. (Compression around it is unpacked by its own scanner.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from garrison.artifacts.scanners.base import Gap, Malformed, Seen, Source, critical, shown
from garrison.artifacts.scanners.rdata_allowed import CALLS
from garrison.artifacts.scanners.sources import Reader

MAX_DEPTH = 120  # lists in lists; R models stay under 30, and this is a recursion
MAX_ITEMS = 20_000_000
MAX_TEXT = 64 << 20  # one string
MAX_ENCODING = 63  # R_CODESET_MAX
MAX_TOKEN = 1_024  # one number in the ASCII form
FIX = "ask the author for the data as CSV or Parquet, or save plain vectors and data frames only"
_RDS = re.compile(rb"(?:RD[AXB][23]\n)?(?:X\n\0\0\0[\x02\x03]|B\n[\x02\x03]\0\0\0|A\n[23]\n)")
_NIL, _SYMBOL, _PAIRS, _CLOSURE, _ENVIRONMENT, _PROMISE, _CALL, _DOTS = 0, 1, 2, 3, 4, 5, 6, 17
_CHARS, _WEAK, _S4, _EXTERNAL, _BYTECODE, _EXPRESSION = 9, 23, 25, 22, 21, 20
_WIDTH = {10: 4, 13: 4, 14: 8, 15: 16}
_REFUSED = {
    _CLOSURE: "a function, which runs when the model is used",
    _PROMISE: "a promise, which runs when the value is first used",
    _EXTERNAL: "an external pointer",
    _BYTECODE: "compiled byte code",
    _WEAK: "a weak reference with a finaliser",
    _DOTS: "unevaluated arguments",
    _EXPRESSION: "unevaluated expressions",
    **dict.fromkeys((7, 8), "a function of the interpreter"),
    **dict.fromkeys((247,), "an object that a hook of the reader restores"),
    **dict.fromkeys((243, 244, 240, 239), "parts of byte code"),
}
_FIXED = frozenset({254, 253, 252, 251, 250, 242, 241})  # nil, global, unbound, missing, base, empty, base


class _Numbers(Protocol):
    """One of the three forms."""

    def integer(self) -> int: ...
    def skip(self, kind: int, count: int) -> None: ...
    def text(self, length: int) -> bytes: ...


class _Binary:
    def __init__(self, reader: Reader, order: str) -> None:
        self.reader, self.little = reader, order == "little"

    def integer(self) -> int:
        return int.from_bytes(self.reader.take(4), "little" if self.little else "big", signed=True)

    def skip(self, kind: int, count: int) -> None:
        self.reader.skip(_WIDTH.get(kind, 1) * count)

    def text(self, length: int) -> bytes:
        return self.reader.take(length)


class _Ascii:
    """Words between white space; texts are escaped and counted after unescaping."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def word(self) -> bytes:
        word = self.reader.line(MAX_TOKEN).strip()
        return word if word else self.word_again()

    def word_again(self) -> bytes:
        raise Malformed("artifact.r.syntax", "an empty line where a value should be")

    def integer(self) -> int:
        word = self.word()
        if word == b"NA":
            return -(1 << 31)
        if not re.fullmatch(rb"-?\d{1,10}", word):
            raise Malformed("artifact.r.syntax", "a number that is not one")
        return int(word)

    def skip(self, kind: int, count: int) -> None:
        if kind == 24:
            self.reader.skip(0)
        for _ in range(count * (2 if kind == 15 else 1)):
            self.word()

    def text(self, length: int) -> bytes:
        raw = self.reader.line(4 * length + MAX_TOKEN)
        plain = re.sub(rb"\\([0-7]{1,3}|.)", lambda _match: b"?", raw)
        if len(plain) != length:
            raise Malformed("artifact.r.syntax", "a text whose length is not what it says")
        return raw


class RData:
    format = "r"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return _RDS.match(head) is not None

    def scan(self, source: Source) -> Iterator[Seen]:
        reader = Reader(source)
        if source.read_at(0, 2) == b"RD":
            reader.skip(5)
        form = reader.take(2)
        numbers: _Numbers = (
            _Ascii(reader) if form == b"A\n" else _Binary(reader, "big" if form == b"X\n" else "little")
        )
        walk = _Walk(numbers)
        try:
            version = numbers.integer()
            numbers.integer()
            numbers.integer()
            if version == 3:
                length = numbers.integer()
                if not 0 < length <= MAX_ENCODING:
                    raise Malformed("artifact.r.length", f"the name of an encoding has {length} bytes")
                numbers.text(length)
            walk.item(0)
        except RecursionError:
            yield Gap("artifact.limit.nesting", f"R data nested deeper than {MAX_DEPTH}")
        finally:
            yield from walk.found()
        if reader.left:
            yield Gap("artifact.r.trailing", f"{reader.left} bytes follow the data", fix=FIX)


def _bounded(length: int) -> int:
    if not 0 <= length <= MAX_TEXT:
        raise Malformed("artifact.r.length", f"a text of {length} bytes")
    return length


class _Walk:
    """Steps over items; remembers what R would evaluate."""

    def __init__(self, numbers: _Numbers) -> None:
        self.numbers = numbers
        self.refused: dict[str, None] = {}
        self.gaps: dict[str, None] = {}
        self.symbols: list[str] = []  # the reference table; "" for what is no symbol
        self.named: list[str] = []  # symbols as they are met, references included
        self.items = 0

    def found(self) -> Iterator[Seen]:
        for message in self.refused:
            yield critical("artifact.r.code", f"the data holds {message}", fix=FIX)
        for message in self.gaps:
            yield Gap("artifact.r.item", message, fix=FIX)

    def item(self, depth: int) -> str:
        """One item; the name when it is a symbol."""
        while True:
            self.items += 1
            if depth > MAX_DEPTH or self.items > MAX_ITEMS:
                raise Malformed("artifact.r.limit", f"nested deeper than {MAX_DEPTH} or too many items")
            flags = self.numbers.integer()
            kind = flags & 0xFF
            if kind not in (_PAIRS, _CALL):
                return self._one(kind, flags, depth)
            # A pair: attributes, tag and first are items, the rest goes on as this item.
            if flags & 0x200:
                self.item(depth + 1)
            if flags & 0x400:
                self.item(depth + 1)
            first = self.item(depth + 1)
            if kind == _CALL and first not in CALLS:
                name = f"of {shown(first)}" if first else "of something computed"
                self.refused[f"an unevaluated call {name}"] = None

    def _one(self, kind: int, flags: int, depth: int) -> str:
        numbers = self.numbers
        if kind in _REFUSED:
            self.refused[_REFUSED[kind]] = None
        if kind in (_NIL, *_FIXED):
            return ""
        if kind == 255:
            index = flags >> 8 or numbers.integer()
            if not 1 <= index <= len(self.symbols):
                raise Malformed("artifact.r.reference", "a reference to nothing")
            self.named.append(self.symbols[index - 1])
            return self.named[-1]
        if kind == _SYMBOL:
            name = self._chars(numbers.integer())
            self.symbols.append(name)
            self.named.append(name)
            return name
        if kind in (_CLOSURE, _PROMISE, _DOTS):
            for _ in range((flags >> 9 & 1) + (flags >> 10 & 1) + 1):
                self.item(depth + 1)
            return self.item(depth + 1)
        if kind == _ENVIRONMENT:
            self._environment(depth)
        elif kind in (248, 249):  # package, namespace: a version word, then its strings
            self.symbols.append("")
            numbers.integer()
            for _ in range(_bounded(numbers.integer())):
                self.item(depth + 1)
        elif kind == 238:  # ALTREP: class, state, attributes
            self._altrep(depth)
        else:
            self._vector(kind, flags, depth)
        return ""

    def _environment(self, depth: int) -> None:
        self.symbols.append("")
        self.numbers.integer()
        before = self.items
        for _ in range(4):  # enclosure, frame, table, attributes
            self.item(depth + 1)
        if self.items - before > 4:
            self.refused["an environment with bindings"] = None

    def _altrep(self, depth: int) -> None:
        """Compact sequences and wrapped vectors are written so by R itself; classes of packages are code."""
        self.named.clear()
        self.item(depth + 1)
        names = tuple(self.named)  # the class and its package, new or known already
        self.item(depth + 1)
        self.item(depth + 1)
        for name in names:
            if (
                name
                and name not in ("base", "compact_intseq", "compact_realseq", "deferred_string")
                and not (name.startswith("wrap_"))
            ):
                self.gaps[f"a vector of the class {shown(name)}"] = None

    def _vector(self, kind: int, flags: int, depth: int) -> None:
        numbers = self.numbers
        if kind == _CHARS:
            self._chars(flags)
            return
        if kind == _S4:
            pass
        elif kind == _EXTERNAL:
            self.symbols.append("")
            self.item(depth + 1)
            self.item(depth + 1)
        elif kind == _WEAK:
            self.symbols.append("")
        elif kind in (*_WIDTH, 24):
            numbers.skip(kind, self._length())
        elif kind in (16, 19, _EXPRESSION):
            for _ in range(self._length()):
                self.item(depth + 1)
        else:  # byte code, functions of the interpreter, and what no version of R writes
            if kind not in _REFUSED:
                self.gaps[f"an item of the kind {kind}"] = None
            raise EOFError
        if flags & 0x200:
            self.item(depth + 1)

    def _chars(self, flags: int) -> str:
        if flags & 0xFF != _CHARS:
            raise Malformed("artifact.r.syntax", "a name that is not a text")
        length = self.numbers.integer()
        return "" if length == -1 else self.numbers.text(_bounded(length)).decode("utf-8", "replace")

    def _length(self) -> int:
        length = self.numbers.integer()
        if length == -1:
            high, low = self.numbers.integer(), self.numbers.integer()
            length = (high << 32) + (low & 0xFFFFFFFF)
        if not 0 <= length <= 1 << 40:
            raise Malformed("artifact.r.length", f"a vector of {length} values")
        return length
