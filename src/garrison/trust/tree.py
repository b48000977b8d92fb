"""Read a directory into a manifest: every path, every byte once, nothing followed out of it.

Rules it keeps: components are opened one by one without following links; a file is judged and hashed
from one descriptor; the listing is taken again at the end and has to be the same, so a directory that
changes while it is read is refused. What a manifest cannot say (links, devices, empty directories) is
refused rather than left out, because whatever is left out travels unsigned.

    manifest = read_tree(Path("./minilm"))
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from garrison.core.digest import FileEntry, Manifest
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.trust.paths import MAX_DEPTH, MAX_FILES, check_name, check_path, collision, folded

BLOCK_BYTES = 1 << 20  # one buffer a thread; larger ones fall out of the processor's cache
MAX_THREADS = 4  # hashing releases the interpreter lock; more than the disk feeds is of no use
PARALLEL_FROM_BYTES = 16 << 20  # below this a thread costs more than it saves
_EMPTY_DIGEST = "sha256:" + hashlib.sha256().hexdigest()


class Writer(Protocol):
    """Takes the bytes of one file while they are hashed. Either `commit` or `abort` is called, once."""

    def write(self, chunk: memoryview, /) -> object:
        """All of the chunk or an exception. The memory is reused after the call returns."""
        ...

    def commit(self, digest: str, /) -> object:
        """The file was read to its end and did not change meanwhile; `digest` is that of what was written."""
        ...

    def abort(self) -> None: ...


Sink = Callable[[str], Writer]  # a path inside the tree -> where its bytes go; called from several threads
Progress = Callable[[int, int], None]  # bytes read so far, bytes in all; calls never overlap


@dataclass(frozen=True, slots=True)
class _Seen:
    """A path and the identity of what stands there. Two listings are compared by value."""

    path: str
    device: int
    inode: int
    mode: int
    size: int
    modified: int
    changed: int

    @staticmethod
    def of(path: str, status: os.stat_result, allow_hard_links: bool) -> _Seen:
        return _Seen(
            path,
            status.st_dev,
            status.st_ino,
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
            # Another release that links the same object changes the object's ctime, and nothing else.
            0 if allow_hard_links else status.st_ctime_ns,
        )


def read_tree(
    root: Path | str,
    *,
    sink: Sink | None = None,
    progress: Progress | None = None,
    allow_hard_links: bool = False,
    list_empty: bool = False,
) -> Manifest:
    """Hash every file below `root` (or the one file that `root` names) in one pass and bounded memory.

    `sink(path)` gives a writer that receives the file's bytes as they are hashed. `allow_hard_links` is
    for a caller that owns the tree, such as the store whose files are links to its objects. Modes are
    recorded as 0644 or 0755: only whether a file is executable counts. With `list_empty` an empty
    directory is listed as `name/` and an empty tree is an empty manifest, so that a comparison with a
    signed manifest names them.

    Raises `Usage` ART-UNREADABLE when the root is not there, `Undecided` ART-UNREADABLE for what cannot
    be read below it, and `Refused` ART-LINK, ART-SPECIAL, ART-NAME-UNSAFE, ART-COLLISION, ART-CHANGED,
    ART-EMPTY or ART-TOO-MANY.
    """
    with _opened_root(root) as (descriptor, only):
        before = _listing(descriptor, only, allow_hard_links)
        files = [seen for seen in before if stat.S_ISREG(seen.mode)]
        empty = [seen.path for seen in before if stat.S_ISDIR(seen.mode)]
        if not list_empty and (empty or not files):
            raise _empty(empty)
        advance = _counted(progress, sum(seen.size for seen in files))
        entries = _hash_all(_Reading(descriptor, allow_hard_links, sink, advance, threading.Event()), files)
        if _listing(descriptor, only, allow_hard_links) != before:
            raise _changed("the directory")
    return Manifest.of(
        [*entries, *(FileEntry(f"{path}/", 0, 0o755, _EMPTY_DIGEST) for path in empty)],
    )


@contextlib.contextmanager
def _opened_root(root: Path | str) -> Iterator[tuple[int, str | None]]:
    """A descriptor of the directory, and the one name to read when `root` is a file."""
    path = Path(os.path.realpath(root))
    only = None if path.is_dir() else path.name
    if only is not None and not path.exists():
        raise Usage("ART-UNREADABLE", f"there is nothing at {root}", fix="check the path and its permissions")
    try:
        descriptor = os.open(
            path if only is None else path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
    except OSError as error:
        raise Usage(
            "ART-UNREADABLE",
            f"cannot open {root}: {error.strerror}",
            fix="check the path and its permissions",
        ) from error
    try:
        yield descriptor, only
    finally:
        os.close(descriptor)


def _listing(root: int, only: str | None, allow_hard_links: bool) -> list[_Seen]:
    """Every regular file and every empty directory, in the order of their paths."""
    if only is not None:
        status = os.stat(only, dir_fd=root, follow_symlinks=False)
        _check_kind(check_name(only), status, allow_hard_links)
        return [_Seen.of(only, status, allow_hard_links)]
    found: list[_Seen] = []
    _walk(root, "", 1, allow_hard_links, found)
    return sorted(found, key=lambda seen: seen.path)


def _walk(directory: int, prefix: str, depth: int, allow_hard_links: bool, found: list[_Seen]) -> None:
    if depth > MAX_DEPTH:
        raise Refused(
            "ART-NAME-UNSAFE",
            f"{ascii(prefix)[:300]} is nested deeper than {MAX_DEPTH} directories",
            fix="flatten the source directory, then repeat the command",
        )
    names: dict[str, str] = {}
    for name in _names(directory, prefix, len(found)):
        check_name(name, prefix.rstrip("/"))
        path = check_path(prefix + name)
        other = names.setdefault(folded(name), name)
        if other != name:
            raise collision(prefix + other, path)
        with _readable(path):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            _check_kind(path, status, allow_hard_links)
            found.append(_Seen.of(path, status, allow_hard_links))
            continue
        count = len(found)
        with _opened(name, directory, path, os.O_DIRECTORY) as inner:
            _walk(inner, f"{path}/", depth + 1, allow_hard_links, found)
        if len(found) == count:
            found.append(_Seen.of(path, status, allow_hard_links))


def _names(directory: int, prefix: str, so_far: int) -> list[str]:
    with _readable(prefix or "the directory"), os.scandir(directory) as entries:
        names = []
        for entry in entries:
            names.append(entry.name)
            if so_far + len(names) > MAX_FILES:
                raise Refused(
                    "ART-TOO-MANY",
                    f"the directory holds more than {MAX_FILES:,} files",
                    fix="pack small files into an archive format that the scanners know, or split the artifact",
                )
    return sorted(names)


def _check_kind(path: str, status: os.stat_result, allow_hard_links: bool) -> None:
    """Only regular files with one name; anything else could be changed or read from outside the tree."""
    if stat.S_ISLNK(status.st_mode) or (status.st_nlink > 1 and not allow_hard_links):
        kind = (
            "a symbolic link"
            if stat.S_ISLNK(status.st_mode)
            else f"a hard link (it has {status.st_nlink} names)"
        )
        raise Refused(
            "ART-LINK",
            f"{path} is {kind}, so its bytes could change from outside the directory",
            fix=f'replace it by a copy of the file: cp --remove-destination "$(realpath {path})" {path}'
            if stat.S_ISLNK(status.st_mode)
            else "copy the directory without links: cp -r --no-preserve=links SOURCE COPY",
            evidence={"path": path},
        )
    if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise Refused(
            "ART-SPECIAL",
            f"{path} is a device, socket, pipe or set-uid file, not plain data",
            fix="remove it from the directory, then repeat the command",
            evidence={"path": path},
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the threads of one reading share."""

    root: int
    allow_hard_links: bool
    sink: Sink | None
    advance: Callable[[int], None]
    stop: threading.Event

    def check(self, seen: _Seen, descriptor: int) -> None:
        """Raises ART-CHANGED unless the descriptor still is the file that was listed."""
        if _Seen.of(seen.path, os.fstat(descriptor), self.allow_hard_links) != seen:
            raise _changed(seen.path)


def _counted(progress: Progress | None, total: int) -> Callable[[int], None]:
    if progress is None:
        return lambda _count: None
    lock = threading.Lock()
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress(done, total)

    return advance


def _hash_all(reading: _Reading, files: list[_Seen]) -> list[FileEntry]:
    """All files, the largest first so that threads end together. The first failure stops the others."""
    ordered = sorted(files, key=lambda seen: -seen.size)
    threads = min(MAX_THREADS, len(os.sched_getaffinity(0)), len(files))
    local = threading.local()

    def hash_one(seen: _Seen) -> FileEntry:
        if not hasattr(local, "buffer"):
            local.buffer = memoryview(bytearray(BLOCK_BYTES))
        return _hash_file(reading, seen, local.buffer)

    if threads < 2 or sum(seen.size for seen in files) < PARALLEL_FROM_BYTES:
        return [hash_one(seen) for seen in ordered]
    with ThreadPoolExecutor(threads, thread_name_prefix="hash") as pool:
        futures = [pool.submit(hash_one, seen) for seen in ordered]
        try:
            finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
        except BaseException:
            reading.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _hash_file(reading: _Reading, seen: _Seen, buffer: memoryview) -> FileEntry:
    """Hash one file from one descriptor, and hand its bytes on. It has to be the file that was listed."""
    writer: Writer | None = None
    try:
        with _beneath(reading.root, seen.path) as descriptor:
            reading.check(seen, descriptor)
            writer = reading.sink(seen.path) if reading.sink is not None else None
            digest = _pour(reading, descriptor, seen, buffer, writer)
            reading.check(seen, descriptor)
        if writer is not None:
            writer.commit(digest)
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return FileEntry(seen.path, seen.size, 0o755 if seen.mode & 0o111 else 0o644, digest)


def _pour(reading: _Reading, descriptor: int, seen: _Seen, buffer: memoryview, writer: Writer | None) -> str:
    digest = hashlib.sha256()
    done = 0
    while not reading.stop.is_set():
        with _readable(seen.path):
            count = os.readv(descriptor, [buffer])
        if count == 0 or done + count > seen.size:
            done += count
            break
        chunk = buffer[:count]
        digest.update(chunk)
        if writer is not None:
            writer.write(chunk)
        reading.advance(count)
        done += count
    if done != seen.size:
        raise _changed(seen.path)
    return f"sha256:{digest.hexdigest()}"


@contextlib.contextmanager
def _beneath(root: int, path: str) -> Iterator[int]:
    """Open a file below `root`, one component at a time, following no link on the way."""
    directories, _, name = path.rpartition("/")
    with contextlib.ExitStack() as stack:
        directory = root
        for part in directories.split("/") if directories else ():
            directory = stack.enter_context(_opened(part, directory, path, os.O_DIRECTORY))
        yield stack.enter_context(_opened(name, directory, path, 0))


@contextlib.contextmanager
def _opened(name: str, directory: int, path: str, flags: int) -> Iterator[int]:
    # O_NONBLOCK: a pipe that took the file's place must not hang the open; it has no effect on files.
    flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with _readable(path):
        descriptor = os.open(name, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn what the system says about a path below the root into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.ENXIO):
            raise _changed(path) from error
        raise Undecided(
            "ART-UNREADABLE",
            f"cannot read {path}: {error.strerror}",
            fix="make it readable for this user, or read the disk's own log, then repeat the command",
            evidence={"path": path},
        ) from error


def _changed(path: str) -> Refused:
    return Refused(
        "ART-CHANGED",
        f"{path} changed while it was being read",
        fix="stop whatever writes there (a download, a training job), then repeat the command",
        evidence={"path": path},
    )


def _empty(directories: list[str]) -> GarrisonError:
    if not directories:
        return Refused(
            "ART-EMPTY", "there is not one file to read", fix="name the directory that holds the model"
        )
    return Refused(
        "ART-EMPTY",
        f"{directories[0]}/ is an empty directory, which no signature can cover",
        fix="remove empty directories from the source: find DIR -type d -empty -delete",
        evidence={"paths": [f"{path}/" for path in directories[:100]]},
    )
