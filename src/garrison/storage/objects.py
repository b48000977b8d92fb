"""The port for content-addressed bytes: put a stream in, get its digest out, read it back by digest.

One contract for every backend (`tests/contracts/objects.py`): `local.py` keeps plain files on a disk,
`spooled.py` keeps objects in any place for named blobs (a disk, an S3 bucket), plain or sealed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from garrison.core.digest import is_digest
from garrison.core.errors import Refused

READ_BYTES = 1 << 20


class Incoming(Protocol):
    """One object being written: any number of `write`, then `commit` or `abort`, once."""

    def write(self, chunk: bytes | memoryview, /) -> object: ...

    def commit(self, digest: str, /) -> object:
        """Make it visible under the digest of what was written; durable when this returns.

        An object that is there already stays, unless its bytes were damaged: then it is replaced.
        """
        ...

    def abort(self) -> None: ...


class Objects(Protocol):
    """Objects are immutable and named by their SHA-256. Half an object is never visible."""

    def incoming_object(self, path: str = "", /) -> Incoming:
        """A writer for one object. Raises `Undecided` DISK-FULL, DATA-READONLY or STO-UNREACHABLE."""
        ...

    def open(self, digest: str) -> BinaryIO:
        """The object's bytes, hashed again on the way.

        The read that reaches the end raises `Refused` OBJ-DAMAGED when they were not the bytes of that
        name; `open` raises `Refused` OBJ-MISSING.
        """
        ...

    def has(self, digest: str) -> bool: ...


class ObjectStore(Objects, Protocol):
    """The same, with what gives space back."""

    @property
    def is_linkable(self) -> bool:
        """Whether objects are plain files on this machine's disk, so that trees can be links to them."""
        ...

    @property
    def is_sealed(self) -> bool:
        """Whether Garrison encrypts objects itself, so that no plain byte may touch a disk."""
        ...

    def in_use(self) -> AbstractContextManager[None]:
        """While somebody puts objects that nothing refers to yet, none is discarded."""
        ...

    def discard_all_but(self, wanted: Callable[[], Collection[str]]) -> int: ...

    def sweep(self) -> int:
        """Remove what an interrupted write left behind; returns how many files."""
        ...


class Blobs(Protocol):
    """A place for named files; names are relative paths that this code made. Objects are never overwritten."""

    def keep(self, name: str, file: Path) -> None:
        """Make the file durable under that name and take it away from where it is. One that is there stays."""
        ...

    def replace(self, name: str, file: Path) -> None:
        """The same in the place of what is there, in one step. For key files alone."""
        ...

    def read(self, name: str) -> BinaryIO:
        """Raises FileNotFoundError."""
        ...

    def remove(self, name: str) -> None:
        """A missing one is fine."""
        ...

    def names(self, folder: str) -> Iterable[str]:
        """Every blob below a folder."""
        ...

    def pending(self, folder: str) -> Collection[str]:
        """Names whose upload was begun and can be continued."""
        ...


def put(store: Objects, chunks: Iterable[bytes]) -> tuple[str, int]:
    """Store a stream in one pass; return its `sha256:` digest and size in bytes."""
    writer, hasher, size = store.incoming_object(), hashlib.sha256(), 0
    try:
        for chunk in chunks:
            writer.write(chunk)
            hasher.update(chunk)
            size += len(chunk)
        digest = "sha256:" + hasher.hexdigest()
        writer.commit(digest)
    except BaseException:
        writer.abort()
        raise
    return digest, size


def holds(store: Objects, digest: str) -> bool:
    """Whether the object is there and its bytes still have that digest: reads all of it.

    Raises `Undecided` when the store does not answer.
    """
    try:
        with store.open(digest) as stream:
            while stream.read(READ_BYTES):
                pass
    except Refused:
        return False
    return True


def hexadecimal(digest: str) -> str:
    """The 64 digits of a digest. Raises ValueError for anything but `sha256:<64 hex>`."""
    if not is_digest(digest):
        raise ValueError(f"not a digest: {digest!r}")
    return digest.removeprefix("sha256:")


def missing(digest: str) -> Refused:
    return Refused(
        "OBJ-MISSING",
        f"{digest} is recorded but its bytes are not in the store",
        evidence={"digest": digest},
        fix="publish the same files again to put the bytes back; the version stays the same",
    )


def damaged(digest: str, why: str) -> Refused:
    return Refused(
        "OBJ-DAMAGED",
        f"the stored object {digest} was changed: {why}",
        evidence={"digest": digest},
        fix="garrison store verify names the versions it belongs to; publish the same files again to mend it",
    )


class Rehashed(io.RawIOBase):
    """A stream whose end is reached only by the bytes that the digest names."""

    def __init__(self, source: BinaryIO, digest: str) -> None:
        self._source = source
        self._digest = digest
        self._hasher = hashlib.sha256()
        self._is_done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the base says Buffer, which 3.11 cannot name
        chunk = self._source.read(len(buffer))
        if chunk:
            self._hasher.update(chunk)
            buffer[: len(chunk)] = chunk
            return len(chunk)
        if not self._is_done and "sha256:" + self._hasher.hexdigest() != self._digest:
            raise damaged(self._digest, f"its bytes are sha256:{self._hasher.hexdigest()}")
        self._is_done = True
        return 0

    def close(self) -> None:
        self._source.close()
        super().close()


def rehashed(source: BinaryIO, digest: str) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(Rehashed(source, digest), READ_BYTES))
