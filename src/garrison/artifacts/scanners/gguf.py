"""GGUF: header, metadata, tensor table and the layout of the data, each checked against the file.

Source: the GGUF specification (ggml/docs/gguf.md), versions 2 and 3, little-endian; block sizes from ggml.
Weights are not read. Chat templates are handed on as hostile Jinja.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from garrison.artifacts.scanners.base import Gap, Inner, Malformed, Seen, Source, high, shown
from garrison.artifacts.scanners.embedded import look_into
from garrison.artifacts.scanners.sources import BytesSource, Reader, all_zero
from garrison.core.finding import Finding

MAGIC = b"GGUF"
MAX_KEY = 65_535  # the specification's own limit
MAX_NOTE = 1 << 20  # longer texts are data
MAX_STRING = 16 << 20  # the longest strings are templates; real ones stay under 100 kB
MAX_PAIRS = 65_536  # real files have fewer than 100
MAX_TENSORS = 1 << 20  # the largest mixtures of experts have some 100,000
MAX_NAME = 64  # GGML_MAX_NAME
MAX_DIMS = 4  # GGML_MAX_DIMS
MAX_TEMPLATE = 1 << 20

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

# tensor type -> (elements in a block, bytes in a block)
# fmt: off - a table, read by columns
_BLOCKS: dict[int, tuple[int, int]] = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 36),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
}
# fmt: on


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    offset: int
    size: int


class Gguf:
    format = "gguf"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return head[:4] == MAGIC

    def scan(self, source: Source) -> Iterator[Seen]:
        reader = Reader(source, 4)
        (version,) = struct.unpack("<I", reader.take(4))
        if version not in (2, 3):
            yield Gap("artifact.gguf.version", f"GGUF version {version} is not understood; 2 and 3 are")
            return
        tensors, pairs = struct.unpack("<QQ", reader.take(16))
        # The smallest tensor entry takes 32 bytes and the smallest pair 13.
        if tensors > min(MAX_TENSORS, reader.left // 32):
            raise Malformed("artifact.gguf.count", f"the header claims {tensors} tensors")
        if pairs > min(MAX_PAIRS, reader.left // 13):
            raise Malformed("artifact.gguf.count", f"the header claims {pairs} metadata pairs")
        alignment = 32
        seen: set[str] = set()
        for _ in range(pairs):
            key = _text(reader, MAX_KEY, "a metadata key")
            if key in seen:
                raise Malformed(
                    "artifact.gguf.duplicate", f"metadata key {shown(key)} stands twice", where=key
                )
            seen.add(key)
            (kind,) = struct.unpack("<I", reader.take(4))
            if key.startswith("tokenizer.chat_template") and kind == _STRING:
                yield _template(reader, key)
            elif key == "general.alignment":
                if kind != 4:
                    raise Malformed("artifact.gguf.alignment", "general.alignment is not a 32-bit number")
                (alignment,) = struct.unpack("<I", reader.take(4))
                if alignment < 8 or alignment & (alignment - 1) or alignment > 1 << 20:
                    raise Malformed("artifact.gguf.alignment", f"alignment {alignment} is not a power of two")
            elif kind == _STRING:
                yield from _note(reader, key)
            else:
                _value(reader, kind, key)
        table = _tensor_table(reader, tensors, alignment)
        yield from _layout(source, reader.offset, table, alignment)


def _text(reader: Reader, limit: int, what: str) -> str:
    (length,) = struct.unpack("<Q", reader.take(8))
    if length > limit or length > reader.left:
        raise Malformed("artifact.gguf.length", f"{what} claims {length} bytes; {reader.left} are left")
    try:
        return reader.take(length).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("artifact.gguf.text", f"{what} is not UTF-8") from error


def _template(reader: Reader, key: str) -> Inner:
    text = _text(reader, MAX_TEMPLATE, key)
    return Inner(key, BytesSource(key, text.encode()), kind="jinja", glue=":")


def _note(reader: Reader, key: str) -> Iterator[Seen]:
    """A text that some loader may show, render or decode."""
    start = reader.offset
    _skip_string(reader, key)
    if reader.offset - start <= MAX_NOTE:
        end, reader.offset = reader.offset, start + 8
        text = reader.take(end - start - 8).decode("utf-8", "replace")
        yield from look_into(text, f":{shown(key)}")


def _value(reader: Reader, kind: int, key: str) -> None:
    if kind == _ARRAY:
        _array(reader, key)
    elif kind == 7:
        if reader.take(1)[0] > 1:
            raise Malformed("artifact.gguf.type", f"{shown(key)}: a boolean is neither 0 nor 1", where=key)
    elif kind in _SIZES:
        reader.skip(_SIZES[kind])
    else:
        raise Malformed("artifact.gguf.type", f"{shown(key)} has the unknown type {kind}", where=key)


def _array(reader: Reader, key: str) -> None:
    kind, count = struct.unpack("<IQ", reader.take(12))
    if kind == _STRING:
        if count > reader.left // 8:
            raise Malformed("artifact.gguf.length", f"{shown(key)} claims {count} strings", where=key)
        for _ in range(count):
            _skip_string(reader, key)
    elif kind in _SIZES:
        if count > reader.left // _SIZES[kind]:
            raise Malformed("artifact.gguf.length", f"{shown(key)} claims {count} values", where=key)
        reader.skip(count * _SIZES[kind])
    else:  # ggml reads no arrays of arrays
        raise Malformed("artifact.gguf.type", f"{shown(key)} is an array of type {kind}", where=key)


def _skip_string(reader: Reader, key: str) -> None:
    length = int.from_bytes(reader.take(8), "little")
    if length > MAX_STRING or length > reader.left:
        raise Malformed("artifact.gguf.length", f"a string in {shown(key)} claims {length} bytes", where=key)
    reader.skip(length)


def _tensor_table(reader: Reader, count: int, alignment: int) -> list[_Tensor]:
    table: list[_Tensor] = []
    names: set[str] = set()
    for _ in range(count):
        name = _text(reader, MAX_NAME, "a tensor name")
        if name in names:
            raise Malformed("artifact.gguf.duplicate", f"tensor {shown(name)} stands twice", where=name)
        names.add(name)
        (dims,) = struct.unpack("<I", reader.take(4))
        if dims > MAX_DIMS:
            raise Malformed("artifact.gguf.shape", f"tensor {shown(name)} has {dims} dimensions", where=name)
        shape = struct.unpack(f"<{dims}Q", reader.take(8 * dims))
        kind, offset = struct.unpack("<IQ", reader.take(12))
        if kind not in _BLOCKS:
            raise Malformed("artifact.gguf.type", f"tensor {shown(name)} has unknown type {kind}", where=name)
        block, width = _BLOCKS[kind]
        elements = 1
        for extent in shape:
            elements *= extent
        if elements == 0 or elements >= 1 << 63 or (shape[0] if shape else 1) % block:
            raise Malformed("artifact.gguf.shape", f"tensor {shown(name)} has shape {shape}", where=name)
        if offset % alignment:
            raise Malformed("artifact.gguf.offset", f"tensor {shown(name)} is not aligned", where=name)
        table.append(_Tensor(name, offset, elements // block * width))
    return table


def _layout(source: Source, table_end: int, table: list[_Tensor], alignment: int) -> Iterator[Finding]:
    """The data section is the tensors in order of offset, padded to the alignment, and nothing else."""
    start = -(-table_end // alignment) * alignment
    end = min(table_end, source.size)
    for tensor in sorted(table, key=lambda tensor: tensor.offset):
        begin = start + tensor.offset
        if begin < end:
            raise Malformed(
                "artifact.gguf.overlap", f"tensor {shown(tensor.name)} overlaps", where=tensor.name
            )
        if begin + tensor.size > source.size:
            message = f"tensor {shown(tensor.name)} ends at {begin + tensor.size} of {source.size} bytes"
            raise Malformed("artifact.gguf.bounds", message, where=tensor.name)
        if begin - end >= alignment or not all_zero(source, end, begin):
            yield high(
                "artifact.gguf.gap", f"{begin - end} bytes before {shown(tensor.name)} belong to nothing"
            )
        end = begin + tensor.size
    left = source.size - end
    if left >= alignment or (left and not all_zero(source, end, source.size)):
        yield high("artifact.gguf.trailing", f"{left} bytes follow the last tensor and belong to nothing")
