"""TensorFlow graphs as text (`.pbtxt`): written as the binary form, which is judged as it is everywhere; label maps.

Sources: graph.proto, meta_graph.proto, saved_model.proto and what they import. A field that is not in the table
below is not understood. Numbers are not looked at: no verdict depends on one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Seen, Source
from garrison.artifacts.scanners.embedded import look_into
from garrison.artifacts.scanners.protobuf import Field
from garrison.artifacts.scanners.prototext import BadText, Item, parse
from garrison.artifacts.scanners.sources import BytesSource, Reader
from garrison.artifacts.scanners.tf_graph import Graph
from garrison.artifacts.scanners.tf_saved import SavedModel, meta_graph

MAX_TEXT = 64 << 20  # weights are written as text, too, so these are large
FIX = "publish the binary form, or the weights alone"
_NAME = re.compile(r".*\.(?:pbtxt|pbtext|prototxt|textproto|txtpb)\Z", re.IGNORECASE)
_START = re.compile(
    r"(?:[ \t\r\n]++|#[^\n]*+\n)*+(?:(?:node|library|versions|meta_graphs|meta_info_def|graph_def)\s*[{<]"
    r"|saved_model_schema_version\s*:)"
)
_LABELS = frozenset({"id", "name", "display_name", "keypoints", "label", "item"})

# message: field: (number, kind); a kind is "text", "number", "wide" (8 bytes), "float", or the name of a message.
Fields = dict[str, tuple[int, str]]


def _table(**kinds: str) -> Fields:
    """`kind="name=1 other=2"` as a table."""
    return {
        part.split("=")[0]: (int(part.split("=")[1]), kind)
        for kind, parts in kinds.items()
        for part in parts.split()
    }


MESSAGES: dict[str, Fields] = {
    "Graph": _table(
        Node="node=1", Library="library=2", number="version=3", Versions="versions=4", Any="debug_info=5"
    ),
    "Versions": _table(number="producer=1 min_consumer=2 bad_consumers=3"),
    "Node": _table(
        text="name=1 op=2 input=3 device=4",
        Attr="attr=5",
        Any="experimental_debug_info=6 experimental_type=7",
    ),
    "Attr": _table(text="key=1", Value="value=2"),
    "Value": _table(
        List="list=1",
        text="s=2 placeholder=9",
        number="i=3 b=5 type=6",
        float="f=4",
        Any="shape=7",
        Tensor="tensor=8",
        Function="func=10",
    ),
    "List": _table(
        text="s=2", number="i=3 b=5 type=6", float="f=4", Any="shape=7", Tensor="tensor=8", Function="func=9"
    ),
    "Function": _table(text="name=1", Attr="attr=2"),
    "Tensor": _table(
        number="dtype=1 version_number=3 int_val=7 int64_val=10 bool_val=11 half_val=13 uint32_val=16 uint64_val=17",
        Any="tensor_shape=2 resource_handle_val=14 variant_val=15",
        text="tensor_content=4 string_val=8 float8_val=18",
        float="float_val=5 scomplex_val=9",
        wide="double_val=6 dcomplex_val=12",
    ),
    "Library": _table(Definition="function=1", Gradient="gradient=2", Any="registered_gradients=3"),
    "Gradient": _table(text="function_name=1 gradient_func=2"),
    "Definition": _table(
        Signature="signature=1",
        Node="node_def=3",
        Pair="ret=4 control_ret=6",
        Attr="attr=5",
        Any="arg_attr=7 resource_arg_unique_id=8",
    ),
    "Pair": _table(text="key=1 value=2"),
    "Signature": _table(
        text="name=1 summary=5 description=6 control_output=20",
        Any="input_arg=2 output_arg=3 attr=4 deprecation=8",
        number="is_commutative=18 is_aggregate=16 is_stateful=17 allows_uninitialized_input=19"
        " is_distributed_communication=21",
    ),
    "MetaGraph": _table(
        Any="meta_info_def=1 collection_def=4 signature_def=5 object_graph_def=7",
        Graph="graph_def=2",
        Saver="saver_def=3",
        Asset="asset_file_def=6",
    ),
    "Saver": _table(
        text="filename_tensor_name=1 save_tensor_name=2 restore_op_name=3",
        number="max_to_keep=4 sharded=5 version=7",
        float="keep_checkpoint_every_n_hours=6",
    ),
    "Asset": _table(TensorInfo="tensor_info=1", text="filename=2"),
    "TensorInfo": _table(
        text="name=1", number="dtype=2", Any="tensor_shape=3 coo_sparse=4 composite_tensor=5"
    ),
    "SavedModel": _table(number="saved_model_schema_version=1", MetaGraph="meta_graphs=2"),
}


class TensorflowText:
    format = "tensorflow-text"

    def recognises(self, head: bytes, source: Source) -> bool:
        if b"\0" in head:
            return False
        return bool(_NAME.match(source.name) or _START.match(head.decode("latin-1")))

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_TEXT:
            yield Gap("artifact.limit.size", f"more than {MAX_TEXT} bytes of text", fix=FIX)
            return
        try:
            items = parse(source.read_at(0, source.size).decode("utf-8"))
            root = _root(items)
            data = b"" if root == "Labels" else _encoded(items, root)
        except (BadText, UnicodeDecodeError) as error:
            reason = str(error) if isinstance(error, BadText) else "it is not UTF-8"
            yield Gap(
                "artifact.tensorflow.text", f"a graph as text that is not understood: {reason}", fix=FIX
            )
            return
        for text in _texts(items):
            yield from look_into(text, "")
        if root == "Labels":
            return
        binary = BytesSource(source.name, data)
        whole = Field(0, True, 0, 0, len(data))
        if root == "SavedModel":
            yield from SavedModel().scan(binary)
        elif root == "MetaGraph":
            yield from meta_graph(Reader(binary), whole, is_saved=False)
        else:
            graph = Graph(Reader(binary))
            yield from graph.scan(whole)
            yield from graph.verdicts()


def _root(items: list[Item]) -> str:
    names = {item.name for item in items}
    for root in ("Graph", "SavedModel", "MetaGraph"):
        if names and names <= MESSAGES[root].keys():
            return root
    if names == {"item"} and _is_label_map(items):
        return "Labels"
    raise BadText("no graph, and no label map")


def _is_label_map(items: list[Item]) -> bool:
    return all(
        item.name in _LABELS and (not isinstance(item.value, list) or _is_label_map(item.value))
        for item in items
    )


def _texts(items: list[Item]) -> Iterator[str]:
    """What is not as long as weights."""
    for item in items:
        if isinstance(item.value, list):
            yield from _texts(item.value)
        elif isinstance(item.value, bytes) and b"\0" not in item.value:
            yield item.value.decode("utf-8", "replace")


def _encoded(items: list[Item], message: str) -> bytes:
    known, out = MESSAGES.get(message, {}), bytearray()
    for item in items:
        number, kind = known.get(item.name, (0, ""))
        if not number:
            raise BadText(f"the field {item.name[:40]} of {message}")
        if isinstance(item.value, list) != (kind in MESSAGES or kind == "Any"):
            raise BadText(f"the field {item.name[:40]} of {message} is of another kind")
        if isinstance(item.value, list):
            out += _span(number, _encoded(item.value, kind) if kind != "Any" else b"")
        elif isinstance(item.value, bytes) != (kind == "text"):
            raise BadText(f"the field {item.name[:40]} of {message} is of another kind")
        elif isinstance(item.value, bytes):
            out += _span(number, item.value)
        else:
            out += _varint(number << 3 | _WIRE[kind][0]) + bytes(_WIRE[kind][1])
    return bytes(out)


_WIRE = {"number": (0, 1), "float": (5, 4), "wide": (1, 8)}  # the wire's kind, and zeros of its width


def _span(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
