"""Whether one call that unpickling would make is allowed, with the few callables whose arguments matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from garrison.artifacts.scanners.pickle_allowed import UFUNCS
from garrison.artifacts.scanners.pickle_values import Blob, Global, Items, Made, call_line

MAX_ALLOCATION = 64 << 20  # bytearray(n) and its kin write n zeros


@dataclass(frozen=True, slots=True)
class Call:
    """`fault` is the refused call as a line; `value` what it returns, when known; `inner` what it unpickles."""

    fault: str = ""
    value: Any = None
    inner: bytes | Blob | None = None


ALLOWED_CALL = Call()


def judge_call(callee: Any, args: Any) -> Call:
    if not isinstance(callee, Global):
        return Call(f"calls a computed value: {call_line(callee, args)}")
    if not callee.ok:
        return Call(call_line(callee, args))
    check = _CHECKED.get((callee.module, callee.name))
    if check is None:
        return ALLOWED_CALL
    if not isinstance(args, Items):
        return Call(f"arguments that cannot be judged: {call_line(callee, args)}")
    return check(callee, args)


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
    return ALLOWED_CALL if isinstance(first, Global) and first.ok else Call(call_line(callee, args))


def _ufunc(callee: Global, args: Items) -> Call:
    values = args.values
    known = (
        len(values) == 2 and values[0] in ("numpy", "numpy.core._multiarray_umath") and values[1] in UFUNCS
    )
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
    """`copyreg._reconstructor(cls, base, state)`: both classes stand on the allow-list."""
    known = all(isinstance(value, Global) and value.ok for value in args.values[:2])
    return ALLOWED_CALL if known else Call(call_line(callee, args))


_CHECKED: dict[tuple[str, str], Callable[[Global, Items], Call]] = {
    ("_codecs", "encode"): _codecs_encode,
    ("torch.storage", "_load_from_bytes"): _loads,
    ("functools", "partial"): _partial,
    ("copyreg", "_reconstructor"): _reconstruct,
    ("builtins", "type"): _type,
    ("torch._tensor", "_rebuild_from_type_v2"): _retype,
    ("numpy.core", "_ufunc_reconstruct"): _ufunc,
    ("numpy._core", "_ufunc_reconstruct"): _ufunc,
    **{
        ("builtins", name): _literal
        for name in ("bytearray", "bytes", "list", "tuple", "set", "frozenset", "dict", "str", "int")
    },
    ("collections", "deque"): _literal,
    ("collections", "Counter"): _literal,
    ("collections", "OrderedDict"): _literal,
}
