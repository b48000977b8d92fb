"""TensorFlow files: SavedModel, frozen graphs, meta graphs, Keras metadata, fingerprints and checkpoints.

Sources: saved_model.proto, meta_graph.proto, saved_object_graph.proto, fingerprint.proto,
saved_metadata.proto (Keras 2). Weights are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Malformed, Reference, Seen, Source, high, shown
from garrison.artifacts.scanners.keras_config import judge_keras
from garrison.artifacts.scanners.paths import unsafe_path
from garrison.artifacts.scanners.protobuf import Field, fields, text
from garrison.artifacts.scanners.sources import Reader
from garrison.artifacts.scanners.strict_json import BadJson, parse
from garrison.artifacts.scanners.tf_graph import FIX, Graph, looks_like_graph

MAX_TOP = 1_000  # top-level fields looked at to recognise a file
MAX_OBJECTS = 2_000_000
MAX_METADATA = 16 << 20  # of one Keras layer
MAX_STATE = 1 << 20  # a `checkpoint` file lists some file names
FIX_PATH = "export the model again with its assets inside its directory"


def _top(source: Source, limit: int = MAX_TOP) -> list[Field] | None:
    try:
        return [item for item, _ in zip(fields(Reader(source), 0, source.size), range(limit), strict=False)]
    except (Malformed, EOFError):
        return None


def _span(reader: Reader, message: Field, number: int) -> Iterator[Field]:
    return (
        item for item in fields(reader, message.start, message.end) if item.number == number and item.is_span
    )


class SavedModel:
    format = "tensorflow-savedmodel"

    def recognises(self, head: bytes, source: Source) -> bool:
        """A version, then meta graphs. One that is damaged is known by the only name it can have."""
        if head[:1] not in (b"\x08", b"\x12"):
            return False
        top = _top(source)
        if top is None:
            return source.name.rsplit("/", 1)[-1] == "saved_model.pb"
        metas = [item for item in top if item.number == 2 and item.is_span]
        if not metas or any(item.number not in (1, 2) for item in top):
            return False
        return _is_meta(Reader(source), metas[0])

    def scan(self, source: Source) -> Iterator[Seen]:
        reader = Reader(source)
        for item in fields(reader, 0, source.size):
            if item.number in (1, 2) and item.is_span != (item.number == 2):
                raise Malformed("artifact.tensorflow.structure", "a model with a field of another kind")
            if item.number == 2:
                yield from meta_graph(reader, item, is_saved=True)
            elif item.number != 1:
                yield Gap(
                    "artifact.tensorflow.field",
                    f"field {item.number} of the model is not understood",
                    fix=FIX,
                )


def _is_meta(reader: Reader, meta: Field) -> bool:
    try:
        inside = [item for item, _ in zip(fields(reader, meta.start, meta.end), range(MAX_TOP), strict=False)]
    except (Malformed, EOFError):
        return False
    graphs = [item for item in inside if item.number == 2 and item.is_span]
    empty = all(item.start == item.end for item in graphs)
    known = all(1 <= item.number <= 7 and item.is_span for item in inside)
    return known and bool(graphs) and (empty or any(looks_like_graph(reader, g.start, g.end) for g in graphs))


class TensorflowGraph:
    """A frozen graph (`.pb`) or a meta graph (`.meta`)."""

    format = "tensorflow-graph"

    def recognises(self, head: bytes, source: Source) -> bool:
        if head[:1] not in (b"\x0a", b"\x12"):
            return False
        return self._is_graph(source) or self._is_meta(source)

    @staticmethod
    def _is_graph(source: Source) -> bool:
        return looks_like_graph(Reader(source), 0, source.size)

    @staticmethod
    def _is_meta(source: Source) -> bool:
        return _is_meta(Reader(source), Field(0, True, 0, 0, source.size))

    def scan(self, source: Source) -> Iterator[Seen]:
        reader = Reader(source)
        whole = Field(0, True, 0, 0, source.size)
        if self._is_graph(source):
            graph = Graph(reader)
            yield from graph.scan(whole)
            yield from graph.verdicts()
        else:
            yield from meta_graph(reader, whole, is_saved=False)


def meta_graph(reader: Reader, meta: Field, *, is_saved: bool) -> Iterator[Seen]:
    graph = Graph(reader)
    for asset in _span(reader, meta, 6):
        yield from _asset(reader, asset, graph, is_saved=is_saved)
    for item in fields(reader, meta.start, meta.end):
        if item.number in range(1, 8) and not item.is_span:
            raise Malformed("artifact.tensorflow.structure", "a graph with a field of another kind")
        if item.number == 2:
            yield from graph.scan(item)
        elif item.number == 7:
            yield from _objects(reader, item)
        elif item.number not in range(1, 8):
            yield Gap(
                "artifact.tensorflow.field", f"field {item.number} of a graph is not understood", fix=FIX
            )
        elif item.number in (1, 3, 4, 5):
            for _ in fields(reader, item.start, item.end):
                pass  # the fields have to end where the message ends
    yield from graph.verdicts()


def _asset(reader: Reader, asset: Field, graph: Graph, *, is_saved: bool) -> Iterator[Seen]:
    """AssetFileDef: the tensor that gets the file's name, and the name below `assets/`."""
    for item in fields(reader, asset.start, asset.end):
        if item.number == 1 and item.is_span:
            for name in _span(reader, item, 1):
                graph.fed.add(text(reader, name).split(":")[0])
        elif item.number == 2 and item.is_span:
            path = text(reader, item)
            if reason := unsafe_path(path):
                yield high("artifact.tensorflow.asset", f"the asset {shown(path)} {reason}", fix=FIX_PATH)
            elif is_saved:
                yield Reference(f"assets/{path}", 0)


def _objects(reader: Reader, graph: Field) -> Iterator[Seen]:
    """SavedObjectGraph: Keras layers of older files carry their configuration here."""
    for seen, node in enumerate(_span(reader, graph, 1)):
        if seen > MAX_OBJECTS:
            raise Malformed("artifact.tensorflow.count", f"more than {MAX_OBJECTS} objects")
        for user in _span(reader, node, 4):
            for metadata in _span(reader, user, 3):
                yield from _metadata(reader, metadata)


def _metadata(reader: Reader, metadata: Field) -> Iterator[Seen]:
    """The configuration of one layer. Classes of the author's own are restored from the graph, without code."""
    if metadata.end - metadata.start > MAX_METADATA:
        yield Gap("artifact.limit.size", f"metadata of {metadata.end - metadata.start} bytes", fix=FIX)
        return
    reader.offset = metadata.start
    raw = reader.take(metadata.end - metadata.start)
    if not raw.strip():
        return
    try:
        value = parse(raw)
    except BadJson as error:
        yield Gap("artifact.keras.syntax", f"not strict JSON: {error}", fix="save the model again")
        return
    yield from judge_keras(value, is_model=False)


class KerasMetadata:
    """`keras_metadata.pb`: the configuration of every layer of a SavedModel that Keras 2 wrote."""

    format = "keras-metadata"

    def recognises(self, head: bytes, source: Source) -> bool:
        if head[:1] != b"\x0a":
            return False
        top = _top(source, 2)
        if not top or any(item.number != 1 or not item.is_span for item in top):
            return False
        try:
            inside = {item.number: item for item in fields(Reader(source), top[0].start, top[0].end)}
            path = text(Reader(source), inside[3]) if 3 in inside and inside[3].is_span else ""
        except (Malformed, EOFError):
            return False
        return set(inside) <= {2, 3, 4, 5, 6} and path.startswith("root") and 5 in inside

    def scan(self, source: Source) -> Iterator[Seen]:
        reader = Reader(source)
        for node in fields(reader, 0, source.size):
            if node.number != 1 or not node.is_span:
                yield Gap(
                    "artifact.tensorflow.field", f"field {node.number} of the metadata is not understood"
                )
                continue
            for metadata in _span(reader, node, 5):
                yield from _metadata(reader, metadata)


class Fingerprint:
    """`fingerprint.pb` of a SavedModel: five hashes, a version and an identifier."""

    format = "tensorflow-fingerprint"

    def recognises(self, head: bytes, source: Source) -> bool:
        if head[:1] != b"\x08" or not 24 <= source.size <= 256:
            return False
        top = _top(source)
        if top is None:
            return False
        numbers = [item.number for item in top]
        hashes = [item for item in top if item.number <= 5]
        return (
            sorted(set(numbers)) == sorted(numbers)
            and set(numbers) <= {1, 2, 3, 4, 5, 6, 7}
            and len(hashes) >= 3
            and all(not item.is_span for item in hashes)
            and all(item.is_span for item in top if item.number > 5)
        )

    def scan(self, source: Source) -> Iterator[Seen]:
        reader = Reader(source)
        for item in fields(reader, 0, source.size):
            if item.number == 7 and not re.fullmatch(r"[0-9A-Za-z-]{0,64}", text(reader, item)):
                yield Gap("artifact.tensorflow.field", "an identifier that is not one", fix=FIX)


class CheckpointState:
    """The text file `checkpoint`: which checkpoint is the latest, and those before."""

    format = "tensorflow-checkpoint-state"
    _LINE = re.compile(
        r'(?:model_checkpoint_path|all_model_checkpoint_paths): "(?P<path>[^"\\\n]{1,4096})"'
        r"|(?:all_model_checkpoint_timestamps|last_preserved_timestamp): [0-9.e+]{1,40}|\s*"
    )

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return head.startswith(b"model_checkpoint_path:")

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_STATE:
            yield Gap("artifact.limit.size", f"more than {MAX_STATE} bytes", fix=FIX)
            return
        content = source.read_at(0, source.size).decode("utf-8", "replace")
        for line in content.split("\n"):
            match = self._LINE.fullmatch(line)
            if match is None:
                yield Gap("artifact.tensorflow.state", f"the line {shown(line)} is not understood", fix=FIX)
            elif match.group("path") and unsafe_path(match.group("path")):
                # The trainer's own directory; whoever restores by this file looks for it there.
                message = f"the checkpoint {shown(match.group('path'))} {unsafe_path(match.group('path'))}"
                yield Gap("artifact.tensorflow.state", message, fix="write the plain name of the checkpoint")
