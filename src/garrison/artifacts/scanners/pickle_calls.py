"""Whether one call that unpickling would make is allowed, with the few callables whose arguments matter."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from garrison.artifacts.scanners.pickle_allowed import UFUNCS
from garrison.artifacts.scanners.pickle_uses import Use, is_distribution
from garrison.artifacts.scanners.pickle_values import Blob, Global, Items, Made, call_line, line

MAX_ALLOCATION = 64 << 20  # bytearray(n) and its kin write n zeros
MAX_RATIO_TEXT = 64  # characters of a fraction; `1e999999999` computes a number of a billion digits
_UFUNC_MODULES = ("numpy", "numpy.core._multiarray_umath", "numpy._core._multiarray_umath")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,3}\Z")
_SCIPY_TEMPLATE = re.compile(
    r"\ndef _parse_args\(self, (?P<names>(?:[A-Za-z_]\w{0,30}, ){0,8})"
    r" (?P<given>loc=0(?:, scale=1)?)\):\n"
    r"    return \((?P=names)\), (?P<taken>loc, (?:scale|1))\n\n"
    r"def _parse_args_rvs\(self, (?P=names) (?P=given), size=None\):\n"
    r"    return self\._argcheck_rvs\((?P=names) (?P=taken), size=size\)\n\n"
    r"def _parse_args_stats\(self, (?P=names) (?P=given), moments='mv'\):\n"
    r"    return \((?P=names)\), (?P=taken), moments\n\Z"
)
_INTERPOLATIONS = frozenset(
    {"_call_linear", "_call_linear_np", "_call_nearest", "_call_spline", "_call_previousnext"}
)
# What vectorizers are given as a tokenizer; `format` is not among them, since it follows attributes.
_STR_METHODS = frozenset(
    {"capitalize", "casefold", "lower", "lstrip", "rstrip", "split", "splitlines", "strip", "title", "upper"}
)
_GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
# copyreg's `base` is a built-in type whose constructor copies a value (protocols 0 and 1).
_BASES = frozenset(
    {"object", "dict", "list", "tuple", "set", "frozenset", "str", "bytes", "float", "complex", "int"}
)


@dataclass(frozen=True, slots=True)
class Call:
    """`fault` is the refused call as a line; `value` what it returns, when known; `inner` what it unpickles."""

    fault: str = ""
    value: Any = None
    inner: bytes | Blob | None = None


ALLOWED_CALL = Call()
NEVER_HANDED = (Use.CALLED, Use.ALONE)


def judge_call(callee: Any, args: Any, *, restored: bool = False) -> Call:
    """`restored` for NEWOBJ, which makes an object without running its constructor."""
    if not isinstance(callee, Global):
        return Call(f"calls a computed value: {call_line(callee, args)}")
    if not callee.ok or callee.use is Use.HELD or (callee.use in (Use.RESTORED, Use.ALONE) and not restored):
        return Call(call_line(callee, args))
    check = _CHECKED.get((callee.module, callee.name))
    if check is None:
        return ALLOWED_CALL
    if not isinstance(args, Items) or args.cut:
        return Call(f"arguments that cannot be judged: {call_line(callee, args)}")
    return check(callee, args)


def judge_state(callee: Any, state: Any) -> str:
    """What is wrong with a state that BUILD gives to an object of this class; empty when nothing is.

    scipy's `rv_generic.__setstate__` runs `_parse_arg_template` of its state with `exec`.
    """
    if not isinstance(callee, Global) or not is_distribution(callee.module, callee.name):
        return ""
    template = state.get("_parse_arg_template") if isinstance(state, Items) and state.is_exact else None
    if isinstance(template, str) and _SCIPY_TEMPLATE.match(template):
        return ""
    return f"exec({line(template)}) through the state of {call_line(callee, Items('tuple'))[:-2]}"


def _getattr(callee: Global, args: Items) -> Call:
    """The attributes that harmless files take: how time zones, interpolations and distributions are written."""
    values = args.values
    if len(values) == 2 and isinstance(values[0], Global) and values[0].ok:
        if (values[0].module, values[0].name, values[1]) == ("zoneinfo", "ZoneInfo", "_unpickle"):
            return Call(value=Global("zoneinfo", "ZoneInfo._unpickle", True, Use.CALLED))
        if values[0].name == "interp1d" and values[1] in _INTERPOLATIONS:
            return ALLOWED_CALL
        if (values[0].module, values[0].name) == ("builtins", "str") and values[1] in _STR_METHODS:
            return ALLOWED_CALL
    elif len(values) == 2 and isinstance(values[0], Made) and values[1] == "_entropy":
        owner = values[0].callee
        if isinstance(owner, Global) and is_distribution(owner.module, owner.name):
            return ALLOWED_CALL
    return Call(call_line(callee, args))


def _pattern(callee: Global, args: Items) -> Call:
    values = args.values
    known = len(values) == 2 and isinstance(values[0], str | bytes) and isinstance(values[1], int)
    return ALLOWED_CALL if known else Call(call_line(callee, args))


def _codecs_encode(callee: Global, args: Items) -> Call:
    """How protocols up to 2 write bytes."""
    values = args.values
    if values and isinstance(values[0], str) and (len(values) == 1 or values[1] in ("latin1", "latin-1")):
        return Call(value=values[0].encode("latin-1", "replace"))
    if values and isinstance(values[0], Blob) and len(values) == 2 and values[1] in ("latin1", "latin-1"):
        return ALLOWED_CALL
    return Call(call_line(callee, args))


def _loads(callee: Global, args: Items) -> Call:
    if len(args.values) == 1 and isinstance(args.values[0], bytes | Blob):
        return Call(inner=args.values[0])
    return Call(call_line(callee, args))


def _partial(callee: Global, args: Items) -> Call:
    first = args.values[0] if args.values else None
    known = isinstance(first, Global) and first.ok and first.use not in NEVER_HANDED
    return ALLOWED_CALL if known else Call(call_line(callee, args))


def _ufunc(callee: Global, args: Items) -> Call:
    values = args.values
    known = len(values) == 2 and values[0] in _UFUNC_MODULES and values[1] in UFUNCS
    return ALLOWED_CALL if known else Call(call_line(callee, args))


def _literal(callee: Global, args: Items) -> Call:
    """A container is made of what stands in the stream, not of a range or an iterator that never ends."""
    plain = all(not isinstance(value, Made | Global) or _is_plain(value) for value in args.values)
    numbers = [value for value in args.values if isinstance(value, int)]
    small = all(abs(number) <= MAX_ALLOCATION for number in numbers)
    return ALLOWED_CALL if plain and small else Call(call_line(callee, args))


def _is_plain(value: Made | Global) -> bool:
    if isinstance(value, Global):
        return value.ok
    callee = value.callee
    return not (
        isinstance(callee, Global)
        and callee.name in ("range", "map", "filter", "zip", "repeat", "cycle", "count")
    )


def _type(callee: Global, args: Items) -> Call:
    """`type(None)` is how the types of singletons are written; with three arguments it makes a class."""
    return ALLOWED_CALL if len(args.values) == 1 else Call(call_line(callee, args))


def _retype(callee: Global, args: Items) -> Call:
    """torch `_rebuild_from_type_v2(func, type, args, state)` calls `func(*args)`."""
    values = args.values
    if len(values) != 4 or not isinstance(values[0], Global) or not isinstance(values[1], Global | Made):
        return Call(call_line(callee, args))
    return judge_call(values[0], values[2])


def _reconstruct(callee: Global, args: Items) -> Call:
    """`copyreg._reconstructor(cls, base, state)`: an allowed class, and a built-in base that gets the state."""
    values = args.values
    known = all(
        isinstance(value, Global) and value.ok and value.use not in NEVER_HANDED for value in values[:2]
    )
    plain = len(values) == 3 and known and values[1].module == "builtins" and values[1].name in _BASES
    return ALLOWED_CALL if plain else Call(call_line(callee, args))


def _generator(callee: Global, args: Items) -> Call:
    """numpy calls the second argument with the first, so it has to be numpy's own constructor."""
    values = args.values
    by_name = not values or values[0] in _GENERATORS
    by_class = bool(values) and isinstance(values[0], Global | Made) and len(values) == 1
    if values and isinstance(values[0], Global):
        by_name = values[0].ok and values[0].name in _GENERATORS
    own = len(values) < 2 or _is_bit_generator_constructor(values[1])
    return (
        ALLOWED_CALL if own and len(values) <= 2 and (by_name or by_class) else Call(call_line(callee, args))
    )


def _is_bit_generator_constructor(value: Any) -> bool:
    return (
        isinstance(value, Global)
        and value.module == "numpy.random._pickle"
        and value.name == "__bit_generator_ctor"
    )


def _bit_generator(callee: Global, args: Items) -> Call:
    """numpy makes an object of the class that it is given or that has this name."""
    first = args.values[0] if args.values else "MT19937"
    name = first.name if isinstance(first, Global) and first.ok else first
    known = len(args.values) <= 1 and isinstance(name, str) and name in _GENERATORS
    return ALLOWED_CALL if known else Call(call_line(callee, args))


def _array(callee: Global, args: Items) -> Call:
    """`_reconstruct(class, (0,), b'b')`: the array is made empty; its size comes with the state."""
    values = args.values
    shape = values[1] if len(values) == 3 else None
    empty = isinstance(shape, Items) and shape.kind == "tuple" and shape.values in ([0], [])
    known = empty and isinstance(values[0], Global) and values[0].ok
    return ALLOWED_CALL if known else Call(call_line(callee, args))


def _seed(callee: Global, args: Items) -> Call:
    known = all(value is None or isinstance(value, int) for value in args.values)
    return ALLOWED_CALL if known else Call(call_line(callee, args))


def _zone(callee: Global, args: Items) -> Call:
    """pytz and zoneinfo read the file of the zone below their own directory."""
    name = args.values[0] if args.values else None
    known = isinstance(name, str) and _ZONE.match(name)
    return ALLOWED_CALL if known else Call(call_line(callee, args))


def _ratio(callee: Global, args: Items) -> Call:
    texts = [value for value in args.values if not isinstance(value, int)]
    short = all(
        isinstance(text, str) and len(text) <= MAX_RATIO_TEXT and "e" not in text.lower() for text in texts
    )
    return ALLOWED_CALL if short else Call(call_line(callee, args))


_CHECKED: dict[tuple[str, str], Callable[[Global, Items], Call]] = {
    ("_codecs", "encode"): _codecs_encode,
    ("torch.storage", "_load_from_bytes"): _loads,
    ("functools", "partial"): _partial,
    ("builtins", "getattr"): _getattr,
    ("re", "_compile"): _pattern,
    ("zoneinfo", "ZoneInfo"): _zone,
    ("zoneinfo", "ZoneInfo._unpickle"): _zone,
    ("copyreg", "_reconstructor"): _reconstruct,
    ("builtins", "type"): _type,
    ("torch._tensor", "_rebuild_from_type_v2"): _retype,
    ("numpy.core", "_ufunc_reconstruct"): _ufunc,
    ("numpy._core", "_ufunc_reconstruct"): _ufunc,
    ("numpy.random._pickle", "__generator_ctor"): _generator,
    ("numpy.random._pickle", "__randomstate_ctor"): _generator,
    ("numpy.random._pickle", "__bit_generator_ctor"): _bit_generator,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("pytz", "_p"): _zone,
    ("random", "Random"): _seed,
    ("fractions", "Fraction"): _ratio,
    **{
        ("builtins", name): _literal
        for name in ("bytearray", "bytes", "list", "tuple", "set", "frozenset", "dict", "str", "int")
    },
    ("collections", "deque"): _literal,
    ("collections", "Counter"): _literal,
    ("collections", "OrderedDict"): _literal,
}
