"""The headers of weight files: what a safetensors, GGUF, ONNX or NumPy file says before its weights begin."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.artifacts.scanners import protobuf, strict_json
from garrison.artifacts.scanners.base import Source
from garrison.artifacts.scanners.npy import MAGIC as NPY
from garrison.artifacts.scanners.npy import MAX_HEADER as MAX_NPY
from garrison.artifacts.scanners.npy import read_npy_header
from garrison.artifacts.scanners.sources import FileSource, Reader

MAX_SAFETENSORS = 32 * 1024 * 1024  # the longest published headers have a few megabytes
MAX_PAIRS, MAX_TENSORS = 65_536, 1 << 20  # as the scanner of GGUF
MAX_TEXT = 4096  # a longer string is a template or a vocabulary, not a fact
MAX_FIELDS = 4_096  # fields at the top of an ONNX model or graph that are looked at
MAX_NAMES = 64  # inputs and outputs that are named

# fmt: off - a table, read by columns
_GGUF_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    15: "Q8_K",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    30: "BF16",
}
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# fmt: on
_GGUF_KEYS = {
    "general.quantization_version": "gguf.quantization_version",
    "general.file_type": "gguf.file_type",
    "general.finetune": "finetune",
    "general.size_label": "size label",
    "tokenizer.ggml.model": "tokenizer",
}


@dataclass(frozen=True, slots=True)
class Header:
    """What one weight file says."""

    format: str
    parameters: int = 0
    dtypes: Mapping[str, int] = field(default_factory=dict)
    architecture: str = ""
    name: str = ""
    license: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header | None:
    """The header of a file in one of the four formats, None for another.

    Raises OSError, EOFError, ValueError, KeyError, TypeError, struct.error or `Malformed` for a file that is
    not what its name says.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        source = FileSource(path.name, os.fstat(descriptor).st_size, descriptor)
        match path.suffix.lower():
            case ".safetensors":
                return _safetensors(source)
            case ".gguf":
                return _gguf(source)
            case ".onnx":
                return _onnx(source)
            case ".npy":
                return _npy(source)
        return None
    finally:
        os.close(descriptor)


def _safetensors(source: Source) -> Header:
    length = int.from_bytes(source.read_at(0, 8), "little")
    if length > MAX_SAFETENSORS:
        raise ValueError("a header of that length is not read")
    header = strict_json.parse(source.read_at(8, length).rstrip(b" "))
    metadata = header.pop("__metadata__", {})
    dtypes: dict[str, int] = {}
    for tensor in header.values():
        dtypes[tensor["dtype"]] = dtypes.get(tensor["dtype"], 0) + math.prod(tensor["shape"])
    written = {"safetensors.format": metadata["format"]} if "format" in metadata else {}
    return Header("safetensors", sum(dtypes.values()), dtypes, properties=written)


def _npy(source: Source) -> Header:
    head = source.read_at(0, 12)
    if not head.startswith(NPY):
        raise ValueError("not an npy file")
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + width], "little")
    if length > MAX_NPY:
        raise ValueError("a header of that length is not read")
    header = read_npy_header(source.read_at(8 + width, length))
    count = math.prod(header["shape"])
    return Header("npy", count, {str(header["descr"])[:40]: count})


def _gguf(source: Source) -> Header:
    reader = Reader(source)
    magic, version, tensors, pairs = struct.unpack("<4sIQQ", reader.take(24))
    if magic != b"GGUF" or version not in (2, 3) or pairs > MAX_PAIRS or tensors > MAX_TENSORS:
        raise ValueError("not a GGUF file of version 2 or 3")
    known: dict[str, Any] = {"gguf.version": version}
    for _ in range(pairs):
        key = _string(reader)
        (kind,) = struct.unpack("<I", reader.take(4))
        value = _value(reader, kind)
        if value is not None:
            known[key] = value
    dtypes: dict[str, int] = {}
    for _ in range(tensors):
        _string(reader)
        (rank,) = struct.unpack("<I", reader.take(4))
        if rank > 4:
            raise ValueError("a tensor of more than four dimensions")
        shape = struct.unpack(f"<{rank}Q", reader.take(8 * rank))
        (kind,) = struct.unpack("<I", reader.take(4))
        reader.skip(8)
        name = _GGUF_TYPES.get(kind, f"ggml type {kind}")
        dtypes[name] = dtypes.get(name, 0) + math.prod(shape)
    architecture = str(known.get("general.architecture", ""))
    properties = {name: str(known[key]) for key, name in _GGUF_KEYS.items() if key in known}
    for key in ("context_length", "embedding_length", "block_count"):
        if f"{architecture}.{key}" in known:
            properties[key.replace("_", " ")] = str(known[f"{architecture}.{key}"])
    return Header(
        "gguf",
        sum(dtypes.values()),
        dtypes,
        architecture=architecture,
        name=str(known.get("general.name", "")),
        license=str(known.get("general.license", "")),
        properties={"gguf.version": str(version), **properties},
    )


def _value(reader: Reader, kind: int) -> Any:
    """A scalar or a short text; None for what was skipped."""
    if kind == 8:
        return _string(reader)
    if kind == 9:
        inner, count = struct.unpack("<IQ", reader.take(12))
        if inner == 8:
            for _ in range(count):
                reader.skip(int.from_bytes(reader.take(8), "little"))
        else:
            reader.skip(count * struct.calcsize(f"<{_SCALARS[inner]}"))
        return None
    form = f"<{_SCALARS[kind]}"
    return struct.unpack(form, reader.take(struct.calcsize(form)))[0]


def _string(reader: Reader) -> str:
    length = int.from_bytes(reader.take(8), "little")
    if length > MAX_TEXT:
        reader.skip(length)
        return ""
    return reader.take(length).decode("utf-8", errors="replace")


def _onnx(source: Source) -> Header:
    reader = Reader(source)
    properties: dict[str, str] = {}
    opsets: list[str] = []
    inputs: list[str] = []
    outputs: list[str] = []
    for count, item in enumerate(protobuf.fields(reader, 0, source.size)):
        if count > MAX_FIELDS:
            break
        if item.number == 1 and not item.is_span:
            properties["onnx.ir_version"] = str(item.value)
        elif item.number in (2, 3) and item.is_span:
            name = "onnx.producer" if item.number == 2 else "onnx.producer_version"
            properties[name] = protobuf.text(reader, item)[:200]
        elif item.number == 8 and item.is_span:
            opsets.append(_opset(reader, item))
        elif item.number == 7 and item.is_span:
            for part in protobuf.fields(reader, item.start, item.end):
                if part.is_span and part.number in (11, 12):
                    names = inputs if part.number == 11 else outputs
                    if len(names) < MAX_NAMES:
                        names.append(_first_text(reader, part))
    if opsets:
        properties["onnx.opset"] = ", ".join(opsets)
    return Header("onnx", inputs=tuple(inputs), outputs=tuple(outputs), properties=properties)


def _opset(reader: Reader, item: protobuf.Field) -> str:
    domain, version = "ai.onnx", 0
    for part in protobuf.fields(reader, item.start, item.end):
        if part.number == 1 and part.is_span:
            domain = protobuf.text(reader, part)[:200] or domain
        elif part.number == 2:
            version = part.value
    return f"{domain} {version}"


def _first_text(reader: Reader, item: protobuf.Field) -> str:
    for part in protobuf.fields(reader, item.start, item.end):
        if part.number == 1 and part.is_span:
            return protobuf.text(reader, part)[:200]
    return ""
