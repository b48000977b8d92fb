"""The port for content-addressed bytes: put a stream in, get its digest out, read it back by digest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, Protocol


class ObjectStore(Protocol):
    """Objects are immutable and named by their SHA-256. `local.py` keeps them on a disk."""

    def put(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Store a stream in one pass; return its `sha256:` digest and size in bytes.

        Durable when it returns (synced, then renamed into place); half an object is never visible.
        Raises `Undecided` DISK-FULL when there is no room.
        """
        ...

    def open(self, digest: str) -> BinaryIO:
        """A read-only stream of the stored bytes, **not yet verified**. Raises `Refused` OBJ-MISSING."""
        ...

    def has(self, digest: str) -> bool: ...
