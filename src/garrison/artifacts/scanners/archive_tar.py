"""Tar archives: regular files and directories only, inside their directory, and zeros behind the end."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, cast

from garrison.artifacts.scanners.base import Gap, Inner, Seen, Source, high, shown
from garrison.artifacts.scanners.paths import unsafe_path
from garrison.artifacts.scanners.sources import Window, all_zero

MAX_MEMBERS = 50_000


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
                if member.name in seen:
                    yield high("artifact.tar.duplicate", f"two members have the name {name}", f"!{name}")
                seen.add(member.name)
                if reason := unsafe_path(member.name):
                    yield high("artifact.tar.slip", f"the member {name} {reason}", f"!{name}")
                if member.issparse():
                    yield Gap("artifact.tar.sparse", f"{name} is a sparse file", f"!{name}")
                elif member.isreg():
                    if member.offset_data + member.size > source.size:
                        yield Gap("artifact.truncated", f"{name} ends behind the archive", f"!{name}")
                    start, size = member.offset_data, min(member.size, source.size - member.offset_data)
                    yield Inner(name, Window(member.name, source, start, max(size, 0)))
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
