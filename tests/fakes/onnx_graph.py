"""A small ONNX graph whose tensor lies in a file beside it: a ModelProto written by hand, field by field."""

from __future__ import annotations

import struct
from pathlib import Path


def external_data(directory: Path, added: tuple[int, int, int] = (10, 20, 30)) -> Path:
    """y = x + w, with w in `weights.data`."""
    directory.mkdir()
    (directory / "weights.data").write_bytes(struct.pack("<3f", *added))
    entry = field(13, field(1, b"location") + field(2, b"weights.data"))
    weights = varint(1, 3) + varint(2, 1) + field(8, b"w") + entry + varint(14, 1)
    node = field(1, b"x") + field(1, b"w") + field(2, b"y") + field(4, b"Add")
    kind = field(1, varint(1, 1) + field(2, field(1, varint(1, 3))))
    x, y = (field(1, name) + field(2, kind) for name in (b"x", b"y"))
    graph = field(1, node) + field(2, b"g") + field(5, weights) + field(11, x) + field(12, y)
    model = varint(1, 8) + field(7, graph) + field(8, field(1, b"") + varint(2, 17))
    (directory / "model.onnx").write_bytes(model)
    return directory


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + length(len(content)) + content


def varint(number: int, value: int) -> bytes:
    return length(number << 3) + length(value)


def length(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])
