"""Runs inside a sandbox: tensors of the Open Inference Protocol, version 2, as JSON and as numpy arrays.

What is asked is judged against what the model declares: names, element types, ranks, known dimensions.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.runtime.servers.web import BadRequest

MAX_ELEMENTS = 4 << 20  # of one tensor: 32 MB of FP64
DATATYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Declared:
    """One input or output of a model; -1 in `shape` is any size, `shape` None any rank."""

    name: str
    datatype: str
    shape: tuple[int, ...] | None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "datatype": self.datatype,
            "shape": list(self.shape if self.shape is not None else (-1,)),
        }


def arrays(body: bytes, declared: list[Declared]) -> dict[str, Array]:
    """The inputs of an inference request by name. Raises BadRequest."""
    try:
        request = json.loads(body)
        given = {item["name"]: item for item in request["inputs"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadRequest("the body is not an inference request") from error
    wanted = {one.name: one for one in declared}
    if given.keys() != wanted.keys():
        raise BadRequest(f"the inputs of this model are {', '.join(sorted(wanted))}")
    return {name: _array(given[name], one) for name, one in wanted.items()}


def _array(given: dict[str, Any], declared: Declared) -> Array:
    shape = given.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise BadRequest(f"the shape of {declared.name} is a list of whole numbers")
    if given.get("datatype") != declared.datatype:
        raise BadRequest(f"{declared.name} is {declared.datatype}")
    if math.prod(shape) > MAX_ELEMENTS or not _fits(shape, declared.shape):
        raise BadRequest(f"the shape of {declared.name} is {declared.as_json()['shape']}, -1 being any size")
    try:
        return np.array(given.get("data"), dtype=DATATYPES[declared.datatype]).reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRequest(f"the data of {declared.name} does not fill its shape") from error


def _fits(shape: list[int], declared: tuple[int, ...] | None) -> bool:
    if declared is None:
        return True
    return len(shape) == len(declared) and all(
        known in (-1, size) for size, known in zip(shape, declared, strict=True)
    )


def tensor(name: str, values: Array) -> dict[str, Any]:
    """One output. Raises BadRequest for numbers that JSON cannot hold."""
    kind = next((kind for kind, of in DATATYPES.items() if values.dtype == of), "BYTES")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadRequest(f"the model's answer {name} is not finite for this input")
    flat = values.reshape(-1).tolist()
    data = [str(item) for item in flat] if kind == "BYTES" else flat
    return {"name": name, "datatype": kind, "shape": list(values.shape), "data": data}


def metadata(alias: str, platform: str, inputs: list[Declared], outputs: list[Declared]) -> dict[str, Any]:
    return {
        "name": alias,
        "platform": platform,
        "inputs": [one.as_json() for one in inputs],
        "outputs": [one.as_json() for one in outputs],
    }
