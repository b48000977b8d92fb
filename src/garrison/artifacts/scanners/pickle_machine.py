"""A symbolic pickle machine: every opcode's effect on stack and memo, with nothing imported or called.

The opcodes are in `pickle_opcodes.py`. What real unpickling would import or call
is written down in `imports` and `calls`; long constants are skipped, not read. The machine ends at STOP
or with the reason why the stream cannot go on; what it saw before that counts in either case.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from typing import Any

from garrison.artifacts.scanners.base import Inner
from garrison.artifacts.scanners.pickle_allowed import ALLOWED, PYTHON2_MODULES, PYTHON2_NAMES
from garrison.artifacts.scanners.pickle_calls import judge_call
from garrison.artifacts.scanners.pickle_values import Blob, Global, Items, Made, call_line
from garrison.artifacts.scanners.sources import BytesSource, Reader, Window

MAX_LINE = 1 << 20  # a text argument of protocol 0
HELD = 4096  # constants up to this size are held, longer ones only pointed at
MAX_FAULTS = 100  # a person reads the first few
MAX_INNER = 20_000  # constants inside one stream that are looked into
BOMB = 10_000_000  # written out this much larger than the stream itself, a value only exists to exhaust

_NAME = re.compile(r"[A-Za-z_<][\w.<>]*\Z")
_BASE64 = re.compile(rb"[A-Za-z0-9+/\r\n]{24,}={0,2}\s*\Z")
_MAGICS = (
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x80\x02",
    b"\x80\x03",
    b"\x80\x04",
    b"\x80\x05",
)


class Broken(Exception):
    """The stream cannot go on: unknown opcode, empty stack, cut argument."""


class Machine:
    """One stream. Opcodes act on it; afterwards the lists say what unpickling would have done."""

    def __init__(self, reader: Reader, *, trial: bool = False) -> None:
        self.reader = reader
        self.start = reader.offset
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.imports: dict[Global, None] = {}
        self.called = 0
        self.faults: list[tuple[str, str]] = []  # (rule, message) of what is refused
        self.inner: list[Inner] = []
        self.ids: list[Any] = []
        self.after_build: Callable[[Machine, Made], None] | None = None
        self.opcodes = 0
        self.stopped = False
        self.result: Any = None
        self._trial = trial

    def adopt(self, nested: Machine) -> None:
        """Count what a pickle inside this stream did as done by this one."""
        self.imports |= nested.imports
        self.faults += nested.faults
        self.inner += nested.inner
        self.called += nested.called

    # --- stack ---
    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise Broken("the stack is empty")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise Broken("the stack is empty")
        return self.stack[-1]

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise Broken("there is no mark")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def drop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    # --- constants ---
    def number(self, form: str) -> Any:
        return struct.unpack(form, self.reader.take(struct.calcsize(form)))[0]

    def text_line(self) -> bytes:
        return self.reader.line(MAX_LINE)

    def text(self, length: int) -> None:
        if length > HELD:
            return self.blob(length)
        data = self.reader.take(length)
        self.string(data.decode("utf-8", "surrogatepass"))
        return None

    def byte_string(self, length: int) -> None:
        if length > HELD:
            return self.blob(length)
        self.string(self.reader.take(length).decode("latin-1"))
        return None

    def string(self, value: str) -> None:
        if len(value) >= 24 and len(self.inner) < MAX_INNER:
            raw = value.encode("utf-8", "surrogatepass")
            if _BASE64.match(raw):
                self._unbase64(raw)
            elif value.isascii() is False:
                self._look_into(value.encode("latin-1", "ignore"))
        self.push(value)

    def data(self, length: int) -> None:
        if length > HELD:
            return self.blob(length)
        self.constant(self.reader.take(length))
        return None

    def constant(self, value: bytes) -> None:
        self._look_into(value)
        if _BASE64.match(value):
            self._unbase64(value)
        self.push(value)

    def blob(self, length: int) -> None:
        start = self.reader.offset
        self.reader.skip(length)
        if len(self.inner) < MAX_INNER:
            name = f"constant at {start}"
            self.inner.append(Inner(name, Window(name, self.reader.source, start, length), guess=True))
            head = self.reader.source.read_at(start, min(length, 1 << 20))
            if _BASE64.match(head[: len(head) // 4 * 4]):
                self._unbase64(head[: len(head) // 4 * 4])
        else:
            self.faults.append(("limit", f"more than {MAX_INNER} constants to look into"))
        self.push(Blob(start, length))

    def _look_into(self, data: bytes) -> None:
        if len(data) < 4 or not (data.startswith(_MAGICS) or data[0] in b"c(x\x80]}") or self._trial:
            return
        if len(self.inner) >= MAX_INNER:
            self.faults.append(("limit", f"more than {MAX_INNER} constants to look into"))
            return
        name = f"constant at {self.reader.offset - len(data)}"
        self.inner.append(Inner(name, BytesSource(name, data), guess=True))

    def _unbase64(self, data: bytes) -> None:
        try:
            plain = codecs.decode(data, "base64")
        except ValueError:
            return
        self._look_into(plain)

    # --- imports and calls ---
    def global_(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            self.faults.append(("import", "the imported name is not a constant, so it cannot be judged"))
            self.push(Global("?", "?", False))
            return
        if self._trial and not (_NAME.match(module) and _NAME.match(name)):
            raise Broken("not an importable name")
        pair = (PYTHON2_MODULES.get(module, module), name)
        pair = PYTHON2_NAMES.get(pair, pair)
        made = Global(pair[0], pair[1], pair in ALLOWED)
        self.imports[made] = None
        self.push(made)

    def call(self, callee: Any, args: Any) -> None:
        self.called += 1
        judged = judge_call(callee, args)
        if judged.fault and len(self.faults) < MAX_FAULTS:
            self.faults.append(("call", judged.fault))
        if judged.inner is not None:
            self._definite(judged.inner)
        self.push(Made(callee, args) if judged.value is None else judged.value)

    def _definite(self, value: bytes | Blob) -> None:
        """Bytes that the stream itself unpickles: judged like a file of their own."""
        name = f"loaded at {self.reader.offset}"
        if isinstance(value, Blob):
            self.inner.append(Inner(name, Window(name, self.reader.source, value.start, value.size)))
        else:
            self.inner.append(Inner(name, BytesSource(name, value)))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Global):
            self.faults.append(("build", f"sets attributes of {call_line(target, state)}"))
        elif isinstance(target, Made):
            target.state = state
            if self.after_build is not None:
                self.after_build(self, target)
        elif not isinstance(target, Items):
            raise Broken("BUILD on a constant")

    def grow(self, target: Any, values: list[Any]) -> None:
        """APPEND(S), SETITEM(S), ADDITEMS: on a plain container, or a method call on a made object."""
        if isinstance(target, Items):
            target.extend(values)
            if target.weight > BOMB and target.weight > 100 * self.opcodes:
                self.faults.append(("bomb", "a small stream that stands for an enormous value"))
                raise Broken("bomb")
        elif not isinstance(target, Made):
            raise Broken("adds items to a constant")

    def collect(self, kind: str, values: list[Any]) -> None:
        items = Items(kind)
        self.push(items)
        self.grow(items, values)

    def persistent(self, value: Any) -> None:
        self.ids.append(value)
        self.push(Made(Global("persistent", "load", True), value))
