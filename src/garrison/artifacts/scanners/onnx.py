"""ONNX: operators of known domains, tensors as long as they say, external data inside the directory.

Source: onnx.proto (ModelProto and what it holds). Weights are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from garrison.artifacts.scanners.base import Fact, Gap, Malformed, Reference, Seen, Source, high, shown
from garrison.artifacts.scanners.paths import unsafe_path
from garrison.artifacts.scanners.protobuf import Field, fields, text, varint
from garrison.artifacts.scanners.sources import Reader

MAX_DEPTH = 16  # graphs inside the attributes of nodes (If, Loop, Scan)
MAX_NODES = 2_000_000
MAX_DIMS = 64
FIX_OPERATOR = "export the model with standard operators, or serve it with a runtime that you trust with them"
FIX_PATH = "put the data beside the model and refer to it by its plain name"
_TOP = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"})
_DOMAINS |= {"com.microsoft", "com.microsoft.nchwc", "pkg.onnxscript.torch_lib"}
_CODE = re.compile(r"__import__|\bos\.system|\bsubprocess\b|\beval\s*\(|\bexec\s*\(|__builtins__")
# data type -> bits of one element; 8 is text
# fmt: off - a table, read by columns
_BITS = {
    1: 32,
    2: 8,
    3: 8,
    4: 16,
    5: 16,
    6: 32,
    7: 64,
    9: 8,
    10: 16,
    11: 64,
    12: 32,
    13: 64,
    14: 64,
    15: 128,
    16: 16,
    17: 8,
    18: 8,
    19: 8,
    20: 8,
    21: 4,
    22: 4,
    23: 4,
    24: 8,
}
# fmt: on


@dataclass(slots=True)
class _Model:
    reader: Reader
    domains: set[str] = field(default_factory=set)
    local: set[str] = field(default_factory=set)
    nodes: int = 0


class Onnx:
    format = "onnx"

    def recognises(self, head: bytes, source: Source) -> bool:
        """The version field first, then fields of a model only, a graph among them."""
        if len(head) < 4 or head[0] != 0x08 or not 1 <= head[1] <= 20:
            return False
        reader = Reader(source)
        try:
            top = [item for item, _ in zip(fields(reader, 0, source.size), range(1_000), strict=False)]
        except (Malformed, EOFError):
            return source.name.endswith(".onnx")
        return {item.number for item in top} <= _TOP and any(
            item.number == 7 and item.is_span for item in top
        )

    def scan(self, source: Source) -> Iterator[Seen]:
        model = _Model(Reader(source))
        for item in fields(model.reader, 0, source.size):
            if item.number == 7 and item.is_span:
                yield from _graph(model, item, 0)
            elif item.number == 25 and item.is_span:
                yield from _function(model, item)
            elif item.number == 20 and item.is_span:  # training: an initialisation and an algorithm
                for part in fields(model.reader, item.start, item.end):
                    if part.number in (1, 2) and part.is_span:
                        yield from _graph(model, part, 1)
            elif item.number == 14 and item.is_span:
                yield from _metadata(model, item)
            elif item.number not in _TOP:
                yield Gap("artifact.onnx.field", f"field {item.number} of the model is not understood")
        for domain in sorted(model.domains):
            yield Fact("operators", domain or "ai.onnx")
        for domain in sorted(model.domains - _DOMAINS - model.local):
            message = f"operators of the domain {shown(domain)} need a library of their own"
            if domain == "ai.onnx.contrib":
                yield high("artifact.onnx.operator", message, fix=FIX_OPERATOR)
            else:
                yield Gap("artifact.onnx.operator", message, fix=FIX_OPERATOR)


def _graph(model: _Model, graph: Field, depth: int) -> Iterator[Seen]:
    if depth > MAX_DEPTH:
        yield Gap("artifact.limit.nesting", f"graphs nested deeper than {MAX_DEPTH}")
        return
    for item in fields(model.reader, graph.start, graph.end):
        if item.number == 1 and item.is_span:
            yield from _node(model, item, depth)
        elif item.number == 5 and item.is_span:
            yield from _tensor(model, item)
        elif item.number == 15 and item.is_span:
            yield from _sparse(model, item)
        elif item.number == 16 and item.is_span:
            yield from _metadata(model, item)


def _sparse(model: _Model, sparse: Field) -> Iterator[Seen]:
    """Values and indices, each a tensor that may lie in a file of its own."""
    for part in fields(model.reader, sparse.start, sparse.end):
        if part.number in (1, 2) and part.is_span:
            yield from _tensor(model, part)


def _function(model: _Model, function: Field) -> Iterator[Seen]:
    for item in fields(model.reader, function.start, function.end):
        if item.number == 7 and item.is_span:
            yield from _node(model, item, 1)
        elif item.number == 10 and item.is_span:
            model.local.add(text(model.reader, item))


def _node(model: _Model, node: Field, depth: int) -> Iterator[Seen]:
    model.nodes += 1
    if model.nodes > MAX_NODES:
        raise Malformed("artifact.onnx.count", f"more than {MAX_NODES} nodes")
    for item in fields(model.reader, node.start, node.end):
        if item.number == 7 and item.is_span:
            model.domains.add(text(model.reader, item))
        elif item.number == 5 and item.is_span:
            for part in fields(model.reader, item.start, item.end):
                if part.number in (5, 10) and part.is_span:
                    yield from _tensor(model, part)
                elif part.number in (22, 23) and part.is_span:
                    yield from _sparse(model, part)
                elif part.number in (6, 11) and part.is_span:
                    yield from _graph(model, part, depth + 1)


def _tensor(model: _Model, tensor: Field) -> Iterator[Seen]:
    kind, raw, outside, elements, dims = 0, -1, {}, 1, 0
    for item in fields(model.reader, tensor.start, tensor.end):
        if item.number == 1:
            for extent in _numbers(model.reader, item):
                dims += 1
                elements = min(elements * extent, 1 << 64)
        elif item.number == 2:
            kind = item.value
        elif item.number == 9 and item.is_span:
            raw = item.end - item.start
        elif item.number == 13 and item.is_span:
            pair = {
                part.number: text(model.reader, part) for part in fields(model.reader, item.start, item.end)
            }
            outside[pair.get(1, "")] = pair.get(2, "")
    size = (elements * _BITS.get(kind, 0) + 7) // 8
    if dims > MAX_DIMS or elements >= 1 << 63 or (raw >= 0 and kind in _BITS and size != raw):
        raise Malformed("artifact.onnx.size", f"a tensor's shape needs {shown(size)} bytes; it has {raw}")
    if outside:
        yield from _outside(outside)


def _numbers(reader: Reader, item: Field) -> Iterator[int]:
    if not item.is_span:
        yield item.value
        return
    at = item.start
    while at < item.end:
        reader.offset = at
        value = varint(reader)
        at = reader.offset
        yield value


def _outside(outside: dict[str, str]) -> Iterator[Seen]:
    if unknown := sorted(set(outside) - {"location", "offset", "length", "checksum"}):
        # `basepath` and the like move the place that the location is read from
        yield high("artifact.onnx.external", f"external data with the key {shown(unknown[0])}", fix=FIX_PATH)
    location = outside.get("location", "")
    if reason := unsafe_path(location):
        yield high("artifact.onnx.external", f"external data {shown(location)} {reason}", fix=FIX_PATH)
        return
    numbers = [outside.get(key, "0") for key in ("offset", "length")]
    if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
        raise Malformed("artifact.onnx.external", "external data whose offset or length is not a number")
    yield Reference(location, sum(int(number) for number in numbers))


def _metadata(model: _Model, entry: Field) -> Iterator[Seen]:
    for part in fields(model.reader, entry.start, entry.end):
        if part.is_span and _CODE.search(text(model.reader, part)):
            yield high("artifact.onnx.metadata", "a metadata value is written like a program")
