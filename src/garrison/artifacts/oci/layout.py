"""The bytes of an OCI image layout: a directory, or a tar of one. Nothing is unpacked, no link is followed."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from garrison.artifacts.oci.descriptor import MAX_DOCUMENT, malformed
from garrison.core.errors import Refused, Usage

MAX_MEMBERS = 100_000  # of a tar; an image has dozens
INDEX_FILE, LAYOUT_FILE = "index.json", "oci-layout"


class Layout(Protocol):
    """Files by their path inside the layout. `open` raises KeyError for one that is not there."""

    def open(self, path: str) -> BinaryIO: ...

    def size(self, path: str) -> int: ...

    def blobs(self) -> set[str]: ...


class DirectoryLayout:
    """A layout that lies unpacked. Links and special files are refused, as is a way out of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, path: str) -> BinaryIO:
        try:
            descriptor = os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise KeyError(path) from error
        except OSError as error:
            raise _odd(path, error.strerror or "it cannot be read") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _odd(path, "it is not a regular file")
        return os.fdopen(descriptor, "rb")

    def size(self, path: str) -> int:
        with self.open(path) as file:
            return os.fstat(file.fileno()).st_size

    def blobs(self) -> set[str]:
        directory = self.root / "blobs" / "sha256"
        for part in (self.root / "blobs", directory):
            if part.is_symlink():
                raise _odd(str(part.relative_to(self.root)), "it is a link")
        return {f"sha256:{entry.name}" for entry in directory.iterdir()} if directory.is_dir() else set()


class TarLayout:
    """A layout in an uncompressed tar, read where it lies."""

    def __init__(self, path: Path) -> None:
        self._members: dict[str, tarfile.TarInfo] = {}
        try:
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed by the caller's `opened`
        except (tarfile.TarError, OSError) as error:
            raise malformed(str(path), "it is neither a layout nor an uncompressed tar of one") from error
        try:
            self._read_members()
        except (tarfile.TarError, OSError, ValueError) as error:
            self._tar.close()
            raise malformed(str(path), "the tar is damaged") from error
        except BaseException:
            self._tar.close()
            raise

    def _read_members(self) -> None:
        for count, member in enumerate(self._tar):
            name = member.name.removeprefix("./").rstrip("/")
            if count >= MAX_MEMBERS:
                raise malformed(name, f"the tar has more than {MAX_MEMBERS} members")
            if member.isdir():
                continue
            if not member.isreg():
                raise _odd(name, "it is a link or a special file")
            if name.startswith("/") or ".." in name.split("/") or name in self._members:
                raise _odd(name, "its name leads elsewhere, or is there twice")
            self._members[name] = member

    def open(self, path: str) -> BinaryIO:
        file = self._tar.extractfile(self._members[path])
        if file is None:
            raise KeyError(path)
        return file  # type: ignore[return-value]  # typeshed says IO[bytes], and a BinaryIO is one

    def size(self, path: str) -> int:
        return self._members[path].size

    def blobs(self) -> set[str]:
        prefix = "blobs/sha256/"
        return {f"sha256:{name.removeprefix(prefix)}" for name in self._members if name.startswith(prefix)}

    def close(self) -> None:
        self._tar.close()


@contextmanager
def opened(path: Path) -> Iterator[Layout]:
    """The layout at a path. Raises `Usage` IMG-PATH, `Refused` IMG-FORMAT when there is none."""
    try:
        is_directory = path.is_dir()
        is_there = path.exists()
    except (OSError, ValueError):
        is_directory = is_there = False
    if not is_there:
        raise Usage("IMG-PATH", f"there is no image layout {path}", fix="name one: oci:DIR or oci:FILE.tar")
    if is_directory:
        yield DirectoryLayout(path)
        return
    tar = TarLayout(path)
    try:
        yield tar
    finally:
        tar.close()


def read(layout: Layout, path: str, what: str) -> bytes:
    """A document of the layout. Raises `Refused` IMG-MISSING, IMG-FORMAT for one that is too large."""
    try:
        with layout.open(path) as file:
            data = file.read(MAX_DOCUMENT + 1)
    except KeyError as error:
        raise missing([what]) from error
    if len(data) > MAX_DOCUMENT:
        raise malformed(what, f"it is larger than {MAX_DOCUMENT} bytes")
    return data


def path_of(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def missing(names: list[str]) -> Refused:
    return Refused(
        "IMG-MISSING",
        f"the image is not complete: {names[0]} is not there"
        + (f", nor {len(names) - 1} more" if len(names) > 1 else ""),
        evidence={"missing": names},
        fix="fetch or build the image again; a part of it was never written or was taken away",
    )


def _odd(path: str, why: str) -> Refused:
    return malformed(path or "the layout", why)
