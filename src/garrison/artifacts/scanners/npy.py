"""NumPy arrays (`.npy`): a literal header, numeric data of exactly the right length; objects are pickles.

Source: numpy `lib/format.py`, format versions 1 to 3. The header is read as a literal, never evaluated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from garrison.artifacts.scanners.base import Gap, Inner, Malformed, Seen, Source, high, shown
from garrison.artifacts.scanners.sources import Window

MAGIC = b"\x93NUMPY"
MAX_HEADER = 65_536  # numpy itself refuses more than 10,000 by default
MAX_RANK = 64  # NPY_MAXDIMS
MAX_FIELDS = 4_096
_LONG = re.compile(r"\b(\d+)L(?=[,)\s])")  # how Python 2 wrote the shape, which numpy still reads
_SIMPLE = re.compile(r"[<>|=]?([biufcmMSUV?])(\d{0,9})(\[\w{1,8}\])?\Z")


class Npy:
    format = "npy"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return head.startswith(MAGIC)

    def scan(self, source: Source) -> Iterator[Seen]:
        major = source.read_at(6, 1)[:1]
        if major not in (b"\x01", b"\x02", b"\x03"):
            yield Gap("artifact.npy.version", "an npy format version that is not understood")
            return
        width = 2 if major == b"\x01" else 4
        length = int.from_bytes(source.read_at(8, width), "little")
        start = 8 + width + length
        if length > MAX_HEADER or start > source.size:
            raise Malformed("artifact.npy.header", f"the header claims {length} of {source.size} bytes")
        header = read_npy_header(source.read_at(8 + width, length))
        count = 1
        for extent in header["shape"]:
            count *= extent
        item, objects = _item(header["descr"], 0)
        if objects:
            yield Inner("objects", Window("objects", source, start, source.size - start))
            return
        left = source.size - start
        end = start + count * item
        if (
            count * item < left and source.read_at(end, len(MAGIC)) == MAGIC
        ):  # several arrays saved one by one
            yield Inner("next", Window("next", source, end, source.size - end))
        elif count * item != left:
            message = f"the header describes {shown(count * item)} bytes of data; there are {left}"
            yield high("artifact.npy.size", message)


def read_npy_header(raw: bytes) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8").strip()
        tree = ast.literal_eval(_LONG.sub(r"\1", text))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise Malformed("artifact.npy.header", "the header is not a plain literal") from error
    if not isinstance(tree, dict) or set(tree) != {"descr", "fortran_order", "shape"}:
        raise Malformed(
            "artifact.npy.header", "the header does not have exactly descr, fortran_order and shape"
        )
    shape = tree["shape"]
    if not isinstance(shape, tuple) or len(shape) > MAX_RANK or not isinstance(tree["fortran_order"], bool):
        raise Malformed("artifact.npy.header", "the shape is not a tuple or the order not a boolean")
    if not all(type(extent) is int and 0 <= extent < 1 << 63 for extent in shape):
        raise Malformed("artifact.npy.header", "the shape holds something other than whole numbers")
    return tree


def _item(descr: Any, depth: int) -> tuple[int, bool]:
    """Bytes of one element and whether it holds objects."""
    if depth > 8:
        raise Malformed("artifact.npy.dtype", "a dtype nested too deep")
    if isinstance(descr, str):
        if descr in ("|O", "O", "|O8", "|O4"):
            return 8, True
        match = _SIMPLE.match(descr)
        if match is None or (not match[2] and match[1] != "?"):
            raise Malformed("artifact.npy.dtype", f"unknown dtype {shown(descr)}")
        return int(match[2] or 1) * (4 if match[1] == "U" else 1), False
    if isinstance(descr, tuple) and len(descr) == 2 and isinstance(descr[0], str | list):
        size, objects = _item(descr[0], depth + 1)  # a sub-array: (dtype, shape)
        for extent in descr[1] if isinstance(descr[1], tuple) else (descr[1],):
            size *= _natural(extent)
        return size, objects
    if isinstance(descr, list) and len(descr) <= MAX_FIELDS:
        total, objects = 0, False
        for field in descr:
            if not isinstance(field, tuple) or len(field) not in (2, 3):
                raise Malformed("artifact.npy.dtype", "a field that is not (name, dtype)")
            size, inner = _item(field[1] if len(field) == 2 else (field[1], field[2]), depth + 1)
            total, objects = total + size, objects or inner
        return total, objects
    raise Malformed("artifact.npy.dtype", f"unknown dtype {shown(descr)}")


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise Malformed("artifact.npy.dtype", "a sub-array whose shape is not whole numbers")
    return value
