"""Raw bytes inside and behind pickles: joblib's arrays and the storages of legacy torch files.

Sources: joblib `numpy_pickle.NumpyArrayWrapper.read_array`, torch `serialization._legacy_load`.
Their sizes are computed from the symbolic values, so that the opcodes after an array are found where
the real reader would find them. A size that cannot be computed exactly ends the scan as not understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from garrison.artifacts.scanners.base import Gap, Inner, Seen
from garrison.artifacts.scanners.pickle_machine import Machine
from garrison.artifacts.scanners.pickle_opcodes import run
from garrison.artifacts.scanners.pickle_values import Global, Items, Made
from garrison.artifacts.scanners.sources import Reader, Window

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
MAX_STORAGES = 1_000_000
MAX_RANK = 64
MAX_DTYPES = 8  # structures in structures
ALIGNMENT = 16  # what every joblib writes; a larger one would let the padding be read as opcodes
_DTYPE = re.compile(r"[<>|=]?([biufcmMSUV])(\d{1,9})(\[\w{1,8}\])?\Z")
_HAS_OBJECT = 1  # NPY_ITEM_HASOBJECT
# fmt: off - a table, read by columns
_STORAGES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
    "BFloat16Storage": 2,
    "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8,
    "UntypedStorage": 1,
    "QUInt8Storage": 1,
    "QInt8Storage": 1,
    "QInt32Storage": 4,
}
# fmt: on


class Unsized(ValueError):
    """The length of raw bytes in the stream cannot be computed."""


class Twofold(Unsized):
    """Written as no writer does, so that readers see different arrays and go on at different bytes."""


def is_joblib_array(made: Made) -> bool:
    """Made by a call; any other way to get one (it may not be handed over) is refused elsewhere."""
    callee = made.callee
    return isinstance(callee, Global) and (callee.module, callee.name) == (
        "joblib.numpy_pickle",
        "NumpyArrayWrapper",
    )


def skip_joblib_array(machine: Machine, made: Made) -> None:
    """After BUILD of a wrapper the array's bytes follow: padding to the alignment, then the data."""
    state = made.state
    if not isinstance(state, Items) or not state.is_exact:
        raise Twofold("a joblib array whose state is not one plain dictionary")
    size, objects = dtype_size(state.get("dtype"))
    if objects:
        # joblib hands an array of objects to plain `pickle.load`, right here.
        nested = Machine(machine.reader)
        reason = run(nested)
        machine.adopt(nested)
        if reason:
            raise Unsized(reason)
        return
    shape = state.get("shape")
    if not isinstance(shape, Items) or shape.kind != "tuple" or len(shape.values) > MAX_RANK:
        raise Unsized("a joblib array without a shape")
    for extent in shape.values:
        if type(extent) is not int or extent < 0:
            raise Unsized("a joblib array whose shape is not whole numbers")
        size *= extent
    alignment = state.get("numpy_array_alignment_bytes")
    reader = machine.reader
    if alignment is not None:
        if type(alignment) is not int or alignment != ALIGNMENT:
            raise Twofold("a joblib array with an alignment that joblib never writes")
        padding = reader.take(1)[0]
        if padding > alignment or reader.take(padding).strip(b"\xff"):
            raise Unsized("a joblib array with odd padding")
    start = reader.offset
    reader.skip(size)
    name = f"array at {start}"
    machine.inner.append(Inner(name, Window(name, reader.source, start, size), guess=True))


def dtype_size(value: Any, depth: int = 0) -> tuple[int, bool]:
    """Bytes of one element of a `numpy.dtype(...)` call, and whether it holds objects. Raises `Unsized`."""
    if depth > MAX_DTYPES:
        raise Unsized("a dtype nested too deep")
    if not isinstance(value, Made) or not isinstance(value.args, Items) or not value.args.values:
        raise Unsized("an array whose dtype is not a numpy.dtype call")
    if not isinstance(value.callee, Global) or (value.callee.module, value.callee.name) != ("numpy", "dtype"):
        raise Unsized("an array whose dtype is not a numpy.dtype call")
    code = value.args.values[0]
    if not isinstance(code, str):
        raise Unsized("an array whose dtype is computed")
    if code in ("O", "O8", "|O"):
        return 8, True
    match = _DTYPE.match(code)
    if match is None:
        raise Unsized("an array of an unknown dtype")
    width = int(match[2]) * (4 if match[1] == "U" else 1)
    return width, _state_holds_objects(value.state, match[1], width, depth)


def _state_holds_objects(state: Any, kind: str, width: int, depth: int) -> bool:
    """What `dtype.__setstate__` may change: (version, order, subarray, names, fields, size, alignment, flags).

    The size of text and void types and the flag for objects are taken from the state by numpy, so they
    have to agree with the dtype's name and fields; otherwise the real reader goes on at another byte.
    """
    if state is None and kind not in "SUV":
        return False
    if not isinstance(state, Items) or state.cut or len(state.values) not in (8, 9):
        raise Unsized("a dtype whose state is not understood")
    _, _, base, _, table, size, _, flags = state.values[:8]
    if (kind in "SUV" and size != width) or type(flags) is not int:
        raise Unsized("a dtype whose state contradicts its name")
    entries = table.values[1::2] if isinstance(table, Items) else []
    inner = [entry.values[0] if isinstance(entry, Items) and entry.values else None for entry in entries]
    if base is not None:  # a sub-array: (dtype, shape)
        if kind != "V" or not isinstance(base, Items) or len(base.values) != 2:
            raise Unsized("a dtype whose state is not understood")
        inner.append(base.values[0])
    objects = any([dtype_size(value, depth + 1)[1] for value in inner])  # noqa: C419 - every one has to be sized
    if objects is not bool(flags & _HAS_OBJECT):
        raise Unsized("a dtype whose flags contradict its fields")
    return objects


def storage_bytes(kind: Any, count: Any) -> int:
    """Bytes of a torch storage named in a persistent id. Raises `Unsized`."""
    if not isinstance(kind, Global) or kind.name not in _STORAGES or type(count) is not int or count < 0:
        raise Unsized("a storage of an unknown type")
    return _STORAGES[kind.name] * count


def legacy_storages(reader: Reader, model: Machine, keys: Any) -> Iterator[Seen]:
    """The raw end of a legacy torch file: for every key its count of elements, then the elements."""
    sizes: dict[str, tuple[Any, Any]] = {}
    for identity in model.ids:
        values = identity.values if isinstance(identity, Items) else []
        if len(values) >= 5 and values[0] == "storage" and isinstance(values[2], str):
            sizes[values[2]] = (values[1], values[4])
    try:
        if not isinstance(keys, Items) or len(keys.values) > MAX_STORAGES:
            raise Unsized("the list of storages is not a list")
        for key in keys.values:
            kind, count = sizes.get(key, (None, None)) if isinstance(key, str) else (None, None)
            length = storage_bytes(kind, count)
            if int.from_bytes(reader.take(8), "little") != count:
                raise Unsized("a storage whose count differs from the one in the pickle")
            reader.skip(length)
    except Unsized as error:
        yield Gap("artifact.torch.storage", str(error), fix="save the weights again, as safetensors")
