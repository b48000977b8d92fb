"""The Open Inference Protocol, version 2: `/v2/models/NAME`, its readiness and its `infer`, as doors like the others.

Tensors come and go as a closed list of fields; their count, their size and the type of every element are bounded
here, and every text in one (BYTES) is inspected. Parameters that would choose how a server works are refused.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import orjson

from garrison.core.errors import Usage as BadCall
from garrison.gateway.fields import list_of, only, text_of, words, wrong
from garrison.gateway.openai_shapes import Call, Operation
from garrison.gateway.redaction import Redaction
from garrison.gateway.strict_json import parse_object
from garrison.gateway.upstreams.connection import malformed

MAX_TENSORS = 64
MAX_ELEMENTS = 1 << 20  # of all tensors of a request; its body is bounded before
MAX_RANK = 8
MAX_NAME = 128
TASK = "infer"
_PATH = re.compile(r"/v2/models/([a-z0-9][a-z0-9._-]{0,127})(?:/versions/([0-9]{1,9}))?(/infer|/ready)?\Z")
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}\Z")
_REQUEST, _INPUT, _OUTPUT = words("id inputs outputs"), words("name shape datatype data"), words("name")
_BITS = {
    "UINT8": 8,
    "UINT16": 16,
    "UINT32": 32,
    "UINT64": 64,
    "INT8": 8,
    "INT16": 16,
    "INT32": 32,
    "INT64": 64,
}
_FLOATS = frozenset({"FP16", "FP32", "FP64"})

INFER = Operation("infer", TASK, "/v2/models/NAME/infer", _REQUEST, False, "/v2/infer")
DESCRIBE = Operation("describe", TASK, "/v2/models/NAME", frozenset(), False, "/v2/model")
READY = Operation("ready", TASK, "/v2/models/NAME/ready", frozenset(), False, "/v2/model")


class Asked(NamedTuple):
    """What a path asks of which model; `model` is NAME or NAME@VERSION."""

    operation: Operation
    model: str

    @property
    def method(self) -> str:
        return "POST" if self.operation is INFER else "GET"

    def parse(self, raw: bytes, depth: int) -> Call:
        """The request. Raises `Usage` HTTP-JSON, GW-FIELD or GW-STEER."""
        if self.operation is INFER:
            body = _infer(parse_object(raw, depth))
        elif raw:
            raise wrong("the body", "left out")
        else:
            body = {}
        return Call(self.operation, self.model, body, False, False, 1, None, len(raw))


def asked_of(target: str) -> Asked | None:
    """None for any other path."""
    found = _PATH.match(target)
    if found is None:
        return None
    name, version, what = found.groups()
    operation = {"/infer": INFER, "/ready": READY, None: DESCRIBE}[what]
    return Asked(operation, f"{name}@{version}" if version else name)


def _infer(body: dict[str, Any]) -> dict[str, Any]:
    """The request anew, with flat data."""
    only(body, _REQUEST, INFER.path)
    inputs = list_of(body.get("inputs"), "inputs")
    if len(inputs) > MAX_TENSORS:
        raise wrong("inputs", f"a list of at most {MAX_TENSORS} tensors")
    shown: dict[str, Any] = {"inputs": [_input(item) for item in inputs]}
    if sum(len(item["data"]) for item in shown["inputs"]) > MAX_ELEMENTS:
        raise wrong("inputs", f"at most {MAX_ELEMENTS:,} elements together")
    if "id" in body and not (isinstance(body["id"], str) and len(body["id"]) <= MAX_NAME):
        raise wrong("id", f"a string of at most {MAX_NAME} characters")
    if "outputs" in body:
        for output in list_of(body["outputs"], "outputs"):
            _named(only(output, _OUTPUT, "outputs"))
    return shown


def _input(item: Any) -> dict[str, Any]:
    tensor = only(item, _INPUT, "inputs")
    shape: Any = tensor.get("shape")
    if not _is_shape(shape):
        raise wrong("shape", f"a list of at most {MAX_RANK} sizes")
    kind = text_of(tensor.get("datatype"), "datatype")
    data = _flat(tensor.get("data"))
    if len(data) != math.prod(shape):
        raise wrong("data", f"{math.prod(shape)} elements, as the shape says")
    if not _are(data, kind):
        raise wrong(
            "data", f"elements that are {kind}" if kind in _KINDS else "of a datatype of the protocol"
        )
    return {"name": _named(tensor), "shape": shape, "datatype": kind, "data": data}


def _named(tensor: dict[str, Any]) -> str:
    name = tensor.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise wrong("name", "the name of a tensor")
    return name


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= MAX_RANK
        and all(type(size) is int and 0 <= size <= MAX_ELEMENTS for size in shape)
        and math.prod(shape) <= MAX_ELEMENTS
    )


def _flat(data: Any) -> list[Any]:
    """Row by row, as the protocol allows both; its depth was bounded when it was parsed."""
    if not isinstance(data, list):
        raise wrong("data", "a list")
    while data and isinstance(data[0], list):
        if not all(isinstance(row, list) for row in data):
            raise wrong("data", "nested alike everywhere")
        data = [item for row in data for item in row]
    return list(data)


def _are(data: list[Any], kind: str) -> bool:
    if kind == "BOOL":
        return all(type(item) is bool for item in data)
    if kind == "BYTES":
        return all(type(item) is str for item in data)
    if kind in _FLOATS:
        return all(type(item) in (int, float) for item in data)
    bits = _BITS.get(kind)
    if bits is None:
        return False
    low, high = (0, 1 << bits) if kind.startswith("U") else (-(1 << bits - 1), 1 << bits - 1)
    return all(type(item) is int and low <= item < high for item in data)


_KINDS = frozenset({"BOOL", "BYTES", *_FLOATS, *_BITS})


def read_tensors(value: dict[str, Any], call: Call, redaction: Redaction) -> list[dict[str, Any]]:
    """What a model server answered, inspected. Raises `Undecided` GW-ANSWER, `Refused` DLP-BLOCK."""
    if call.operation is not INFER:
        return [{side: [_declared(item) for item in _few(value.get(side))] for side in ("inputs", "outputs")}]
    return [_output(item, redaction) for item in _few(value.get("outputs"))]


def _few(items: Any) -> list[dict[str, Any]]:
    if not isinstance(items, list) or len(items) > MAX_TENSORS:
        raise malformed("an answer without its tensors")
    if not all(isinstance(item, dict) for item in items):
        raise malformed("a tensor that is not an object")
    return items


def _declared(item: dict[str, Any]) -> dict[str, Any]:
    shape = item.get("shape")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(type(size) is int for size in shape):
        raise malformed("a tensor without a shape")
    return {"name": _answered(item), "datatype": _kind(item), "shape": shape}


def _output(item: dict[str, Any], redaction: Redaction) -> dict[str, Any]:
    shape, kind, data = item.get("shape"), _kind(item), item.get("data")
    if not _is_shape(shape) or not isinstance(data, list) or not _are(data, kind):
        raise malformed("a tensor whose data is not of its datatype")
    if isinstance(shape, list) and len(data) != math.prod(shape):
        raise malformed("a tensor whose data does not fill its shape")
    shown = [redaction.whole(text) for text in data] if kind == "BYTES" else data
    return {"name": _answered(item), "datatype": kind, "shape": shape, "data": shown}


def _answered(item: dict[str, Any]) -> str:
    try:
        return _named(item)
    except BadCall:
        raise malformed("a tensor without a name") from None


def _kind(item: dict[str, Any]) -> str:
    kind = item.get("datatype")
    if kind not in _KINDS:
        raise malformed("a tensor of no datatype of the protocol")
    return str(kind)


def tensors_body(rows: list[dict[str, Any]], call: Call, request_id: str, served: str) -> bytes:
    """The answer in the protocol's shape."""
    name, _, version = served.partition("@")
    if call.operation is READY:
        return orjson.dumps({"name": name, "ready": True})
    if call.operation is DESCRIBE:
        about = {"name": name, "versions": [version] if version else [], "platform": "garrison"}
        return orjson.dumps({**about, **rows[0]})
    return orjson.dumps({"model_name": name, "model_version": version, "id": request_id, "outputs": rows})
