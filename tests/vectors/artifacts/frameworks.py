"""Makes hostile and harmless Keras, TensorFlow, TFLite and Flax files, named by what is wrong with them.

Nothing here needs a framework; `framework_files/` holds small files that the frameworks themselves wrote (see
`frameworks_real.py`), the harmful ones among them called `bad_`.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from tests.vectors.artifacts.make import SYSTEM, zipped

DIRECTORY = Path(__file__).parent / "framework_files"
REAL = {path.name: path.read_bytes() for path in sorted(DIRECTORY.iterdir()) if path.is_file()}
SAVED = {
    path.relative_to(DIRECTORY).as_posix(): path.read_bytes()
    for path in sorted((DIRECTORY / "saved").rglob("*"))
    if path.is_file()
}


def proto(number: int, value: bytes) -> bytes:
    """One field with a length, of a number below 16."""
    size, length = len(value), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def layer(name: str, config: Any, module: str | None = "keras.layers", **more: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None, **more}


def keras(*layers: dict[str, Any], **more: Any) -> bytes:
    model = layer("Sequential", {"name": "s", "layers": list(layers)}, "keras", **more)
    metadata = json.dumps({"keras_version": "3.10.0"}).encode()
    return zipped([("metadata.json", metadata), ("config.json", json.dumps(model).encode())])


def dense(**config: Any) -> dict[str, Any]:
    return layer("Dense", {"name": "d", "units": 1, **config})


def function(name: Any, module: str = "builtins") -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": "function"}


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAA", "defaults": None, "closure": None}}
_DEEP: dict[str, Any] = {"class_name": "Lambda", "config": {}}
for _ in range(8):
    _DEEP = layer("Bidirectional", {"layer": _DEEP})
KERAS_REFUSED = {
    "lambda.keras": keras(layer("Lambda", {"function": LAMBDA})),
    "lambda_without_layer.keras": keras(dense(activation=LAMBDA)),
    "lambda_deep.keras": keras(_DEEP),
    "lambda_other_module.keras": keras(
        layer("Lambda", {"function": "f"}, "keras.src.layers.core.lambda_layer")
    ),
    "lambda_in_compile.keras": keras(dense(), compile_config={"loss": LAMBDA}),
    "module_os.keras": keras(layer("system", "echo garrison-test", "os")),
    "module_in_keras.keras": keras(layer("os", {}, "keras.src.utils.file_utils")),
    "get_file.keras": keras(dense(activation=function("get_file", "keras.utils"))),
    "unsafe_switch.keras": keras(layer("enable_unsafe_deserialization", {}, "keras.config")),
    "function_dotted.keras": keras(dense(activation=function("os.system"))),
    "function_named.keras": keras(dense(activation="os.system")),
    "saved_model_layer.keras": keras(layer("TFSMLayer", {"filepath": "/tmp/m"})),
    "torch_layer.keras": keras(layer("TorchModuleWrapper", {"module": "gAQ="})),
    "vocabulary_absolute.keras": keras(layer("StringLookup", {"vocabulary": "/etc/passwd"})),
    "vocabulary_address.keras": keras(layer("TextVectorization", {"vocabulary": "http://evil.example/v"})),
    "vocabulary_above.keras": keras(layer("StringLookup", {"vocabulary": "../../v.txt"})),
    "custom_package.keras": keras(layer("MyPkg>Evil", {}, None, registered_name="MyPkg>Evil")),
    "custom_module.keras": keras(layer("Evil", {}, "my_layers")),
    "tf_operation.keras": keras(layer("TFOpLambda", {"function": "io.write_file"})),
    "safe_mode.keras": keras(dense(safe_mode=False)),
    "weights_pickle.keras": zipped([("config.json", b"{}"), ("model.weights.h5", SYSTEM)]),
}
KERAS_INCOMPLETE = {
    "unknown_class.keras": keras(layer("MyLayer", {}, None)),
    "unknown_activation.keras": keras(dense(activation="my_activation")),
    "vocabulary_beside.keras": keras(layer("StringLookup", {"vocabulary": "vocab.txt"})),
}
KERAS_CLEAN = {
    "plain.keras": keras(dense(activation="relu"), dense(activation=function("gelu"))),
    "keras_2.keras": keras(
        {"class_name": "Dense", "config": {"units": 1, "kernel_initializer": "glorot_uniform"}}
    ),
    "hub.keras": keras(
        layer(
            "BertBackbone",
            {"layers": 2},
            "keras_hub.src.models.bert",
            registered_name="keras_hub>BertBackbone",
        )
    ),
    "operation.keras": keras(layer("Multiply", {}, "keras.src.ops.numpy")),
}


def node(name: str, operation: str, *inputs: str, **texts: str) -> bytes:
    """A NodeDef whose attributes are texts."""
    body = (
        proto(1, name.encode())
        + proto(2, operation.encode())
        + b"".join(proto(3, i.encode()) for i in inputs)
    )
    for key, value in texts.items():
        body += proto(5, proto(1, key.encode()) + proto(2, proto(2, value.encode())))
    return body


def text_constant(name: str, value: str) -> bytes:
    tensor = b"\x08\x07" + proto(8, value.encode())
    return node(name, "Const") + proto(5, proto(1, b"value") + proto(2, proto(8, tensor)))


def graph(*nodes: bytes, functions: dict[str, list[bytes]] | None = None) -> bytes:
    library = b"".join(
        proto(1, proto(1, proto(1, name.encode())) + b"".join(proto(3, each) for each in body))
        for name, body in (functions or {}).items()
    )
    return b"".join(proto(1, each) for each in nodes) + (proto(2, library) if library else b"")


def saved(content: bytes, more: bytes = b"") -> bytes:
    return b"\x08\x01" + proto(2, proto(1, proto(4, b"serve")) + proto(2, content) + more)


_X = node("x", "Placeholder")
_LAYER = json.dumps({"class_name": "Lambda", "config": {"function": ["4wAA", None, None]}}).encode()
_PLAIN = json.dumps({"class_name": "MyModel", "config": {"layers": 2}}).encode()
HARMFUL = (
    *("ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "LoadDataset"),
    *(
        "SaveDatasetV2",
        "CreateSummaryFileWriter",
        "TFRecordDataset",
        "SqlDataset",
        "RpcServerStart",
        "ImmutableConst",
    ),
    *(
        "LoadAndRemapMatrix",
        "DebugIdentityV2",
        "DatasetToTFRecord",
        "FileSystemSetConfiguration",
        "XlaCustomCallV2",
    ),
)
TENSORFLOW_REFUSED = {
    **{f"{name}/saved_model.pb": saved(graph(_X, node("e", name))) for name in HARMFUL},
    **{f"{name}.pb": graph(_X, node("e", name)) for name in HARMFUL},
    "in_function/saved_model.pb": saved(
        graph(_X, node("c", "PartitionedCall"), functions={"f": [node("w", "WriteFile")]})
    ),
    "function_named_like_it.pb": graph(_X, node("c", "ReadFile"), functions={"ReadFile": [_X]}),
    "save_by_constant.pb": graph(_X, text_constant("p", "/etc/cron.d/x"), node("s", "SaveV2", "p")),
    "save_by_attribute.pb": graph(_X, node("s", "SaveV2", path="/etc/passwd")),
    "restore_address.pb": graph(_X, text_constant("p", "s3://bucket/x"), node("r", "RestoreV2", "p:0")),
    "print_to_file.pb": graph(_X, node("p", "PrintV2", output_stream="file:" + "///tmp/x")),
    "command.pb": graph(_X, node("e", "ShellCommand")),
    "asset_above/saved_model.pb": saved(graph(_X), proto(6, proto(2, b"../../etc/passwd"))),
    "layer_lambda/saved_model.pb": saved(graph(_X), proto(7, proto(1, proto(4, proto(3, _LAYER))))),
    "keras_metadata.pb": proto(
        1, b"\x10\x01" + proto(3, b"root.layer-1") + proto(4, b"_tf_keras_layer") + proto(5, _LAYER)
    ),
}
TENSORFLOW_INCOMPLETE = {
    "custom_operation.pb": graph(_X, node("c", "SentencepieceTokenizeOp")),
    "state_elsewhere/checkpoint": b'model_checkpoint_path: "/home/me/model-1"\n',
}
TENSORFLOW_CLEAN = {
    "plain/saved_model.pb": saved(graph(_X, node("y", "Softmax", "x"))),
    "saver.pb": graph(_X, text_constant("p", "model"), node("s", "SaveV2", "p"), node("r", "RestoreV2", "p")),
    "asset_fed/saved_model.pb": saved(
        graph(_X, text_constant("a", "/home/me/v.txt"), node("t", "InitializeTableFromTextFileV2", "x", "a")),
        proto(6, proto(1, proto(1, b"a:0")) + proto(2, b"v.txt")),
    ),
    "functions.pb": graph(_X, node("c", "f"), functions={"f": [node("y", "Relu", "x")]}),
    "custom_layer/saved_model.pb": saved(graph(_X), proto(7, proto(1, proto(4, proto(3, _PLAIN))))),
    "state/checkpoint": b'model_checkpoint_path: "model-1"\nall_model_checkpoint_paths: "model-1"\n',
    "old/keras_metadata.pb": proto(
        1, b"\x10\x00" + proto(3, b"root") + proto(4, b"_tf_keras_model") + proto(5, _PLAIN)
    ),
}

_LITE = REAL["model.tflite"]
_FLEX = REAL["bad_flex.tflite"]
LITE_REFUSED = {
    "short.tflite": _LITE[:8],
    "offset_out.tflite": struct.pack("<I", 1 << 30) + _LITE[4:],
    "trailing.tflite": _LITE + b"not a part of it, and not an archive either" * 3,
    "trailing_pickle.tflite": _LITE + SYSTEM,
    "custom.tflite": _FLEX.replace(b"FlexTan", b"MyOpTan"),
    "archive_pickle.tflite": _LITE + zipped([("x.pkl", SYSTEM)]),
}

_LONG = "weights are numbers and names " * 3
FLAX_REFUSED = {
    "deep.msgpack": b"\x91" * 100_000,
    "long.msgpack": b"\xc6\xff\xff\xff\xffabc",
    "many.msgpack": b"\xdf\xff\xff\xff\xff\xa1a\x01",
    "twice.msgpack": b"\x82\xa1a\x01\xa1a\x02",
    "key_list.msgpack": b"\x81\x91\x01\x01",
    "trailing_value.msgpack": b"\x81\xa1a\x01\x01",
    "not_utf8.msgpack": b"\x81\xa1a\xa2\xff\xfe",
    "type_number.msgpack": b"\x81\xa1w\xc7\x0e\x01\x93\x91\x02\xcb" + bytes(8) + b"\xc4\x00",
    "undefined_byte.msgpack": b"\x81\xa1a\xc1",
    "pickle_behind.bin": b"\x81\xa6params\x01" + SYSTEM,
}
FLAX_CLEAN = {
    "weights.bin": b"\x81\xa6params\x81\xa1w\xc7\x15\x01\x93\x91\x02\xa7float32\xc4\x08" + bytes(8),
    "text.msgpack": b"\x81\xa4note\xd9" + bytes([len(_LONG)]) + _LONG.encode(),
}

REFUSED = {
    **{name: data for name, data in REAL.items() if name.startswith("bad_")},
    **KERAS_REFUSED,
    **TENSORFLOW_REFUSED,
    **LITE_REFUSED,
    **FLAX_REFUSED,
}
for _version in ("earliest", "latest"):
    _file = REAL[f"weights_{_version}.h5"]
    _block = REAL[f"userblock_{_version}.h5"]
    REFUSED[f"trailing_{_version}.h5"] = _file + b"bytes that belong to nothing"
    REFUSED[f"userblock_pickle_{_version}.h5"] = SYSTEM + _block[len(SYSTEM) :]
INCOMPLETE = {
    **KERAS_INCOMPLETE,
    **TENSORFLOW_INCOMPLETE,
    "cut.h5": REAL["weights_earliest.h5"][:-9],
    "extension_empty.msgpack": b"\x81\xa1a\xd4\x2a\x00",
}
CLEAN = {
    **{name: data for name, data in REAL.items() if not name.startswith("bad_")},
    **KERAS_CLEAN,
    **TENSORFLOW_CLEAN,
    **FLAX_CLEAN,
}
