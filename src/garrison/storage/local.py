"""Content-addressed objects on a local disk: `objects/sha256/ab/<64 hex>`, read-only, written once.

An object becomes visible by one rename after its bytes are synced, so a crash leaves at most a file
in `objects/incoming/`, which `sweep()` removes at the next start.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from garrison.core.errors import Undecided
from garrison.storage.objects import hexadecimal, holds, missing, rehashed

OBJECT_MODE = 0o444
_DRAFT = re.compile(r"\..+\.[0-9a-f]{8}")  # as `write_atomically` names them


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which file it is, and when it was last written: as long as both hold, so does what was said of its bytes.

    `changed` moves with each new name and mode too, so it is 0 until the file has got those it will have. Unlike
    `modified` nobody can set it back.
    """

    device: int
    inode: int
    size: int
    modified: int
    changed: int = 0

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class IncomingObject:
    """One object being written. `commit(digest)` makes it visible; `abort()` leaves nothing."""

    def __init__(self, store: LocalObjects) -> None:
        self._store = store
        self._path = store.incoming / secrets.token_hex(16)
        with full_disk_explained():
            self._file = self._path.open("xb", buffering=0)

    def write(self, chunk: bytes | memoryview, /) -> None:
        """Append all of the chunk. Raises `Undecided` DISK-FULL."""
        view = memoryview(chunk)
        with full_disk_explained():
            while view:
                view = view[self._file.write(view) :]

    def commit(self, digest: str, /) -> Stamp | None:
        """Sync, name by the digest of what was written, make read-only. Returns which file now has those bytes.

        An object that is there already stays, and its links with it, unless its bytes were damaged; then None.
        """
        if holds(self._store, digest):
            self.abort()
            return None
        with full_disk_explained():
            os.fchmod(self._file.fileno(), OBJECT_MODE)
            os.fsync(self._file.fileno())
            stamp = replace(Stamp.of(os.fstat(self._file.fileno())), changed=0)
            self._file.close()
            target = self._store.path(digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(target)
            sync_directory(target.parent)
        return stamp

    def abort(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class LocalObjects:
    """Objects under `root`. One process writes; any number read."""

    is_linkable = True
    is_sealed = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / "incoming"
        self._users = 0
        self._counting = threading.Lock()
        with full_disk_explained():
            self.incoming.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the object is or would be. Raises ValueError for anything but `sha256:<64 hex>`."""
        digits = hexadecimal(digest)
        return self.root / "sha256" / digits[:2] / digits

    def incoming_object(self, _path: str = "") -> IncomingObject:
        """A writer for one object whose digest the caller computes while writing."""
        return IncomingObject(self)

    def open(self, digest: str) -> BinaryIO:
        try:
            return rehashed(self.path(digest).open("rb", buffering=0), digest)
        except FileNotFoundError as error:
            raise missing(digest) from error

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While somebody puts objects that nothing refers to yet, none is discarded."""
        with self._counting:
            self._users += 1
        try:
            yield
        finally:
            with self._counting:
                self._users -= 1

    def discard_all_but(self, wanted: Callable[[], Collection[str]]) -> int:
        """Remove every object that is not among the digests of `wanted()`; none while one is being put.

        New objects wait until this is done, so that none is taken away between its arrival and its name.
        """
        with self._counting:
            if self._users:
                return 0
            kept = wanted()
            rest = [path for path in (self.root / "sha256").glob("??/*") if f"sha256:{path.name}" not in kept]
            for path in rest:
                path.unlink(missing_ok=True)
            return len(rest)

    def sweep(self) -> int:
        """Remove what an interrupted write left behind; returns how many files."""
        leftovers = list(self.incoming.iterdir())
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)


class LocalBlobs:
    """Named files under `root` (`objects.Blobs`)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def keep(self, name: str, file: Path) -> None:
        target = self.root / name
        if not target.exists():
            self.replace(name, file)

    def replace(self, name: str, file: Path) -> None:
        """Put the file in the place of what is there, in one step."""
        target = self.root / name
        with full_disk_explained():
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, OBJECT_MODE)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            file.replace(target)
            sync_directory(target.parent)

    def read(self, name: str) -> BinaryIO:
        return (self.root / name).open("rb")

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def names(self, folder: str) -> Iterator[str]:
        for path in sorted((self.root / folder).glob("??/*")):
            yield str(path.relative_to(self.root))

    def pending(self, _folder: str) -> Collection[str]:
        return ()


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def explained(error: OSError) -> Undecided:
    """What the system said, as a sentence with a next step: DISK-FULL, DATA-READONLY or HOST-IO."""
    if is_full(error):
        return Undecided(
            "DISK-FULL",
            f"the disk is full: {error.filename or 'a write failed'}",
            fix="free space on the disk that holds the data directory, then try again; nothing was changed",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return Undecided(
            "DATA-READONLY",
            f"cannot write {error.filename or 'to the data directory'}: {error.strerror}",
            fix="make the data directory writable for this user, or choose another with --data DIR",
        )
    return Undecided(
        "HOST-IO",
        f"the system refused {error.filename or 'a file or a connection'}: "
        f"{error.strerror or type(error).__name__}",
        fix="see what the system's log says about that path or limit, then try again",
    )


@contextmanager
def full_disk_explained() -> Iterator[None]:
    """Turn "no space" and "read-only" from the system into sentences. Other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if is_full(error) or error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise explained(error) from error
        raise


def sync_directory(directory: Path) -> None:
    """Make a rename inside `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a small file in one step: readers see the old bytes or the new ones, never a mixture."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with full_disk_explained():
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def sweep_drafts(root: Path, places: Iterable[str]) -> int:
    """Remove what `write_atomically` was writing when its process was killed, and say how many files.

    `places` are patterns of directories below `root`; only directories in which nobody else has files.
    """
    found = [path for place in places for path in root.glob(f"{place}/.*") if _DRAFT.fullmatch(path.name)]
    drafts = [path for path in found if path.is_file() and not path.is_symlink()]
    for path in drafts:
        path.unlink(missing_ok=True)
    return len(drafts)


def remove_tree(directory: Path) -> None:
    """Delete a directory that Garrison made; a missing one is fine."""
    shutil.rmtree(directory, ignore_errors=True)
