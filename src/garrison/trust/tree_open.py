"""Open what was listed, and nothing else: no link followed on the way, and still the same file.

A file is named once, by the listing; whoever opens it later compares what the descriptor says with that.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from garrison.core.errors import Refused, Undecided


@dataclass(frozen=True, slots=True)
class Seen:
    """A path and the identity of what stands there. Two listings are compared by value."""

    path: str
    device: int
    inode: int
    mode: int
    size: int
    modified: int
    changed: int

    @staticmethod
    def of(path: str, status: os.stat_result, allow_hard_links: bool) -> Seen:
        return Seen(
            path,
            status.st_dev,
            status.st_ino,
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
            # Another release that links the same object changes the object's ctime, and nothing else.
            0 if allow_hard_links else status.st_ctime_ns,
        )


def check_same(seen: Seen, descriptor: int, allow_hard_links: bool) -> None:
    """Raises ART-CHANGED unless the descriptor still is the file that was listed."""
    if Seen.of(seen.path, os.fstat(descriptor), allow_hard_links) != seen:
        raise changed(seen.path)


@contextlib.contextmanager
def beneath(root: int, path: str) -> Iterator[int]:
    """Open a file below `root`, one component at a time, following no link on the way."""
    directories, _, name = path.rpartition("/")
    with contextlib.ExitStack() as stack:
        directory = root
        for part in directories.split("/") if directories else ():
            directory = stack.enter_context(opened(part, directory, path, os.O_DIRECTORY))
        yield stack.enter_context(opened(name, directory, path, 0))


@contextlib.contextmanager
def opened(name: str, directory: int, path: str, flags: int) -> Iterator[int]:
    # O_NONBLOCK: a pipe that took the file's place must not hang the open; it has no effect on files.
    flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with readable(path):
        descriptor = os.open(name, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn what the system says about a path below the root into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.ENXIO):
            raise changed(path) from error
        raise Undecided(
            "ART-UNREADABLE",
            f"cannot read {path}: {error.strerror}",
            fix="make it readable for this user, or read the disk's own log, then repeat the command",
            evidence={"path": path},
        ) from error


def changed(path: str) -> Refused:
    return Refused(
        "ART-CHANGED",
        f"{path} changed while it was being read",
        fix="stop whatever writes there (a download, a training job), then repeat the command",
        evidence={"path": path},
    )
