"""Bytes that nobody can change any more: sealed memory, or an unnamed read-only copy on disk.

A file is poured in while it is hashed and then closed for good. Sealed memory (memfd_create(2), F_ADD_SEALS)
cannot be written by anybody, root included. A copy on disk has no name: what has no name cannot be opened,
renamed or truncated by another process. Both are handed on as descriptors, never as paths.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from garrison.core.errors import Refused
from garrison.storage.local import full_disk_explained

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
NOT_EXECUTABLE = 0x0008  # MFD_NOEXEC_SEAL, Linux 6.3; the standard library has no name for it yet
READ_ONLY = 0o444


@dataclass(slots=True)
class Holding:
    """The files of one model. `scratch` is None for sealed memory, else the directory of unnamed copies.

    `budget` bounds what is held in bytes, whatever a directory that grows meanwhile may say.
    """

    budget: int
    scratch: Path | None = None
    files: dict[str, int] = field(default_factory=dict)
    held: int = 0
    lock: Lock = field(default_factory=Lock)

    def writer(self, path: str) -> HeldWriter:
        return HeldWriter(self, path)

    def take(self, count: int) -> None:
        """Account for bytes about to be held. Raises `Refused` RUN-MEMORY."""
        with self.lock:
            self.held += count
            if self.held > self.budget:
                raise Refused(
                    "RUN-MEMORY",
                    f"the model takes more than the {self.budget:,} bytes it was admitted with",
                    fix="raise memory_share, or serve the model on a machine with more memory",
                )

    def close(self) -> None:
        """Give the bytes back. A server that has the descriptors keeps its own."""
        while self.files:
            os.close(self.files.popitem()[1])


class HeldWriter:
    """Takes one file (`trust.tree.Writer`)."""

    def __init__(self, holding: Holding, path: str) -> None:
        self._holding = holding
        self._path = path
        self._descriptor = _sealable(path) if holding.scratch is None else _unnamed(holding.scratch)

    def write(self, chunk: memoryview) -> None:
        self._holding.take(len(chunk))
        with full_disk_explained():
            while chunk:
                chunk = chunk[os.write(self._descriptor, chunk) :]

    def commit(self, _digest: str) -> None:
        os.fchmod(self._descriptor, READ_ONLY)
        if self._holding.scratch is None:
            fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, SEALS)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        else:
            writable, self._descriptor = (
                self._descriptor,
                os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC),
            )
            os.close(writable)
        self._holding.files[self._path] = self._descriptor

    def abort(self) -> None:
        if self._holding.files.get(self._path) != self._descriptor:
            os.close(self._descriptor)


class Passed:
    """A file that is hashed and not kept, such as a README (`trust.tree.Writer`)."""

    def write(self, chunk: memoryview) -> None: ...

    def commit(self, _digest: str) -> None: ...

    def abort(self) -> None: ...


def _sealable(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(os.path.basename(name)[:200], flags | NOT_EXECUTABLE)
    except OSError:  # an older kernel does not know the flag
        return os.memfd_create(os.path.basename(name)[:200], flags)


def _unnamed(directory: Path) -> int:
    with full_disk_explained():
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC, 0o600)
