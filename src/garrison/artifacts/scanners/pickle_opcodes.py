"""Every pickle opcode as a step of the symbolic machine, and the loop that takes them.

Follows CPython's `pickle.py` (Unpickler.dispatch) for protocols 0 to 5.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from typing import Any

from garrison.artifacts.scanners.base import shown
from garrison.artifacts.scanners.pickle_machine import HELD, Broken, Machine
from garrison.artifacts.scanners.pickle_values import UNKNOWN, Global, Items

MAX_OPCODES = 10_000_000  # about ten seconds; real pickles of this many opcodes keep data where arrays belong

_OCTAL = re.compile(rb"\s*[+-]?[0-7]+\Z")


def run(machine: Machine, limit: int = MAX_OPCODES) -> str:
    """Run to STOP, an error or the limit. Returns "" after STOP, otherwise the reason."""
    take, count = machine.reader.take, 0
    try:
        while not machine.stopped:
            if count >= limit:
                return f"more than {limit} opcodes"
            count += 1
            machine.opcodes = count
            code = take(1)[0]
            action = _TABLE.get(code)
            if action is None:
                raise Broken(f"0x{code:02x} is not an opcode")
            action(machine)
    except EOFError:
        return f"the stream ends in the middle, at byte {machine.reader.offset}"
    except (Broken, IndexError, ValueError, OverflowError, struct.error) as error:
        return f"at byte {machine.reader.offset}: {shown(str(error) or type(error).__name__)}"
    return ""


def is_opcode(code: bytes) -> bool:
    return code[:1] != b"" and code[0] in _TABLE


def _string(machine: Machine) -> None:
    raw = machine.text_line().strip()
    if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in (b"'", b'"'):
        raise Broken("a string without its quotes")
    machine.string(codecs.escape_decode(raw[1:-1])[0].decode("latin-1"))  # as pickle itself does


def _int(machine: Machine) -> None:
    raw = machine.text_line()
    machine.push({b"00": False, b"01": True}[raw] if raw in (b"00", b"01") else _number(machine, raw))


def _long(machine: Machine) -> None:
    machine.push(_number(machine, machine.text_line().rstrip(b"L")))


def _number(machine: Machine, raw: bytes) -> Any:
    """A whole number as text. The C unpickler reads it with strtol: octal, and up to a zero byte."""
    text = raw.split(b"\0")[0]
    try:
        return int(text, 0)
    except ValueError:
        pass
    if _OCTAL.match(text):
        return int(text, 8)
    machine.unreadable("a number that is not one")
    return UNKNOWN


def _float(machine: Machine) -> None:
    try:
        machine.push(float(machine.text_line().split(b"\0")[0]))
    except ValueError:
        machine.unreadable("a number that is not one")
        machine.push(UNKNOWN)


def _key(machine: Machine) -> int:
    return int(machine.text_line().split(b"\0")[0])


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


def _reduce(machine: Machine) -> None:
    args = machine.pop()
    machine.call(machine.pop(), args)


def _newobj(machine: Machine) -> None:
    args = machine.pop()
    machine.call(machine.pop(), args, restored=True)


def _newobj_ex(machine: Machine) -> None:
    named, args = machine.pop(), machine.pop()
    values = [*(args.values if isinstance(args, Items) else [args]), named]
    machine.call(machine.pop(), Items("tuple", values), restored=True)


def _extension(machine: Machine, form: str) -> None:
    code = machine.number(form)
    machine.fault("extension", f"imports whatever the copyreg registry holds under {code}")
    machine.push(Global("copyreg", f"extension {code}", False))


def _proto(machine: Machine) -> None:
    if (version := machine.reader.take(1)[0]) > 5:
        raise Broken(f"protocol {version} is not known")


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
    ord("."): Machine.stop,
    ord("0"): Machine.drop,
    ord("1"): lambda m: m.pop_mark() and None,
    ord("2"): lambda m: m.push(m.top()),
    ord("F"): _float,
    ord("I"): _int,
    ord("J"): lambda m: m.push(m.number("<i")),
    ord("K"): lambda m: m.push(m.number("<B")),
    ord("L"): _long,
    ord("M"): lambda m: m.push(m.number("<H")),
    ord("N"): lambda m: m.push(None),
    ord("P"): lambda m: m.persistent(m.text_line().decode("ascii")),
    ord("Q"): lambda m: m.persistent(m.pop()),
    ord("R"): _reduce,
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
    ord("g"): lambda m: _get(m, _key(m)),
    ord("h"): lambda m: _get(m, m.number("<B")),
    ord("i"): _inst,
    ord("j"): lambda m: _get(m, m.number("<I")),
    ord("l"): lambda m: m.collect("list", m.pop_mark()),
    ord("]"): lambda m: m.push(Items("list")),
    ord("o"): _obj,
    ord("p"): lambda m: _put(m, _key(m)),
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
