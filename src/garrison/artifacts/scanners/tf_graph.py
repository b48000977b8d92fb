"""TensorFlow graphs: every node of a graph and of its function library, by what its operation can reach.

A graph is a program: operations read and write files, call Python and talk to machines. Sources: graph.proto,
node_def.proto, function.proto, attr_value.proto, tensor.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from garrison.artifacts.scanners.base import Fact, Gap, Malformed, Seen, critical, high, shown
from garrison.artifacts.scanners.protobuf import Field, fields, text
from garrison.artifacts.scanners.sources import Reader
from garrison.artifacts.scanners.tf_allowed import FILES, HARMFUL, OPERATIONS

MAX_NODES = 2_000_000
MAX_FUNCTIONS = 200_000
MAX_PATH = 4_096  # a path is not longer; longer texts in constants are data
MAX_CONSTANTS = 100_000  # texts kept while one graph is read
FIX = "ask the author for the weights, or export the model again without these operations"
_OUTSIDE = re.compile(r"/|~|\\\\|[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.-]*:/|(?:.*[/\\])?\.\.(?:[/\\]|\Z)")
_COMMAND = re.compile(
    r"shell|exec|system|command|subprocess|popen|pyfunc|python|download|upload|http", re.IGNORECASE
)
_OPERATION = re.compile(r"[A-Za-z_][A-Za-z0-9_.>]*\Z")


@dataclass(slots=True)
class Graph:
    """What has been seen of one model. `fed` are the constants that a loader replaces (assets)."""

    reader: Reader
    nodes: int = 0
    operations: dict[str, str] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    fed: set[str] = field(default_factory=set)
    is_saver: bool = True

    def scan(self, graph: Field) -> Iterator[Seen]:
        """A GraphDef between two offsets."""
        scope = _Scope()
        for item in fields(self.reader, graph.start, graph.end):
            if item.number in (1, 2, 4, 5) and not item.is_span:
                raise Malformed("artifact.tensorflow.structure", "a graph with a field of another kind")
            if item.number == 1:
                yield from self._node(item, scope)
            elif item.number == 2:
                yield from self._library(item)
            elif item.number not in (1, 2, 3, 4, 5):
                yield Gap(
                    "artifact.tensorflow.field", f"field {item.number} of a graph is not understood", fix=FIX
                )
        yield from self._files(scope)

    def verdicts(self) -> Iterator[Seen]:
        """After all graphs: operations that are neither known nor functions of the model."""
        for operation, where in sorted(self.operations.items()):
            yield Fact("operator", operation)
            if operation in HARMFUL or operation in OPERATIONS or operation in FILES:
                continue
            if operation in self.functions:
                continue
            message = f"the operation {shown(operation)} is not one of TensorFlow's own"
            if _COMMAND.search(operation) or not _OPERATION.match(operation):
                yield high("artifact.tensorflow.unknown", message, where, FIX)
            else:
                yield Gap("artifact.tensorflow.operation", message, where, FIX)

    def _library(self, library: Field) -> Iterator[Seen]:
        for function in fields(self.reader, library.start, library.end):
            if function.number != 1 or not function.is_span:
                continue
            scope = _Scope()
            for item in fields(self.reader, function.start, function.end):
                if item.number == 1 and item.is_span:
                    scope.name = self._text(item, 1)
                    self.functions.add(scope.name)
                elif item.number == 3 and item.is_span:
                    yield from self._node(item, scope)
            if len(self.functions) > MAX_FUNCTIONS:
                raise Malformed("artifact.tensorflow.count", f"more than {MAX_FUNCTIONS} functions")
            yield from self._files(scope)

    def _text(self, message: Field, number: int) -> str:
        for item in fields(self.reader, message.start, message.end):
            if item.number == number and item.is_span:
                return text(self.reader, item)
        return ""

    def _node(self, node: Field, scope: _Scope) -> Iterator[Seen]:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Malformed("artifact.tensorflow.count", f"more than {MAX_NODES} nodes")
        name, operation = "", ""
        inputs: list[str] = []
        attributes: list[Field] = []
        for item in fields(self.reader, node.start, node.end):
            if not item.is_span:
                raise Malformed("artifact.tensorflow.structure", "a node with a field of another kind")
            if item.number == 1:
                name = text(self.reader, item)
            elif item.number == 2:
                operation = text(self.reader, item)
            elif item.number == 3 and len(inputs) < 2:
                inputs.append(text(self.reader, item))
            elif item.number == 5:
                attributes.append(item)
        where = f":{shown(scope.name)}/{shown(name)}" if scope.name else f":{shown(name)}"
        self.operations.setdefault(operation, where)
        if operation in HARMFUL:
            message = f"the operation {operation} {HARMFUL[operation]}"
            yield critical("artifact.tensorflow.operation", message, where, FIX)
        elif operation == "Const":
            self._constant(name, attributes, scope)
        elif operation in FILES:
            paths = [value for _, value in self._texts(attributes)]
            yield from self._outside(operation, paths, where)
            scope.files.append((operation, inputs[0] if inputs else "", where))
        elif operation in ("PrintV2", "BatchFunction"):
            for key, value in self._texts(attributes):
                if key == "output_stream" and value.startswith("file"):
                    message = f"the operation {operation} writes to {shown(value)}"
                    yield critical("artifact.tensorflow.operation", message, where, FIX)

    def _texts(self, attributes: list[Field]) -> Iterator[tuple[str, str]]:
        """Attributes whose value is text."""
        for attribute in attributes:
            key, value = "", None
            for item in fields(self.reader, attribute.start, attribute.end):
                if item.number == 1 and item.is_span:
                    key = text(self.reader, item)
                elif item.number == 2 and item.is_span:
                    value = item
            for item in fields(self.reader, value.start, value.end) if value else ():
                if item.number == 2 and item.is_span and item.end - item.start <= MAX_PATH:
                    self.reader.offset = item.start
                    yield key, self.reader.take(item.end - item.start).decode("utf-8", "replace")

    def _constant(self, name: str, attributes: list[Field], scope: _Scope) -> None:
        """Remember a constant that is one short text: it may be the name of a file."""
        if len(scope.constants) >= MAX_CONSTANTS:
            return
        for attribute in attributes:
            for value in self._spans(attribute, 2):
                for tensor in self._spans(value, 8):
                    for item in self._spans(tensor, 8):
                        if item.end - item.start <= MAX_PATH and name not in scope.constants:
                            self.reader.offset = item.start
                            raw = self.reader.take(item.end - item.start)
                            scope.constants[name] = raw.decode("utf-8", "replace")
                            break

    def _spans(self, message: Field, number: int) -> Iterator[Field]:
        for item in fields(self.reader, message.start, message.end):
            if item.number == number and item.is_span:
                yield item

    def _files(self, scope: _Scope) -> Iterator[Seen]:
        for operation, source, where in scope.files:
            name = source.lstrip("^").split(":")[0]
            if name in scope.constants and name not in self.fed:
                yield from self._outside(operation, [scope.constants[name]], where)

    @staticmethod
    def _outside(operation: str, paths: list[str], where: str) -> Iterator[Seen]:
        for path in paths:
            if _OUTSIDE.match(path):
                message = f"{operation} uses the file {shown(path)}, which is written into the graph"
                yield critical("artifact.tensorflow.file", message, where, FIX)
                return


@dataclass(slots=True)
class _Scope:
    """One graph or function: its texts and the nodes that take the name of a file."""

    name: str = ""
    constants: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, str, str]] = field(default_factory=list)


def looks_like_graph(reader: Reader, start: int, end: int) -> bool:
    """Whether the first field there is a node with an operation, or a function library."""
    try:
        for item in fields(reader, start, end):
            if item.number in (3, 4, 5):
                continue
            if not item.is_span or item.number not in (1, 2):
                return False
            parts = list(zip(fields(reader, item.start, item.end), range(64), strict=False))
            if item.number == 2:
                return bool(parts) and all(part.is_span and part.number in (1, 2, 3) for part, _ in parts)
            named = {part.number for part, _ in parts if part.is_span}
            operation = next(
                (text(reader, part) for part, _ in parts if part.number == 2 and part.is_span), ""
            )
            return {1, 2} <= named <= {*range(1, 9)} and bool(_OPERATION.match(operation))
    except (Malformed, EOFError):
        return False
    return False
