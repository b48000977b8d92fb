"""A symbolic pickle machine: every opcode's effect on stack and memo, with nothing imported or called.

The opcodes are in `pickle_opcodes.py`. What real unpickling would import or call
is written down in `imports` and `calls`; long constants are skipped, not read. The machine ends at STOP
or with the reason why the stream cannot go on; what it saw before that counts in either case.
"""

from __future__ import annotations

import base64
import codecs
import re
import struct
from collections import ChainMap
from collections.abc import Callable, MutableMapping
from itertools import islice
from typing import Any

from garrison.artifacts.scanners.base import Inner
from garrison.artifacts.scanners.pickle_allowed import ALLOWED, PYTHON2_MODULES, PYTHON2_NAMES, UFUNCS
from garrison.artifacts.scanners.pickle_calls import NEVER_HANDED, judge_call, judge_state
from garrison.artifacts.scanners.pickle_uses import use_of
from garrison.artifacts.scanners.pickle_values import Blob, Global, Items, Made, call_line, line
from garrison.artifacts.scanners.sources import BytesSource, Reader, Window

MAX_LINE = 1 << 20  # a text argument of protocol 0
HELD = 4096  # constants up to this size are held, longer ones only pointed at
MAX_FAULTS = 100  # a person reads the first few
MAXEMBEDDED = 16  # pickles looked for in the middle of one constant
MAX_INNER = 20_000  # constants inside one stream that are looked into
BOMB = 10_000_000  # written out this much larger than the stream itself, a value only exists to exhaust

_NAME = re.compile(r"[A-Za-z_<][\w.<>]*\Z")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_\r\n-]{24,}={0,2}\s*\Z")
_BASE32 = re.compile(rb"[A-Z2-7]{24,}={0,6}\Z")
_BASE85 = re.compile(rb"[0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]{24,}\Z")
_HEXADECIMAL = re.compile(rb"(?:[0-9A-Fa-f]{2}){12,}\Z")
# Unpickling finds these on the object before its class, so a value put there would be called.
_POISON = frozenset({"__setstate__", "__class__", "append", "extend", "add"})
# What a pickle that does something must have: one opcode that imports and one that calls.
_IMPORTS, _CALLS = re.compile(rb"[ci\x93\x82\x83\x84]"), re.compile(rb"[Roib\x81\x92]")
_MAGICS = (
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x80\x02",
    b"\x80\x03",
    b"\x80\x04",
    b"\x80\x05",
    b"(\xb5/\xfd",
    b"\x93NUMPY",
)
_FIRST = frozenset(b"\x80(]})NIJKMLFGSTUVXcBCi\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x95\x96P0")
# A protocol header and at once an import that could be one.
EMBEDDED = re.compile(
    rb"\x80[\x02-\x05](?:\x95.{8})?(?:c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|\x8c[\x01-\x7f][A-Za-z_][\w.]*)",
    re.DOTALL,
)
_TENSORS = frozenset({"_rebuild_tensor", "_rebuild_tensor_v2"})
_URLSAFE = bytes.maketrans(b"-_", b"+/")


class Broken(Exception):
    """The stream cannot go on: unknown opcode, empty stack, cut argument."""


class Machine:
    """One stream. Opcodes act on it; afterwards the lists say what unpickling would have done."""

    def __init__(self, reader: Reader, *, trial: bool = False) -> None:
        self.reader = reader
        self.start = reader.offset
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: MutableMapping[int, Any] = {}
        self.imports: dict[Global, None] = {}
        self.called = 0
        self.faults: list[tuple[str, str]] = []  # (rule, message) of what is refused
        self.inner: list[Inner] = []
        self.ids: list[Any] = []
        self.tensors: list[Any] = []  # the arguments of every `torch._utils._rebuild_tensor*`
        self.after_build: Callable[[Machine, Made], None] | None = None
        self.opcodes = 0
        self.stopped = False
        self.result: Any = None
        self.trial = trial
        self.odd = ""  # the first argument that not every reader of pickles would accept
        self.frozen = False  # whether objects stay as they are, since another reading goes on with them
        self._judged = False  # whether a callable that is judged by its arguments was imported

    def fork(self, reader: Reader) -> Machine:
        """A second reading from here on that leaves this one's objects as they are."""
        other = Machine(reader, trial=True)
        other.stack, other.marks = self.stack[:], [items[:] for items in self.marks]
        other.memo, other._judged, other.frozen = ChainMap({}, self.memo), self._judged, True
        return other

    def fault(self, rule: str, message: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append((rule, message))

    def unreadable(self, reason: str) -> None:
        """A part that at least one reader would stop at; another may go on, and so does this machine."""
        if self.trial:
            raise Broken(reason)
        self.odd = self.odd or f"at byte {self.reader.offset}: {reason}"

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
            self._decode(raw)
            if value.isascii():
                if "\n" in value:
                    self._look_into(raw)
            else:
                self._look_into(value.encode("latin-1", "ignore"))
        self.push(value)

    def data(self, length: int) -> None:
        if length > HELD:
            return self.blob(length)
        self.constant(self.reader.take(length))
        return None

    def constant(self, value: bytes) -> None:
        self._look_into(value)
        self._embedded(value)
        self._decode(value)
        self.push(value)

    def blob(self, length: int) -> None:
        start = self.reader.offset
        self.reader.skip(length)
        if len(self.inner) < MAX_INNER:
            name = f"constant at {start}"
            self.inner.append(Inner(name, Window(name, self.reader.source, start, length), guess=True))
            head = self.reader.source.read_at(start, min(length, 1 << 20))
            self._decode(head[: len(head) // 4 * 4])
            self._embedded(head)
        else:
            self.fault("limit", f"more than {MAX_INNER} constants to look into")
        self.push(Blob(start, length))

    def _look_into(self, data: bytes) -> None:
        if self.trial or len(data) < 4 or not _may_be_a_file(data):
            return
        if len(self.inner) >= MAX_INNER:
            self.fault("limit", f"more than {MAX_INNER} constants to look into")
            return
        name = f"constant at {self.reader.offset - len(data)}"
        self.inner.append(Inner(name, BytesSource(name, data), guess=True))

    def _embedded(self, data: bytes) -> None:
        """Pickles in the middle of a constant: the members of a container too damaged for its own scanner."""
        if self.trial or len(data) < 24:
            return
        for match in islice(EMBEDDED.finditer(data, 1), MAXEMBEDDED):
            if len(self.inner) < MAX_INNER:
                name = f"constant at {self.reader.offset}, byte {match.start()}"
                part = data[match.start() : match.start() + (1 << 16)]
                self.inner.append(Inner(name, BytesSource(name, part), guess=True))

    def _decode(self, data: bytes) -> None:
        """Text that stands for bytes: hexadecimal, or base64 in either alphabet."""
        try:
            if _HEXADECIMAL.match(data):
                self._look_into(bytes.fromhex(data.decode("ascii")))
            elif _BASE64.match(data):
                self._look_into(codecs.decode(data.translate(_URLSAFE) + b"==", "base64"))
            if _BASE32.match(data):
                self._look_into(base64.b32decode(data.rstrip(b"=") + b"=" * (-len(data.rstrip(b"=")) % 8)))
            elif _BASE85.match(data) and base64.b85decode(data[:5]).startswith(_MAGICS):
                self._look_into(base64.b85decode(data))
        except ValueError:
            return

    # --- imports and calls ---
    def global_(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            self.fault("import", "the imported name is not a constant, so it cannot be judged")
            self.push(Global("?", "?", False))
            return
        if self.trial and not (_NAME.match(module) and _NAME.match(name)):
            raise Broken("not an importable name")
        pair = (PYTHON2_MODULES.get(module, module), name)
        pair = PYTHON2_NAMES.get(pair, pair)
        made = Global(*pair, True, use_of(*pair, UFUNCS)) if pair in ALLOWED else Global(*pair, False)
        self._judged = self._judged or made.use in NEVER_HANDED
        self.imports[made] = None
        self.push(made)

    def call(self, callee: Any, args: Any, *, restored: bool = False) -> None:
        """REDUCE, INST and OBJ; `restored` for NEWOBJ, which runs no constructor."""
        self.called += 1
        judged = judge_call(callee, args, restored=restored)
        if judged.fault:
            self.fault("call", judged.fault)
        if isinstance(callee, Global) and callee.module == "torch._utils" and callee.name in _TENSORS:
            self.tensors.append(args)
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
        self._handed([state])
        if isinstance(target, Global) or (isinstance(target, Made) and _is_class(target)):
            self.fault("build", f"sets attributes of {call_line(target, state)}")
        elif isinstance(target, Made):
            for part in state.values if isinstance(state, Items) and state.kind == "tuple" else [state]:
                self._poison(part.values if isinstance(part, Items) and part.kind == "dict" else [])
            if fault := judge_state(target.callee, state):
                self.fault("call", fault)
            if not self.frozen:
                target.state = state
            if self.after_build is not None:
                self.after_build(self, target)
        elif not isinstance(target, Items) and state is not None:
            self.unreadable("BUILD on a constant")

    def grow(self, target: Any, values: list[Any]) -> None:
        """APPEND(S), SETITEM(S), ADDITEMS: on a plain container, or a method call on a made object."""
        self._handed(values)
        if isinstance(target, Items):
            if not self.frozen:
                self._extend(target, values)
        elif isinstance(target, Made):
            self._poison(values)
        elif isinstance(target, Global):
            self.fault("build", f"adds items to {call_line(target, Items('tuple', values))}")
        elif values and not isinstance(
            target, bytes | Blob
        ):  # a bytearray grows, and nothing is always accepted
            self.unreadable("adds items to a constant")

    def stop(self) -> None:
        self.result = self.pop()
        self._handed([self.result])
        self.stopped = True

    def _handed(self, values: list[Any]) -> None:
        """A callable whose arguments decide must be called here, not given to something that may call it."""
        if not self._judged:
            return
        for value in values:
            if isinstance(value, Global) and value.use in NEVER_HANDED:
                self.fault("call", f"hands {line(value)} to something that may call it")

    def _poison(self, pairs: list[Any]) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=False):
            if isinstance(key, str) and key in _POISON and isinstance(value, Global | Made):
                self.fault("build", f"puts {line(value)} where unpickling looks for the method {key}")

    def collect(self, kind: str, values: list[Any]) -> None:
        self._handed(values)
        items = Items(kind)
        self._extend(items, values)
        self.push(items)

    def _extend(self, items: Items, values: list[Any]) -> None:
        items.extend(values)
        if items.weight > BOMB and items.weight > 100 * self.opcodes:
            self.fault("bomb", "a small stream that stands for an enormous value")
            raise Broken("bomb")

    def persistent(self, value: Any) -> None:
        self.ids.append(value)
        if isinstance(value, Items) and len(value.values) == 4 and value.values[0] == "module":
            self.push(value.values[1])  # legacy torch: the class, with the text of its source beside it
            return
        self.push(Made(Global("persistent", "load", True), value))


def _is_class(made: Made) -> bool:
    """`type(x)` is the only allowed call that returns a class."""
    return isinstance(made.callee, Global) and (made.callee.module, made.callee.name) == ("builtins", "type")


def _may_be_a_file(data: bytes) -> bool:
    if data.startswith(_MAGICS) or data[0] == 0x78:
        return True
    return data[0] in _FIRST and bool(_IMPORTS.search(data, 0, 1 << 16) and _CALLS.search(data, 1, 1 << 16))
