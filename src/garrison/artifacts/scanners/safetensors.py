"""safetensors: the header exactly as the format says, and every byte of the data owned by one tensor.

Source: the safetensors format description. Weights are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from garrison.artifacts.scanners.base import Malformed, Seen, Source, high, shown
from garrison.artifacts.scanners.config_rules import judge_config
from garrison.artifacts.scanners.embedded import FIX, look_into, program_in
from garrison.artifacts.scanners.strict_json import BadJson, parse

MAX_HEADER = 100_000_000  # the reference implementation's own limit
MAX_RANK = 32
# dtype -> bits of one element
# fmt: off - a table, read by columns
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}
# fmt: on


class Safetensors:
    format = "safetensors"

    def recognises(self, head: bytes, source: Source) -> bool:
        if source.name.endswith(".safetensors"):
            # Nothing else may call itself so: a pickle under this name is refused by two scanners.
            return True
        return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER

    def scan(self, source: Source) -> Iterator[Seen]:
        length = int.from_bytes(source.read_at(0, 8), "little")
        if source.size < 8 or length > MAX_HEADER or 8 + length > source.size:
            message = f"the header claims {length} bytes; the file has {source.size}"
            raise Malformed("artifact.safetensors.header", message)
        raw = source.read_at(8, length)
        if raw[:1] != b"{":
            raise Malformed("artifact.safetensors.header", "the header does not begin with {")
        try:
            header = parse(raw.rstrip(b" "))
        except BadJson as error:
            raise Malformed(
                "artifact.safetensors.header", f"the header is not strict JSON: {error}"
            ) from error
        if not isinstance(header, dict):
            raise Malformed("artifact.safetensors.header", "the header is not an object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise Malformed(
                "artifact.safetensors.metadata", "__metadata__ holds something other than strings"
            )
        yield from _metadata(metadata)
        spans = sorted(_span(name, entry) for name, entry in header.items())
        _cover(spans, source.size - 8 - length)


def _metadata(metadata: dict[str, str]) -> Iterator[Seen]:
    """Loaders and web pages show, parse and obey these texts, so a program among them is not a note."""
    for key, text in metadata.items():
        where = f":__metadata__.{shown(key)}"
        if program := program_in(text) or program_in(key):
            yield high("artifact.safetensors.program", f"a text like a program: {program}", where, FIX)
        yield from look_into(text, where)
        if text[:1] in "{[" and text:
            try:
                value = parse(text.encode("utf-8", "surrogatepass"))
            except BadJson:
                continue
            yield from judge_config(value, "metadata.json")


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        message = f"tensor {shown(name)} does not have exactly dtype, shape and data_offsets"
        raise Malformed("artifact.safetensors.entry", message, where=shown(name))
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        message = f"tensor {shown(name)} has the unknown dtype {shown(dtype)}"
        raise Malformed("artifact.safetensors.dtype", message, where=shown(name))
    if not _naturals(shape) or len(shape) > MAX_RANK or not _naturals(offsets) or len(offsets) != 2:
        message = f"tensor {shown(name)}: shape or offsets are not lists of whole numbers"
        raise Malformed("artifact.safetensors.entry", message, where=shown(name))
    begin, end = offsets
    bits = _BITS[dtype]
    for extent in shape:
        bits *= extent
        if bits >= 1 << 66:
            break
    if begin > end or (end - begin) * 8 != bits:
        message = f"tensor {shown(name)}: {dtype}{shown(shape)} does not fill bytes {begin} to {end}"
        raise Malformed("artifact.safetensors.span", message, where=shown(name))
    return begin, end, name


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _cover(spans: list[tuple[int, int, str]], size: int) -> None:
    """The tensors lie end to end from 0 to the end of the file: no overlap, no hole, nothing after."""
    at = 0
    for begin, end, name in spans:
        if begin != at:
            what = "overlaps the one before" if begin < at else f"leaves {begin - at} bytes unused before it"
            raise Malformed("artifact.safetensors.layout", f"tensor {shown(name)} {what}", where=shown(name))
        at = end
    if at > size:
        raise Malformed("artifact.safetensors.bounds", f"the tensors end at {at}, the data at {size}")
    if at < size:
        raise Malformed("artifact.safetensors.trailing", f"{size - at} bytes follow the last tensor")
