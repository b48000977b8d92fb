"""Runs inside a sandbox: an ONNX model behind the Open Inference Protocol, by onnxruntime. A script.

The model is read from its descriptor, or from `/model` when its tensors lie in files beside it. Custom
operator libraries are never loaded: nothing in here may map a file as code that was not there before.
"""

from __future__ import annotations

import os
from typing import Any

import onnxruntime

from garrison.runtime.servers.tensors import Declared, arrays, metadata, tensor
from garrison.runtime.servers.web import BadRequest, hold_signals, serve

SETTINGS: dict[str, Any] = globals().get("SETTINGS", {})  # handed over by confine.py

TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


def declared(nodes: list[Any]) -> list[Declared]:
    """Raises KeyError for what is not a tensor, such as a map."""
    return [
        Declared(
            node.name,
            TYPES[node.type],
            tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape),
        )
        for node in nodes
    ]


def session(settings: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    descriptor = settings["files"].get("model")
    source = settings["path"] if descriptor is None else os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def main() -> None:
    hold_signals()
    model = session(SETTINGS)
    inputs, outputs = declared(model.get_inputs()), declared(model.get_outputs())
    names = [one.name for one in outputs]

    def answer(path: str, body: bytes) -> dict[str, Any] | None:
        if path == "/v2/model":
            return metadata(SETTINGS["alias"], "onnxruntime_onnx", inputs, outputs)
        if path != "/v2/infer":
            return None
        given = arrays(body, inputs)
        try:
            found = model.run(names, given)
        except Exception as error:  # onnxruntime raises its own kinds, for shapes that do not go together
            raise BadRequest("the model does not take these inputs together") from error
        return {"outputs": [tensor(name, values) for name, values in zip(names, found, strict=True)]}

    serve(SETTINGS["socket"], answer)


if __name__ == "__main__":
    main()
