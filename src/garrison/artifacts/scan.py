"""`scan_path`: every file below a path to one verdict. Nothing found in a file is run, loaded or written.

Files are walked and hashed here and parsed in a confined worker process (`worker_pool.py`); this process
never interprets their bytes. Three answers, never two: a file that cannot be read, understood or finished
in time is `incomplete`, with the reason.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from garrison.artifacts.scan_report import FileReport, ScanReport, resolve
from garrison.artifacts.worker_pool import Judged, Limits, Worker
from garrison.core.errors import Usage
from garrison.core.finding import Finding, Severity, Verdict, worst

RULESET = "garrison-scan-1"  # changes with every change that can change a verdict
CHUNK = 1 << 20
MAX_FILES = 200_000  # entries of one scan; the largest repositories have some thousands
MAX_DEPTH = 64

Progress = Callable[[str, int, int], None]  # path, files done, bytes done
_HARD_LINK_FIX = "copy the file, so that nobody can change it through another name"


def scan_path(
    paths: Sequence[Path | str],
    *,
    progress: Progress | None = None,
    allow_hard_links: bool = False,
    limits: Limits | None = None,
) -> ScanReport:
    """Scan files and directories. Links are reported and never followed.

    `allow_hard_links` is for trees whose links Garrison made itself (the object store's releases).
    Raises `Usage` SCAN-PATH when a path does not exist. Everything else is a finding.
    """
    roots = [_existing(Path(path)) for path in paths]
    files: list[FileReport] = []
    size = 0
    with closing(Worker(limits)) as worker:
        for root in roots:
            done = len(files)
            for found in _entries(root):
                if progress is not None:
                    progress(found.shown, len(files), size)
                files.append(_scan_found(found, worker, allow_hard_links=allow_hard_links))
                size += files[-1].size
            files[done:] = resolve(files[done:])
    return ScanReport(tuple(files))


def scan_source(sources: Iterable[tuple[str, BinaryIO]], *, progress: Progress | None = None) -> ScanReport:
    """Scan open files under given names, such as objects of the store. Each needs a `fileno()`."""
    files: list[FileReport] = []
    done = 0
    with closing(Worker()) as worker:
        for name, stream in sources:
            if progress is not None:
                progress(name, len(files), done)
            files.append(_scan_descriptor(name, stream.fileno(), worker))
            done += files[-1].size
    return ScanReport(tuple(resolve(files)))


@dataclass(frozen=True, slots=True)
class _Found:
    """One entry of the walk: opened relative to its directory, so no component can be swapped for a link."""

    path: Path
    shown: str
    problem: str = ""


def _existing(path: Path) -> Path:
    try:
        path.lstat()
    except (OSError, ValueError) as error:
        raise Usage(
            "SCAN-PATH",
            f"{str(path)!r} cannot be scanned: {getattr(error, 'strerror', None) or 'not a path'}",
            fix="name a file or a directory that exists and that you may read",
        ) from error
    return path


def _entries(root: Path) -> Iterator[_Found]:
    """Everything below one path; a path that is itself a link is an entry, not followed."""
    if not stat.S_ISDIR(root.lstat().st_mode):
        yield _Found(root, root.name)
        return
    count = 0
    for entry in _walk(root, root, 0):
        count += 1
        if count > MAX_FILES:
            yield _Found(entry.path, entry.shown, f"more than {MAX_FILES} files in one scan")
            return
        yield entry
    if not count:
        yield _Found(root, ".", "the directory holds no files")


def _walk(top: Path, directory: Path, depth: int) -> Iterator[_Found]:
    """Every entry that is not a directory, in a stable order; what cannot be listed is an entry too."""
    shown = _relative(top, directory)
    if depth > MAX_DEPTH:
        yield _Found(directory, shown, f"directories nested deeper than {MAX_DEPTH}")
        return
    try:
        with os.scandir(directory) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        yield _Found(directory, shown, f"the directory cannot be read: {error.strerror}")
        return
    for entry in entries:
        path = directory / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(top, path, depth + 1)
        else:
            yield _Found(path, _relative(top, path))


def _relative(top: Path, path: Path) -> str:
    text = path.relative_to(top).as_posix()
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _scan_found(found: _Found, worker: Worker, *, allow_hard_links: bool) -> FileReport:
    if found.problem:
        return _unread(found.shown, "artifact.unreadable", found.problem)
    try:
        mode = found.path.lstat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "a pipe, socket or device"
            message = f"{kind}, not a regular file; it was not followed or opened"
            finding = Finding(
                "artifact.file.special",
                Severity.HIGH,
                message,
                found.shown,
                "replace it with a copy of the file",
            )
            return FileReport(found.shown, "special", Verdict.REFUSED, "", 0, (finding,))
        descriptor = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return _unread(found.shown, "artifact.unreadable", f"the file cannot be read: {error.strerror}")
    try:
        return _scan_descriptor(found.shown, descriptor, worker, allow_hard_links=allow_hard_links)
    finally:
        os.close(descriptor)


def _scan_descriptor(
    name: str, descriptor: int, worker: Worker, *, allow_hard_links: bool = True
) -> FileReport:
    """Hash here while the worker parses the same descriptor."""
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        return _unread(name, "artifact.unreadable", "not a regular file")
    worker.send(name, descriptor, before.st_size)
    try:
        digest = _hash(descriptor)
    except OSError as error:
        worker.receive()
        return _unread(name, "artifact.unreadable", f"the file cannot be read: {error.strerror}")
    judged = worker.receive()
    after = os.fstat(descriptor)
    extra: list[Finding] = []
    verdict = judged.verdict
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        extra.append(
            _finding("artifact.file.changed", "the file changed while it was scanned", name, "scan it again")
        )
        verdict = worst((verdict, Verdict.INCOMPLETE))
    if before.st_nlink > 1 and not allow_hard_links:
        message = f"a hard link: the file has {before.st_nlink} names"
        extra.append(Finding("artifact.file.hard_link", Severity.MEDIUM, message, name, _HARD_LINK_FIX))
        verdict = Verdict.REFUSED
    findings = (*_named(judged, name), *extra)
    references = tuple(judged.references.items())
    return FileReport(name, judged.format, verdict, digest, before.st_size, findings, references)


def _named(judged: Judged, name: str) -> Iterator[Finding]:
    """Findings with `where` as `file`, `file!member` or `file:place`."""
    for finding in judged.findings:
        yield Finding(finding.rule_id, finding.severity, finding.message, finding.where or name, finding.fix)


def _hash(descriptor: int) -> str:
    digest = hashlib.sha256()
    offset = 0
    while data := os.pread(descriptor, CHUNK, offset):
        digest.update(data)
        offset += len(data)
    return digest.hexdigest()


def _unread(path: str, rule_id: str, message: str) -> FileReport:
    finding = _finding(rule_id, message, path, "make it readable, or leave it out of the artifact")
    return FileReport(path, "unknown", Verdict.INCOMPLETE, "", 0, (finding,))


def _finding(rule_id: str, message: str, where: str, fix: str) -> Finding:
    return Finding(rule_id, Severity.LOW, message, where, fix)
