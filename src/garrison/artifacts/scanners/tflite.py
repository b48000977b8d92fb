"""TensorFlow Lite models: a FlatBuffer whose every offset is checked, and operators of the runtime itself.

Custom operators are native code beside the model; those that begin with `Flex` run TensorFlow operations,
files and all. Source: schema.fbs (file identifier TFL3), FlatBuffers internals. Weights are not read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from garrison.artifacts.scanners.base import Fact, Gap, Inner, Malformed, Seen, Source, critical, high, shown
from garrison.artifacts.scanners.sources import Window, all_zero
from garrison.artifacts.scanners.tf_allowed import HARMFUL

IDENTIFIER = b"TFL3"
MAX_ITEMS = 1_000_000  # entries of one vector of tables; large models have some ten thousand tensors
MAX_TEXT = 1 << 16
MAX_STEPS = 2_000_000  # tables and vectors visited, so that shared parts cannot be visited without end
MAX_CUSTOM = 40  # different custom operators that are named
_CUSTOM, _LAST = 32, 255  # BuiltinOperator; 209 are defined, the runtime refuses those it does not know
# Element bits by TensorType; 5 is text, 13 and 14 are handles of the runtime.
_BITS = {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 8: 64, 9: 8, 10: 64, 11: 128, 12: 64, 15: 32, 16: 16}
_BITS |= {17: 4, 18: 16, 19: 2, 20: 4}
# Custom operators that the runtime and MediaPipe bring themselves; they only compute.
_CUSTOMS = frozenset(
    """
    TFLite_Detection_PostProcess Convolution2DTransposeBias MaxPoolingWithArgmax2D MaxUnpooling2D
    TransformTensorBilinear TransformLandmarks Landmarks2TransformMatrix Resampler AudioSpectrogram Mfcc
    NumericVerify Atan2 Sign RandomStandardNormal RandomUniform Multinomial Complex Irfft Rfft2D UnsortedSegmentMin
    UnsortedSegmentMax UnsortedSegmentProd SegmentSum BroadcastArgs Cumsum Roll HashtableV2 NonMaxSuppressionV5
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
FIX = "convert the model again with the built-in operators only"


def bad(message: str) -> Malformed:
    return Malformed("artifact.tflite.structure", message)


@dataclass(frozen=True, slots=True)
class _Table:
    """A table at `at`; `slots` holds the place of each field, 0 for one that is not there."""

    at: int
    slots: tuple[int, ...]

    def slot(self, index: int) -> int:
        return self.slots[index] if index < len(self.slots) else 0


@dataclass(slots=True)
class _Buffer:
    """The FlatBuffer and how far it reaches; every read extends `end`."""

    source: Source
    end: int = 8
    steps: int = 0
    window: tuple[int, bytes] = (0, b"")

    def read(self, at: int, length: int) -> bytes:
        if at < 0 or length < 0 or at + length > self.source.size:
            raise bad(f"{length} bytes at {at} are not inside the file")
        self.end = max(self.end, at + length)
        start, data = self.window
        if not start <= at <= at + length <= start + len(data):
            start, data = at, self.source.read_at(at, max(length, 65_536))
            self.window = (start, data)
        return data[at - start : at - start + length]

    def number(self, at: int, form: str) -> int:
        value: int = struct.unpack("<" + form, self.read(at, struct.calcsize(form)))[0]
        return value

    def follow(self, at: int) -> int:
        """The place that an offset at `at` points to."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise bad("more parts than any model has")
        offset = self.number(at, "I")
        if not offset >= 4 or at + offset + 4 > self.source.size:
            raise bad(f"an offset at {at} that leads out of the file")
        return at + offset

    def table(self, at: int) -> _Table:
        """Raises `Malformed` unless its list of fields and every field is inside the file."""
        self.steps += 1
        listed = at - self.number(at, "i")
        size, extent = self.number(listed, "H"), self.number(listed + 2, "H")
        if size < 4 or size % 2 or extent < 4 or at + extent > self.source.size:
            raise bad(f"a table at {at} whose list of fields is not one")
        raw = self.read(listed, size)
        self.read(at, extent)
        offsets = struct.unpack(f"<{size // 2 - 2}H", raw[4:])
        if any(offset and not 4 <= offset < extent for offset in offsets):
            raise bad(f"a table at {at} with a field outside of it")
        return _Table(at, tuple(at + offset if offset else 0 for offset in offsets))

    def vector(self, slot: int, width: int) -> tuple[int, int]:
        """Start and number of the elements; (0, 0) when the field is not there."""
        if not slot:
            return 0, 0
        at = self.follow(slot)
        count = self.number(at, "I")
        if at + 4 + count * width > self.source.size:
            raise bad(f"a list at {at} that leaves the file")
        self.end = max(self.end, at + 4 + count * width)
        return at + 4, count

    def tables(self, slot: int) -> Iterator[_Table]:
        start, count = self.vector(slot, 4)
        if count > MAX_ITEMS:
            raise bad(f"a list of {count} tables")
        for index in range(count):
            yield self.table(self.follow(start + 4 * index))

    def text(self, slot: int) -> str:
        start, count = self.vector(slot, 1)
        if count > MAX_TEXT:
            raise bad(f"a name of {count} bytes")
        return self.read(start, count).decode("utf-8", "backslashreplace") if count else ""

    def field(self, slot: int, form: str, default: int = 0) -> int:
        return self.number(slot, form) if slot else default

    def numbers(self, slot: int, form: str = "i") -> tuple[int, ...]:
        start, count = self.vector(slot, struct.calcsize(form))
        if count > MAX_ITEMS:
            raise bad(f"a list of {count} numbers")
        return (
            struct.unpack(f"<{count}{form}", self.read(start, count * struct.calcsize(form))) if count else ()
        )


class TfLite:
    format = "tflite"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return head[4:8] == IDENTIFIER

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size < 12:
            raise bad(f"a model of {source.size} bytes")
        buffer = _Buffer(source)
        root = buffer.table(buffer.follow(0))
        model = _Model(buffer)
        yield from model.scan(root)
        yield from _behind(source, buffer.end)


def _behind(source: Source, end: int) -> Iterator[Seen]:
    """Metadata tools put a zip archive of associated files behind the model; the archive scanner judges it."""
    at = end
    while at < source.size and at - end < 64 and source.read_at(at, 1) == b"\0":
        at += 1
    if at >= source.size or all_zero(source, at, source.size):
        return
    tail = source.read_at(source.size - 22, 22)
    is_archive = tail[:4] == b"PK\x05\x06" and tail[20:] == b"\0\0"
    if is_archive and source.read_at(at, 4) == b"PK\x03\x04":
        return
    yield high("artifact.tflite.trailing", f"{source.size - at} bytes follow the model")
    yield Inner("trailing", Window("trailing", source, at, source.size - at), guess=True)


@dataclass(slots=True)
class _Model:
    buffer: _Buffer
    sizes: list[int] = field(default_factory=list)

    def scan(self, root: _Table) -> Iterator[Seen]:
        buffer = self.buffer
        version = buffer.field(root.slot(0), "I")
        if version not in (0, 1, 2, 3):
            yield Gap("artifact.tflite.version", f"a model of version {version}", fix=FIX)
        buffer.text(root.slot(3))
        for item in buffer.tables(root.slot(4)):
            yield from self._data(item)
        codes = 0
        for code in buffer.tables(root.slot(1)):
            codes += 1
            yield from self._operator_code(code)
        for index, graph in enumerate(buffer.tables(root.slot(2))):
            self._graph(graph, codes, index)
        for metadata in buffer.tables(root.slot(6)):
            name, number = buffer.text(metadata.slot(0)), buffer.field(metadata.slot(1), "I")
            if number >= len(self.sizes):
                raise bad(f"the metadata {shown(name)} is in a buffer that there is not")
        for signature in buffer.tables(root.slot(7)):
            for side in (0, 1):
                for entry in buffer.tables(signature.slot(side)):
                    buffer.text(entry.slot(0))
            buffer.text(signature.slot(2))

    def _data(self, item: _Table) -> Iterator[Seen]:
        """A buffer: inside, or behind the FlatBuffer at `offset` in models above two gigabytes."""
        start, count = self.buffer.vector(item.slot(0), 1)
        offset, size = self.buffer.field(item.slot(1), "Q"), self.buffer.field(item.slot(2), "Q")
        if offset > 1:
            if offset + size > self.buffer.source.size:
                raise bad("a buffer that is not inside the file")
            self.buffer.end = max(self.buffer.end, offset + size)
            start, count = offset, size
        self.sizes.append(count)
        if count:
            yield Inner(
                f"buffer{len(self.sizes) - 1}", Window("buffer", self.buffer.source, start, count), guess=True
            )

    def _operator_code(self, code: _Table) -> Iterator[Seen]:
        # Old files have the code in one byte; new ones in a number, with 127 in the byte when it does not fit.
        number = max(self.buffer.field(code.slot(0), "b"), self.buffer.field(code.slot(3), "i"))
        name = self.buffer.text(code.slot(1))
        yield Fact("operator", name or f"builtin-{number}")
        if not 0 <= number <= _LAST:
            raise bad(f"an operator of the number {number}")
        if not name and number != _CUSTOM:
            return
        operation = name.removeprefix("Flex")
        if operation != name and operation in HARMFUL:
            message = f"the operator {shown(name)} {HARMFUL[operation]}"
            yield critical("artifact.tflite.flex", message, fix=FIX)
        elif operation != name:
            message = f"the operator {shown(name)} runs TensorFlow's {shown(operation)}"
            yield high("artifact.tflite.flex", message, fix=FIX)
        elif name not in _CUSTOMS:
            message = f"the custom operator {shown(name)} is native code that the file does not hold"
            yield high("artifact.tflite.custom", message, fix=FIX)

    def _graph(self, graph: _Table, codes: int, index: int) -> None:
        buffer = self.buffer
        where = shown(buffer.text(graph.slot(4)) or str(index))
        tensors = 0
        for tensor in buffer.tables(graph.slot(0)):
            tensors += 1
            self._tensor(tensor)
        for slot in (1, 2):
            self._indices(buffer.numbers(graph.slot(slot)), tensors, where)
        for operator in buffer.tables(graph.slot(3)):
            if buffer.field(operator.slot(0), "I") >= codes:
                raise bad(f"an operator of the graph {where} that is not listed")
            for slot in (1, 2, 8):
                self._indices(buffer.numbers(operator.slot(slot)), tensors, where)
            if operator.slot(4):
                buffer.table(buffer.follow(operator.slot(4)))
            buffer.vector(operator.slot(5), 1)
            offset, size = buffer.field(operator.slot(9), "Q"), buffer.field(operator.slot(10), "Q")
            if offset > 1 and offset + size > buffer.source.size:
                raise bad("options that are not inside the file")

    @staticmethod
    def _indices(numbers: tuple[int, ...], tensors: int, where: str) -> None:
        if any(not -1 <= number < tensors for number in numbers):
            raise bad(f"the graph {where} uses a tensor that there is not")

    def _tensor(self, tensor: _Table) -> None:
        buffer = self.buffer
        name = shown(buffer.text(tensor.slot(3)))
        kind, place = buffer.field(tensor.slot(1), "b"), buffer.field(tensor.slot(2), "I")
        if place >= max(len(self.sizes), 1):
            raise bad(f"the tensor {name} is in a buffer that there is not")
        elements = 1
        for extent in buffer.numbers(tensor.slot(0)):
            if extent < -1:
                raise bad(f"the tensor {name} has the extent {extent}")
            elements *= max(extent, 0)
        size = self.sizes[place] if self.sizes else 0
        is_sparse = bool(tensor.slot(6))
        if tensor.slot(4):
            quantisation = buffer.table(buffer.follow(tensor.slot(4)))
            for slot, width in ((0, 4), (1, 4), (2, 4), (3, 8)):
                buffer.vector(quantisation.slot(slot), width)
        if elements >= 1 << 40:
            raise bad(f"the tensor {name} is larger than any machine")
        if place and size and kind in _BITS and not is_sparse and (elements * _BITS[kind] + 7) // 8 != size:
            raise bad(f"the tensor {name} has {size} bytes, which is not its shape")
