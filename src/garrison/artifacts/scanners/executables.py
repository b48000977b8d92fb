"""Programs in binary form: ELF, PE, Mach-O, byte code of Python, Java, Lua and WebAssembly, object archives.

No model is one of these. They are named and refused, not disassembled.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Seen, Source, critical

FIX = "publish weights without programs; a server that needs this code has to ship it itself"
_MAGIC = (
    (b"\x7fELF", "an ELF program or library"),
    (b"MZqFpD", "a program for every system (an APE, such as a llamafile)"),
    (b"jartsr='", "a program for every system (an APE)"),
    (b"\xfe\xed\xfa\xce", "a Mach-O program"),
    (b"\xfe\xed\xfa\xcf", "a Mach-O program"),
    (b"\xce\xfa\xed\xfe", "a Mach-O program"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (b"\xca\xfe\xba\xbe", "a Java class or a Mach-O program for several processors"),
    (b"\xca\xfe\xd0\x0d", "packed Java classes"),
    (b"dex\n03", "Android byte code"),
    (b"\x1bLua", "Lua byte code"),
    (b"\x1bLJ", "Lua byte code"),
    (b"\0asm\x01\0\0\0", "a WebAssembly program"),
    (b"!<arch>\n", "a library of object files or a Debian package"),
    (b"BC\xc0\xde", "LLVM byte code"),
    (b"\xed\xab\xee\xdb", "an RPM package"),
    (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0", "a Windows shortcut"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE container (installers, documents with macros)"),
)


class Executable:
    format = "executable"

    def recognises(self, head: bytes, source: Source) -> bool:
        return bool(_kind(head, source))

    def scan(self, source: Source) -> Iterator[Seen]:
        kind = _kind(source.read_at(0, 64), source)
        yield critical("artifact.code.binary", f"{kind} beside or in place of weights", fix=FIX)


def _kind(head: bytes, source: Source) -> str:
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:2] == b"MZ" and len(head) >= 64:
        (at,) = struct.unpack("<I", head[60:64])
        if source.read_at(at, 4)[:2] in (b"PE", b"NE", b"LE", b"LX") or head[:4] == b"MZ\x90\0":
            return "a Windows or DOS program"
    if head[2:4] == b"\r\n" and len(head) > 16 and b"\x0c" <= head[1:2] <= b"\x0f" and _is_pyc(head):
        return "Python byte code"
    return ""


def _is_pyc(head: bytes) -> bool:
    """A two-byte magic number of Python 3.0 to 3.16, then flags, and a code object where one has to be."""
    (flags,) = struct.unpack("<I", head[4:8])
    return flags <= 3 or any(head[at : at + 1] in (b"\xe3", b"\x63") for at in (8, 12, 16))
