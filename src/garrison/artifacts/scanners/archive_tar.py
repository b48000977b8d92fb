"""Tar archives: regular files and directories only, inside their directory, and zeros behind the end."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from typing import IO, cast

from garrison.artifacts.scanners.base import Gap, Inner, Seen, Source, high, shown
from garrison.artifacts.scanners.oci import FIX as FIX_BLOB
from garrison.artifacts.scanners.oci import RULE, is_other
from garrison.artifacts.scanners.paths import unsafe_path
from garrison.artifacts.scanners.sources import Window, all_zero

MAX_MEMBERS = 50_000
MAX_PAX = 256  # extended attributes of one member; writers need three
_SHORT = 100  # bytes that the name field of a plain header holds


class Tar:
    format = "tar"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        if head[257:262] == b"ustar":
            return True
        if len(head) < 512 or not head[0]:
            return False
        field = head[148:156].strip(b" \0")
        if not field or len(field) > 7 or field.strip(b"01234567"):
            return False
        total = sum(head[:148]) + 8 * 32 + sum(head[156:512])
        return int(field, 8) == total

    def scan(self, source: Source) -> Iterator[Seen]:
        seen: set[str] = set()
        try:
            archive = tarfile.open(fileobj=cast("IO[bytes]", _File(source)), mode="r:")  # noqa: SIM115 - closes nothing
            member = archive.next()
            while member is not None:
                if len(seen) >= MAX_MEMBERS:
                    yield Gap("artifact.limit.count", f"more than {MAX_MEMBERS} members in one archive")
                    return
                name = shown(member.name, 200)
                plain = posixpath.normpath(member.name)
                if plain in seen:
                    yield high("artifact.tar.duplicate", f"two members have the name {name}", f"!{name}")
                seen.add(plain)
                yield from _extended(member, name, archive)
                if reason := unsafe_path(member.name):
                    yield high("artifact.tar.slip", f"the member {name} {reason}", f"!{name}")
                if member.issparse():
                    yield Gap("artifact.tar.sparse", f"{name} is a sparse file", f"!{name}")
                elif member.isreg():
                    if member.offset_data + member.size > source.size:
                        yield Gap("artifact.truncated", f"{name} ends behind the archive", f"!{name}")
                    start, size = member.offset_data, min(member.size, source.size - member.offset_data)
                    inner = Window(member.name, source, start, max(size, 0))
                    if is_other(member.name, inner):
                        yield high(RULE, f"{name} is not what its name says", f"!{name}", FIX_BLOB)
                    yield Inner(name, inner)
                elif not member.isdir():
                    yield high("artifact.tar.link", f"the member {name} is a link or a device", f"!{name}")
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every member it has read
                member = archive.next()
        except (tarfile.TarError, ValueError, OSError) as error:
            yield Gap(
                "artifact.tar.damaged", f"the archive cannot be read to its end: {type(error).__name__}"
            )
            return
        if not all_zero(source, archive.offset, source.size):
            yield high("artifact.tar.trailing", "bytes behind the end of the archive belong to nothing")


def _extended(member: tarfile.TarInfo, name: str, archive: tarfile.TarFile) -> Iterator[Seen]:
    """Extended headers, where a reader that knows them and one that does not see two archives."""
    if any(key in ("path", "size", "linkpath") or key.startswith("GNU.") for key in archive.pax_headers):
        yield high("artifact.tar.disagree", "a global header renames or resizes every member", f"!{name}")
    pax = member.pax_headers
    if len(pax) > MAX_PAX:
        yield Gap("artifact.limit.count", f"{name} has more than {MAX_PAX} extended attributes", f"!{name}")
    if any(key.startswith("GNU.sparse") for key in pax):
        yield Gap("artifact.tar.sparse", f"{name} is a sparse file", f"!{name}")
    path = pax.get("path", "").rstrip("/")
    if path and path.isascii() and len(path) < _SHORT and member.isreg():
        yield high("artifact.tar.disagree", f"an extended header renames a member to {name}", f"!{name}")
    if "size" in pax and member.size < 1 << 33:
        yield high("artifact.tar.disagree", f"an extended header changes the size of {name}", f"!{name}")


class _File:
    """The part of a file object that tarfile uses to read."""

    def __init__(self, source: Source) -> None:
        self._source, self._at = source, 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read_at(self._at, self._source.size if size < 0 else size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._source.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at
