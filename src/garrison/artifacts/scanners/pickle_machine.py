"""A symbolic pickle machine: every opcode's effect on stack and memo, with nothing imported or called.

Follows CPython's `pickle.py` (Unpickler) for protocols 0 to 5. What real unpickling would import or call
is written down in `imports` and `calls`; long constants are skipped, not read. The machine ends at STOP
or with the reason why the stream cannot go on; what it saw before that counts in either case.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from typing import Any

from garrison.artifacts.scanners.base import Inner, shown
from garrison.artifacts.scanners.pickle_allowed import ALLOWED, PYTHON2_MODULES, PYTHON2_NAMES
from garrison.artifacts.scanners.pickle_calls import judge_call
from garrison.artifacts.scanners.pickle_values import UNKNOWN, Blob, Global, Items, Made, call_line
from garrison.artifacts.scanners.sources import BytesSource, Reader, Window

MAX_OPCODES = 10_000_000  # about ten seconds; real pickles of this many opcodes keep data where arrays belong
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
    """One stream. `run()` moves the reader; afterwards the lists say what it would have done."""

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
        self.level = 0  # of pickles inside the raw parts of joblib streams
        self.stopped = False
        self.result: Any = None
        self._trial = trial

    def run(self, limit: int = MAX_OPCODES) -> str:
        """Run to STOP, an error or the limit. Returns "" after STOP, otherwise the reason."""
        table, take = _TABLE, self.reader.take
        try:
            while not self.stopped:
                if self.opcodes >= limit:
                    return f"more than {limit} opcodes"
                self.opcodes += 1
                code = take(1)[0]
                action = table.get(code)
                if action is None:
                    raise Broken(f"0x{code:02x} is not an opcode")
                action(self)
        except EOFError:
            return f"the stream ends in the middle, at byte {self.reader.offset}"
        except (Broken, IndexError, ValueError, OverflowError, struct.error) as error:
            return f"at byte {self.reader.offset}: {shown(str(error) or type(error).__name__)}"
        return ""

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


def _string(machine: Machine) -> None:
    raw = machine.text_line().strip()
    if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in (b"'", b'"'):
        raise Broken("a string without its quotes")
    machine.string(codecs.escape_decode(raw[1:-1])[0].decode("latin-1"))  # as pickle itself does


def _int(machine: Machine) -> None:
    raw = machine.text_line()
    machine.push({b"00": False, b"01": True}[raw] if raw in (b"00", b"01") else int(raw, 0))


def _long(machine: Machine) -> None:
    machine.push(int(machine.text_line().rstrip(b"L"), 0))


def _long_binary(machine: Machine, size: int) -> None:
    if size > HELD:
        machine.reader.skip(size)
        machine.push(UNKNOWN)
    else:
        machine.push(int.from_bytes(machine.reader.take(size), "little", signed=True))


def _inst(machine: Machine) -> None:
    module, name = (machine.text_line().decode("utf-8") for _ in range(2))
    args = Items("tuple", machine.pop_mark())
    machine.global_(module, name)
    machine.call(machine.pop(), args)


def _obj(machine: Machine) -> None:
    items = machine.pop_mark()
    if not items:
        raise Broken("OBJ without a class")
    machine.call(items[0], Items("tuple", items[1:]))


def _newobj(machine: Machine) -> None:
    args = machine.pop()
    machine.call(machine.pop(), args)


def _newobj_ex(machine: Machine) -> None:
    named, args = machine.pop(), machine.pop()
    values = [*(args.values if isinstance(args, Items) else [args]), named]
    machine.call(machine.pop(), Items("tuple", values))


def _extension(machine: Machine, form: str) -> None:
    code = machine.number(form)
    machine.faults.append(("extension", f"imports whatever the copyreg registry holds under {code}"))
    machine.push(Global("copyreg", f"extension {code}", False))


def _proto(machine: Machine) -> None:
    if (version := machine.reader.take(1)[0]) > 5:
        raise Broken(f"protocol {version} is not known")


def _stop(machine: Machine) -> None:
    machine.result = machine.pop()
    machine.stopped = True


def _setitems(machine: Machine) -> None:
    items = machine.pop_mark()
    if len(items) % 2:
        raise Broken("a key without a value")
    machine.grow(machine.top(), items)


def _setitem(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.grow(machine.top(), [key, value])


def _dict(machine: Machine) -> None:
    machine.collect("dict", machine.pop_mark())


def _append(machine: Machine) -> None:
    value = machine.pop()
    machine.grow(machine.top(), [value])


def _many(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.grow(machine.top(), items)


def _tuple_of(machine: Machine, count: int) -> None:
    machine.collect("tuple", [machine.pop() for _ in range(count)][::-1])


def _put(machine: Machine, key: int) -> None:
    if key < 0:
        raise Broken("a negative memo key")
    machine.memo[key] = machine.top()


def _get(machine: Machine, key: int) -> None:
    if key not in machine.memo:
        raise Broken(f"memo {key} was never stored")
    machine.push(machine.memo[key])


def _stack_global(machine: Machine) -> None:
    name = machine.pop()
    machine.global_(machine.pop(), name)


def _global(machine: Machine) -> None:
    module, name = (machine.text_line().decode("utf-8") for _ in range(2))
    machine.global_(module, name)


def _nothing(_machine: Machine) -> None:
    return None


_TABLE: dict[int, Callable[[Machine], object]] = {
    ord("("): Machine.mark,
    ord("."): _stop,
    ord("0"): Machine.drop,
    ord("1"): lambda m: m.pop_mark() and None,
    ord("2"): lambda m: m.push(m.top()),
    ord("F"): lambda m: m.push(float(m.text_line())),
    ord("I"): _int,
    ord("J"): lambda m: m.push(m.number("<i")),
    ord("K"): lambda m: m.push(m.number("<B")),
    ord("L"): _long,
    ord("M"): lambda m: m.push(m.number("<H")),
    ord("N"): lambda m: m.push(None),
    ord("P"): lambda m: m.persistent(m.text_line().decode("ascii")),
    ord("Q"): lambda m: m.persistent(m.pop()),
    ord("R"): _newobj,  # callee below its arguments, as for NEWOBJ
    ord("S"): _string,
    ord("T"): lambda m: m.byte_string(m.number("<i")),
    ord("U"): lambda m: m.string(m.reader.take(m.number("<B")).decode("latin-1")),
    ord("V"): lambda m: m.string(m.text_line().decode("raw-unicode-escape")),
    ord("X"): lambda m: m.text(m.number("<I")),
    ord("a"): _append,
    ord("b"): Machine.build,
    ord("c"): _global,
    ord("d"): _dict,
    ord("}"): lambda m: m.push(Items("dict")),
    ord("e"): _many,
    ord("g"): lambda m: _get(m, int(m.text_line())),
    ord("h"): lambda m: _get(m, m.number("<B")),
    ord("i"): _inst,
    ord("j"): lambda m: _get(m, m.number("<I")),
    ord("l"): lambda m: m.collect("list", m.pop_mark()),
    ord("]"): lambda m: m.push(Items("list")),
    ord("o"): _obj,
    ord("p"): lambda m: _put(m, int(m.text_line())),
    ord("q"): lambda m: _put(m, m.number("<B")),
    ord("r"): lambda m: _put(m, m.number("<I")),
    ord("s"): _setitem,
    ord("t"): lambda m: m.collect("tuple", m.pop_mark()),
    ord(")"): lambda m: m.push(Items("tuple")),
    ord("u"): _setitems,
    ord("G"): lambda m: m.push(m.number(">d")),
    0x80: _proto,
    0x81: _newobj,
    0x82: lambda m: _extension(m, "<B"),
    0x83: lambda m: _extension(m, "<H"),
    0x84: lambda m: _extension(m, "<i"),
    0x85: lambda m: _tuple_of(m, 1),
    0x86: lambda m: _tuple_of(m, 2),
    0x87: lambda m: _tuple_of(m, 3),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    0x8A: lambda m: _long_binary(m, m.number("<B")),
    0x8B: lambda m: _long_binary(m, m.number("<I")),
    ord("B"): lambda m: m.data(m.number("<I")),
    ord("C"): lambda m: m.data(m.number("<B")),
    0x8C: lambda m: m.text(m.number("<B")),
    0x8D: lambda m: m.text(m.number("<Q")),
    0x8E: lambda m: m.data(m.number("<Q")),
    0x8F: lambda m: m.push(Items("set")),
    0x90: _many,
    0x91: lambda m: m.collect("frozenset", m.pop_mark()),
    0x92: _newobj_ex,
    0x93: _stack_global,
    0x94: lambda m: _put(m, len(m.memo)),
    0x95: lambda m: m.number("<Q") and None,
    0x96: lambda m: m.data(m.number("<Q")),
    0x97: lambda m: m.push(UNKNOWN),
    0x98: _nothing,
}
