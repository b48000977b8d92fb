"""Core ML: model specifications (`.mlmodel`, also inside `.mlpackage`) and their weight blobs.

Custom models and custom layers name a class that the application loads; linked models name another file.
Weights are not read. Sources: Model.proto, NeuralNetwork.proto, MIL.proto; MIL blob storage version 2.
"""

from __future__ import annotations

from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Malformed, Seen, Source, critical, high, shown
from garrison.artifacts.scanners.coreml_allowed import LAYERS, OPERATIONS
from garrison.artifacts.scanners.paths import unsafe_path
from garrison.artifacts.scanners.protobuf import Field, fields, text
from garrison.artifacts.scanners.sources import Reader, all_zero

MAX_DEPTH = 24  # pipelines of networks with branches, and blocks in operations
MAX_PARTS = 2_000_000
MAX_TOP = 64  # fields of one model; there are four
_VERSIONS = range(1, 16)
_PIPELINES = frozenset({200, 201, 202})
_NETWORKS = frozenset({303, 403, 500})
_KINDS = frozenset(
    {300, 301, 302, 304, 400, 401, 402, 404, 501, 560, 600, 601, 602, 603, 604, 606, 607, 609, 610, 900}
    | {2000, 2001, 2002, 2003, 2004, 2005, 2006}
)
_ALL = _PIPELINES | _NETWORKS | _KINDS | {502, 555, 556, 3000}
_DESCRIPTION = frozenset({1, 10, 11, 12, 13, 20, 21, 50, 100})
_LAYER = frozenset({1, 2, 3, 4, 5, 10})
FIX = "convert the model again without custom parts"
_ROOT = "@model_path/"


class CoreMl:
    format = "coreml"

    def recognises(self, head: bytes, source: Source) -> bool:
        """The version, then only fields of a model, one of them the kind of model."""
        if len(head) < 4 or head[0] != 0x08 or head[1] not in _VERSIONS:
            return False
        reader = Reader(source)
        numbers: set[int] = set()
        try:
            for item, _ in zip(fields(reader, 0, source.size), range(MAX_TOP), strict=False):
                numbers.add(item.number)
        except (Malformed, EOFError):
            pass  # a damaged one is one all the same when its kind was seen
        named = source.name.endswith(".mlmodel") and numbers <= {1, 2, 10}  # a description of no model
        return bool(numbers & _ALL) or named

    def scan(self, source: Source) -> Iterator[Seen]:
        yield from _Spec(Reader(source)).model(0, source.size, 0)


class _Spec:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.parts = 0

    def _step(self, depth: int) -> None:
        self.parts += 1
        if depth > MAX_DEPTH or self.parts > MAX_PARTS:
            raise Malformed("artifact.coreml.limit", f"nested deeper than {MAX_DEPTH} or too many parts")

    def model(self, start: int, end: int, depth: int) -> Iterator[Seen]:
        self._step(depth)
        is_described = False
        for item in fields(self.reader, start, end):
            number = item.number
            is_described = is_described or (number == 2 and item.is_span)
            if number in _PIPELINES and item.is_span:
                yield from self._pipeline(item, depth, is_plain=number == 202)
            elif number in _NETWORKS and item.is_span:
                yield from self._network(item, depth)
            elif number == 502 and item.is_span:
                yield from self._program(item, depth)
            elif number == 555 and item.is_span:
                yield critical(
                    "artifact.coreml.custom", f"a custom model of the class {self._class(item)}", fix=FIX
                )
            elif number == 556 and item.is_span:
                yield high(
                    "artifact.coreml.linked", f"the model is another file: {self._linked(item)}", fix=FIX
                )
            elif number == 3000:
                yield Gap("artifact.coreml.field", "a model serialised by a framework of its own", fix=FIX)
            elif number == 2 and item.is_span:
                yield from self._description(item, depth)
            elif item.is_span != (number in _KINDS) or (number not in _KINDS and number not in (1, 10)):
                yield Gap("artifact.coreml.field", f"field {number} of the model is not understood", fix=FIX)
        if not is_described:  # Model.proto: every model has one, and another format in its place has none
            yield Gap("artifact.coreml.field", "a model without a description", fix=FIX)

    def _description(self, item: Field, depth: int) -> Iterator[Seen]:
        """Inputs, outputs and metadata; whatever else would be another format in its place."""
        self._step(depth)
        for part in fields(self.reader, item.start, item.end):
            self._step(depth)
            if part.number not in _DESCRIPTION:
                message = f"field {part.number} of the description is not understood"
                yield Gap("artifact.coreml.field", message, fix=FIX)

    def _pipeline(self, pipeline: Field, depth: int, *, is_plain: bool) -> Iterator[Seen]:
        self._step(depth)
        for item in fields(self.reader, pipeline.start, pipeline.end):
            if item.number == 1 and item.is_span:
                if is_plain:
                    yield from self.model(item.start, item.end, depth + 1)
                else:
                    yield from self._pipeline(item, depth + 1, is_plain=True)

    def _network(self, network: Field, depth: int) -> Iterator[Seen]:
        self._step(depth)
        for item in fields(self.reader, network.start, network.end):
            if item.number == 1 and item.is_span:
                yield from self._layer(item, depth)

    def _layer(self, layer: Field, depth: int) -> Iterator[Seen]:
        self._step(depth)
        for item in fields(self.reader, layer.start, layer.end):
            if item.number == 500:
                yield critical(
                    "artifact.coreml.custom", f"a custom layer of the class {self._class(item)}", fix=FIX
                )
            elif item.number in (605, 615) and item.is_span:
                for part in fields(self.reader, item.start, item.end):
                    if part.is_span and part.number in ((1, 2) if item.number == 605 else (3, 4)):
                        yield from self._network(part, depth + 1)
            elif item.number not in LAYERS and item.number not in _LAYER:
                yield Gap("artifact.coreml.field", f"the layer {item.number} is not understood", fix=FIX)

    def _class(self, item: Field) -> str:
        for part in fields(self.reader, item.start, item.end) if item.is_span else ():
            if part.number == 10 and part.is_span:
                return shown(text(self.reader, part))
        return "without a name"

    def _linked(self, item: Field) -> str:
        names: list[str] = []
        for part in _spans(self.reader, item, 1):
            for parameter in fields(self.reader, part.start, part.end):
                names.extend(text(self.reader, value) for value in _spans(self.reader, parameter, 1))
        return ", ".join(shown(name) for name in names) or "without a name"

    def _program(self, program: Field, depth: int) -> Iterator[Seen]:
        """functions (2: name, function) -> specialisations (3: opset, block) -> operations."""
        for entry in _spans(self.reader, program, 2):
            for function in _spans(self.reader, entry, 2):
                for special in _spans(self.reader, function, 3):
                    for block in _spans(self.reader, special, 2):
                        yield from self._block(block, depth + 1)

    def _block(self, block: Field, depth: int) -> Iterator[Seen]:
        self._step(depth)
        for operation in _spans(self.reader, block, 3):
            self._step(depth)
            for item in fields(self.reader, operation.start, operation.end):
                if item.number == 1 and item.is_span:
                    yield from _operation(text(self.reader, item))
                elif item.number == 4 and item.is_span:
                    yield from self._block(item, depth + 1)
                elif item.number == 5 and item.is_span:
                    yield from self._blob(item)

    def _blob(self, attribute: Field) -> Iterator[Seen]:
        """An attribute (2: value) whose value lies in a file (5: name and offset)."""
        for value in _spans(self.reader, attribute, 2):
            for blob in _spans(self.reader, value, 5):
                for name in _spans(self.reader, blob, 1):
                    path = text(self.reader, name)
                    if not path.startswith(_ROOT) or unsafe_path(path[len(_ROOT) :]):
                        message = f"weights are read from {shown(path)}"
                        yield high(
                            "artifact.coreml.reference", message, fix="keep the weights in the package"
                        )


def _spans(reader: Reader, item: Field, number: int) -> Iterator[Field]:
    if item.is_span:
        yield from (
            part for part in fields(reader, item.start, item.end) if part.number == number and part.is_span
        )


def _operation(kind: str) -> Iterator[Seen]:
    if kind.startswith("custom"):
        yield critical("artifact.coreml.custom", f"the custom operation {shown(kind)}", fix=FIX)
    elif kind not in OPERATIONS:
        yield Gap("artifact.coreml.operation", f"the operation {shown(kind)} is not understood", fix=FIX)


class CoreMlWeights:
    """`weight.bin`: a header, then records of 64 bytes with the place of their data, one after the other."""

    format = "coreml-weights"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return head[4:8] == b"\x02\0\0\0" and head[64:68] == b"\xef\xbe\xad\xde"

    def scan(self, source: Source) -> Iterator[Seen]:
        head = source.read_at(0, 64)
        count = int.from_bytes(head[:4], "little")
        if any(head[8:]) or count > MAX_PARTS:
            raise Malformed("artifact.coreml.weights", "a header that is not one")
        at = 64
        for _ in range(count):
            record = source.read_at(at, 64)
            size, begin = (int.from_bytes(record[place : place + 8], "little") for place in (8, 16))
            if record[:4] != b"\xef\xbe\xad\xde" or begin != at + 64 or begin + size > source.size:
                raise Malformed(
                    "artifact.coreml.weights", "a record that leaves the file or overlaps another"
                )
            at = begin + size + -size % 64
        if at < source.size and not all_zero(source, at, source.size):
            yield high("artifact.coreml.trailing", f"{source.size - at} bytes follow the weights")
