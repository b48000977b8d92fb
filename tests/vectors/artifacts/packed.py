"""Makes files packed with 7z and zstd, and TensorFlow graphs as text, hostile and harmless: named by what is wrong.

`seven_zip` writes an archive by the book; its arguments are where a hostile one departs from the book.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import zstandard

COPY, LZMA, LZMA2, DEFLATE, DELTA, BCJ = b"\0", b"\3\1\1", b"\x21", b"\4\1\x08", b"\3", b"\3\3\1\3"
AES = b"\6\xf1\7\1"


def number(value: int) -> bytes:
    """Nine bytes where fewer would do: the longest form of a number."""
    return bytes([value]) if value < 128 else b"\xff" + struct.pack("<Q", value)


def _coders(methods: Sequence[tuple[bytes, bytes]]) -> bytes:
    out = number(len(methods))
    for method, properties in methods:
        out += bytes([len(method) | (32 if properties else 0)]) + method
        out += number(len(properties)) + properties if properties else b""
    return out + b"".join(number(index) + number(index + 1) for index in range(len(methods) - 1))


def _packed(data: bytes, methods: Sequence[tuple[bytes, bytes]]) -> bytes:
    kinds: dict[bytes, dict[str, Any]] = {
        DELTA: {"id": lzma.FILTER_DELTA, "dist": 1},
        BCJ: {"id": lzma.FILTER_X86},
        LZMA: {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16},
        LZMA2: {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16},
    }
    used = [kinds[method] for method, _ in methods if method in kinds]
    if methods[-1][0] == DEFLATE:
        engine = zlib.compressobj(wbits=-15)
        return engine.compress(data) + engine.flush()
    return lzma.compress(data, lzma.FORMAT_RAW, filters=used) if used else data


def seven_zip(
    files: Sequence[tuple[str, bytes]],
    *,
    methods: Sequence[tuple[bytes, bytes]] = ((COPY, b""),),
    crc: int = 0,
    size: int = 0,
    behind: bytes = b"",
    tail: bytes = b"",
    attributes: int = 0,
    count: int = 0,
    packs_header: bool = False,
) -> bytes:
    """One folder of all files. `crc`, `size` and `count` are added to the true ones; `tail` is in the packed
    stream but not of it, `behind` lies between streams."""
    whole = b"".join(data for _, data in files)
    packed = _packed(whole, methods) + tail
    sizes = [len(whole) + size] * len(methods)
    streams = b"\6" + number(0) + number(1) + b"\x09" + number(len(packed)) + b"\0"
    streams += (
        b"\7\x0b" + number(1) + b"\0" + _coders(methods) + b"\x0c" + b"".join(map(number, sizes)) + b"\0"
    )
    parts = b"\x0d" + number(len(files))
    parts += b"\x09" + b"".join(number(len(data)) for _, data in files[:-1]) if len(files) > 1 else b""
    parts += b"\x0a\1" + b"".join(
        struct.pack("<I", (zlib.crc32(data) + crc) & 0xFFFFFFFF) for _, data in files
    )
    names = b"\0" + b"".join(name.encode("utf-16-le") + b"\0\0" for name, _ in files)
    listed = b"\5" + number(len(files) + count) + b"\x11" + number(len(names)) + names
    if attributes:
        words = b"\1\0" + struct.pack("<I", attributes) * len(files)
        listed += b"\x15" + number(len(words)) + words
    header = b"\1\4" + streams + b"\x08" + parts + b"\0\0" + listed + b"\0\0"
    body = packed + behind
    if packs_header:
        start, own = len(body), lzma.compress(header, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])
        body += own
        header_streams = (
            b"\6" + number(start) + number(1) + b"\x09" + number(len(own)) + b"\0\7\x0b" + number(1) + b"\0"
        )
        header_streams += _coders([(LZMA2, b"\x18")]) + b"\x0c" + number(len(header))
        header = b"\x17" + header_streams + b"\x0a\1" + struct.pack("<I", zlib.crc32(header)) + b"\0\0"
    place = struct.pack("<QQI", len(body), len(header), zlib.crc32(header))
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<I", zlib.crc32(place)) + place + body + header


def zstd(data: bytes, *, level: int = 3, checked: bool = True) -> bytes:
    return zstandard.ZstdCompressor(level=level, write_checksum=checked).compress(data)


def _lzma_properties() -> bytes:
    return bytes([93]) + struct.pack("<I", 1 << 16)


# posix.system("echo garrison-test")
_HARM = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x12echo garrison-test\x85R."
_HARMLESS = b"\x80\x04]\x94K\x01a."
_CHAINS = {
    "copy": ((COPY, b""),),
    "lzma": ((LZMA, _lzma_properties()),),
    "lzma2": ((LZMA2, b"\x18"),),
    "deflate": ((DEFLATE, b""),),
    "delta": ((DELTA, b"\0"), (LZMA2, b"\x18")),
    "bcj": ((BCJ, b""), (LZMA2, b"\x18")),
}
_NODE = 'node { name: "n" op: "%s" }'

CLEAN = {
    **{f"{name}.7z": seven_zip([("a.pkl", _HARMLESS)], methods=chain) for name, chain in _CHAINS.items()},
    "two.7z": seven_zip([("a.pkl", _HARMLESS), ("b/c.pkl", _HARMLESS)], packs_header=True),
    "plain.pkl.zst": zstd(_HARMLESS),
    "frames.zst": zstd(_HARMLESS[:5])
    + b"\x50\x2a\x4d\x18\x04\0\0\0\0\0\0\0"
    + zstd(_HARMLESS[5:], checked=False),
    "graph.pbtxt": (_NODE % "Relu" + "\nversions <producer: 27>  # as text\n").encode(),
    "labels.pbtxt": b"item {\n  id: 1\n  name: 'cat'\n}\nitem: <id: 2; name: \"d\" 'og'>\n",
    "saved_model.pbtxt": b"saved_model_schema_version: 1 meta_graphs { graph_def { "
    + (_NODE % "NoOp").encode()
    + b" } }",
}
REFUSED = {
    **{f"{name}_pickle.7z": seven_zip([("a", _HARM)], methods=chain) for name, chain in _CHAINS.items()},
    "second_pickle.7z": seven_zip([("a.pkl", _HARMLESS), ("README.md", _HARM)], packs_header=True),
    "crc.7z": seven_zip([("a.pkl", _HARMLESS)], crc=1),
    "hidden.7z": seven_zip([("a.pkl", _HARMLESS)], behind=b"hidden"),
    "trailing.7z": seven_zip([("a.pkl", _HARMLESS)]) + b"\0",
    "slip.7z": seven_zip([("../a.pkl", _HARMLESS)]),
    "twice.7z": seven_zip([("a.pkl", _HARMLESS), ("./a.pkl", _HARMLESS)]),
    "link.7z": seven_zip([("a.pkl", _HARMLESS)], attributes=0o120777 << 16 | 0x8000),
    "size.7z": seven_zip([("a.pkl", _HARMLESS)], size=1),
    "count.7z": seven_zip([("a.pkl", _HARMLESS)], count=1),
    "tail_of_stream.7z": seven_zip([("a.pkl", _HARMLESS)], methods=_CHAINS["lzma2"], tail=b"x"),
    "tail_of_lzma.7z": seven_zip([("a.pkl", _HARMLESS)], methods=_CHAINS["lzma"], tail=bytes(40)),
    "bomb.7z": seven_zip([("a", bytes(70 << 20))], methods=((LZMA2, b"\x18"),)),
    "pickle.zst": zstd(_HARM, level=19),
    "second_frame.zst": zstd(_HARMLESS) + zstd(_HARM),
    "trailing.zst": zstd(_HARMLESS) + b"x",
    "cut_behind_the_call.zst": zstd(_HARM)[:-2],
    "bomb.zst": zstd(bytes(80 << 20)),
    "python.pbtxt": (_NODE % "Relu" + "node: <op: 'PyFunc' name: 'e'>").encode(),
    "octal.pbtxt": (_NODE % "Relu" + _NODE % r"Wri\164eFile").encode(),
    "function.pbtxt": b'library { function { signature { name: "f" } node_def: [{op: "ReadFile"}] } }',
    "graph.bin": (_NODE % "WriteFile").encode(),
}
INCOMPLETE = {
    "encrypted.7z": seven_zip([("a.pkl", _HARM)], methods=((AES, b"\x13"), (LZMA2, b"\x18"))),
    "unknown_method.7z": seven_zip([("a.pkl", _HARM)], methods=((b"\3\4\1", b""),)),
    "cut.7z": seven_zip([("a.pkl", _HARMLESS)])[:-4],
    "cut.zst": zstd(_HARMLESS)[:-8],
    "dictionary.zst": b"\x28\xb5\x2f\xfd\x01\x00\x07" + bytes(8),
    "unknown.pbtxt": b"layer { type: 'Data' }",
    "field.pbtxt": (_NODE % "Relu" + " extra: 1").encode(),
    "newlines": b"\n" * 4_000 + b"[n",
    "broken.pbtxt": (_NODE % "Relu" + " }").encode(),
}
