"""Files of this machine that another system describes: opened below one directory, following no link out of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from garrison.artifacts.lineage.files import MAX_FILES, Tally, nowhere, pour
from garrison.artifacts.lineage.remote import not_understood, too_much
from garrison.core.errors import Refused, Usage
from garrison.trust.paths import MAX_DEPTH, check_path

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Hashed:
    """What is on disk under one path: a file, or a directory's files by their path below it."""

    files: dict[str, tuple[str, str, int]]  # path -> (md5 hex, sha256 hex, size)
    is_directory: bool


@contextlib.contextmanager
def opened(root: Path, path: str) -> Iterator[int]:
    """A regular file below `root`, no component of it a link. Raises `Refused` LIN-GONE and LIN-PLACE."""
    check_path(path)
    with contextlib.ExitStack() as stack:
        at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, at)
        parts = path.split("/")
        try:
            for part in parts[:-1]:
                at = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=at)
                stack.callback(os.close, at)
            descriptor = os.open(parts[-1], _FLAGS, dir_fd=at)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise Refused(
                    "LIN-GONE", f"{path} is not in {root}", fix="fetch it first (dvc pull), or mend the path"
                ) from error
            raise _elsewhere(root, path) from error
        stack.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _elsewhere(root, path)
        yield descriptor


def small(root: Path, path: str, limit: int) -> bytes:
    """A whole small file. Raises as `opened`, and `Undecided` LIN-LIMIT."""
    with opened(root, path) as descriptor:
        text = b""
        while chunk := os.read(descriptor, limit + 1 - len(text)):
            text += chunk
            if len(text) > limit:
                raise too_much(f"{path} has more than {limit:,} bytes")
    return text


def listed(root: Path, path: str, is_left_out: Callable[[str], bool] = lambda _name: False) -> list[str]:
    """Every file at or below a path, relative to `root`. A link there is refused, not left out."""
    found: list[str] = []
    pending = [path]
    while pending:
        current = pending.pop()
        full = root / current
        try:
            status = os.lstat(full)
        except OSError as error:
            raise Refused(
                "LIN-GONE", f"{current} is not in {root}", fix="fetch it first (dvc pull), or mend the path"
            ) from error
        if stat.S_ISLNK(status.st_mode):
            raise _elsewhere(root, current)
        if stat.S_ISDIR(status.st_mode):
            names = [name for name in os.listdir(full) if not is_left_out(name)]
            pending += [f"{current}/{name}" if current else name for name in names]
        else:
            found.append(check_path(current))
        if len(found) + len(pending) > MAX_FILES or current.count("/") > MAX_DEPTH:
            raise too_much(f"{path or root} holds more than {MAX_FILES:,} files")
    return sorted(found)


def hashed(root: Path, path: str) -> Hashed:
    """MD5 (what the other system knows) and SHA-256 (what we go by) of a file or a directory, in one pass."""
    is_directory = (root / path).is_dir() and not (root / path).is_symlink()
    tally, found = Tally(nowhere), {}
    for name in listed(root, path):
        relative = name[len(path) + 1 :] if is_directory else name.rpartition("/")[2]
        md5 = hashlib.md5(usedforsecurity=False)
        with opened(root, name) as descriptor, tally.file(relative, md5.update) as write:
            size = pour(descriptor, write)
        found[relative] = (md5.hexdigest(), tally.files[relative].removeprefix("sha256:"), size)
    return Hashed(found, is_directory)


def copied(root: Path, path: str, tally: Tally) -> dict[str, str]:
    """Put the file or directory `path` below `root` where the tally saves. Returns MD5 by path in the model."""
    full = root / path if path else root
    base = path if full.is_dir() else path.rpartition("/")[0]
    md5s = {}
    for name in listed(root, path):
        relative = name[len(base) + 1 :] if base else name
        md5 = hashlib.md5(usedforsecurity=False)
        with opened(root, name) as descriptor, tally.file(relative, md5.update) as write:
            pour(descriptor, write)
        md5s[relative] = md5.hexdigest()
    if not md5s:
        raise not_understood(str(root / path), "there is not one file in it")
    return md5s


def folder(path: Path, what: str, fix: str) -> Path:
    """The directory itself. Raises `Usage` LIN-SOURCE when there is none."""
    if not path.is_dir():
        raise Usage("LIN-SOURCE", f"{path} is not {what}", fix=fix)
    return path.resolve()


def _elsewhere(root: Path, path: str) -> Refused:
    return Refused(
        "LIN-PLACE",
        f"{path} in {root} is a link or no regular file, so its bytes may be anywhere",
        evidence={"path": path},
        fix="use a cache that copies (dvc config cache.type copy; dvc checkout --relink), then repeat",
    )
