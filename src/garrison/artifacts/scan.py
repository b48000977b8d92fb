"""`scan_path`: every file below a path to one verdict. Nothing found in a file is run, loaded or written.

Files are walked and hashed here and parsed in confined worker processes (`worker_pool.py`); this process
never interprets their bytes. Three answers, never two: a file that cannot be read, understood or finished
in time is `incomplete`, with the reason.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, BinaryIO

from garrison.artifacts.scan_report import FileReport, ScanReport, resolve
from garrison.artifacts.scan_s3 import SCHEME, objects
from garrison.artifacts.scan_walk import Entry, cached, entries, existing
from garrison.artifacts.worker_pool import Judged, Limits, Pool, Worker
from garrison.artifacts.worker_process import PLAIN_FILES, SEALED_FILES
from garrison.core.errors import Undecided
from garrison.core.finding import Finding, Severity, Verdict, worst

RULESET = "garrison-scan-4"  # changes with every change that can change a verdict
CHUNK = 1 << 20
MAX_STREAM = 64 << 30  # bytes of standard input that are put into an unnamed temporary file
FILES_A_JOB = 24  # another worker costs 0.1 s of processor time; fewer files do not pay for it
BYTES_A_JOB = 32 << 20
_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pkl", ".joblib", ".npy", ".npz", ".onnx")
CACHE = "hf-cache:"
_HARD_LINK_FIX = "copy the file, so that nobody can change it through another name"


@dataclass(frozen=True, slots=True)
class Step:
    """How far a scan is: the file just finished, files and bytes done, and of how many."""

    path: str
    files: int
    size: int
    all_files: int
    all_size: int


@dataclass(frozen=True, slots=True)
class Options:
    """How to scan. `allow_hard_links` is for trees whose links Garrison made itself (its releases).

    `hash_files`: without it `sha256` stays empty; suppressions, which name a digest, then match nothing.
    `keep`: have the workers hand back what the feature index stores. `fork`: this process is a command that
    scans, has one thread and holds no secret, so that its workers may be forks of it (`worker_process.py`).
    """

    jobs: int = 1
    allow_hard_links: bool = False
    hash_files: bool = True
    keep: bool = False
    fork: bool = False
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Something to judge that is no path: how to open it (it needs a `fileno()`), and what its owner answers for.

    `known`: the SHA-256 of the open file with this status, as 64 hex digits, so that it is not taken again, or
    empty. `unseal`: what a worker needs to read it; `size` is that of the plaintext.
    """

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]
    size: int
    known: Callable[[os.stat_result], str] | None = None
    unseal: Mapping[str, str] | None = None


Progress = Callable[[Step], None]
_DEFAULT = Options()


def scan_path(
    paths: Sequence[Path | str],
    *,
    progress: Progress | None = None,
    options: Options = _DEFAULT,
    environment: Mapping[str, str] | None = None,
) -> ScanReport:
    """Scan files and directories. Links are reported and never followed.

    A path `hf-cache:ORG/NAME` is a model in the Hugging Face cache that `environment` points to;
    `s3://BUCKET/PREFIX` is one in a bucket (with the extra `aws`).
    Raises `Usage` SCAN-PATH when a path does not exist. Everything else is a finding.
    """
    groups = [list(_group(path, environment or {})) for path in paths]
    found = [entry for group in groups for entry in group]
    sizes = [entry.size if entry.opener else _size(entry.path) for entry in found]
    jobs = _jobs(options, len(found), sum(sizes))
    files: list[FileReport] = []
    size = 0
    templates = any(_may_hold_templates(entry.shown) for entry in found)
    pool = Pool(jobs, options.limits, keep=options.keep, templates=templates, fork=options.fork)
    with closing(pool):
        for file in pool.each(found, lambda entry, worker: _scan_entry(entry, worker, options)):
            files.append(file)
            size += sizes[len(files) - 1]
            if progress is not None:
                progress(Step(file.path, len(files), size, len(found), sum(sizes)))
    judged: list[FileReport] = []
    for group in groups:
        start = len(judged)
        judged += resolve(files[start : start + len(group)])
    return ScanReport(tuple(judged), RULESET, unconfined=pool.missing)


def scan_held(sources: Iterable[Held], *, options: Options = _DEFAULT) -> ScanReport:
    """Scan open files under given names, such as objects of the store: one directory, judged together."""
    held = list(sources)
    program = SEALED_FILES if any(each.unseal for each in held) else PLAIN_FILES
    templates = any(_may_hold_templates(each.name) for each in held)
    jobs = _jobs(options, len(held), sum(each.size for each in held if each.known is None))
    pool = Pool(
        *(jobs, options.limits), keep=options.keep, templates=templates, program=program, fork=options.fork
    )
    with closing(pool):
        files = list(pool.each(held, lambda each, worker: _scan_held(each, worker, options)))
    return ScanReport(tuple(resolve(files)), RULESET, unconfined=pool.missing)


def scan_stream(stream: BinaryIO, name: str = "stdin", *, options: Options = _DEFAULT) -> ScanReport:
    """Scan what a pipe brings, a tar or any file, as one file; its members are reported inside it.

    Raises `Undecided` SCAN-STREAM when it brings nothing, or more than `MAX_STREAM`.
    """
    with TemporaryFile(prefix="garrison-scan-") as spool:
        size = _spooled(stream, spool)
        if not size or size > MAX_STREAM:
            raise Undecided(
                "SCAN-STREAM",
                "standard input brought nothing"
                if not size
                else f"standard input brought more than {MAX_STREAM} bytes",
                fix="tar -c DIR | garrison scan -    or scan the directory itself",
            )
        return scan_held([Held(name, lambda: nullcontext(spool), size)], options=options)


def _jobs(options: Options, files: int, size: int) -> int:
    return min(options.jobs, 1 + max(files // FILES_A_JOB, size // BYTES_A_JOB), files)


def _group(path: Path | str, environment: Mapping[str, str]) -> Iterator[Entry]:
    if str(path).startswith(SCHEME):
        return objects(str(path), environment)
    if str(path).startswith(CACHE):
        return cached(str(path).removeprefix(CACHE), environment)
    return entries(existing(Path(path)))


def _may_hold_templates(name: str) -> bool:
    """A guess that decides about speed alone: a worker that meets a template unprepared is started again."""
    return not name.endswith(_WEIGHTS)


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _scan_entry(entry: Entry, worker: Worker, options: Options) -> FileReport:
    if entry.problem:
        return _unread(entry.shown, entry.problem)
    if entry.opener is not None:
        return _scan_remote(entry.shown, entry.opener, worker, options)
    try:
        mode = entry.path.lstat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "a pipe, socket or device"
            message = f"{kind}, not a regular file; it was not followed or opened"
            finding = Finding(
                "artifact.file.special",
                Severity.HIGH,
                message,
                entry.shown,
                "replace it with a copy of the file",
            )
            return FileReport(entry.shown, "special", Verdict.REFUSED, "", 0, (finding,))
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return _unread(entry.shown, f"the file cannot be read: {error.strerror}")
    try:
        return _scan_descriptor(entry.shown, descriptor, worker, options, entry.expected, is_own=False)
    finally:
        os.close(descriptor)


def _scan_remote(name: str, opener: Callable[[], BinaryIO], worker: Worker, options: Options) -> FileReport:
    with TemporaryFile(prefix="garrison-scan-") as spool:
        try:
            with opener() as stream:
                size = _spooled(stream, spool)
        except FileNotFoundError:
            return _unread(name, "it is no longer there")
        except OSError as error:
            return _unread(name, f"it cannot be read: {error.strerror or error}")
        if size > MAX_STREAM:
            return _unread(name, f"it is larger than {MAX_STREAM} bytes")
        return _scan_descriptor(name, spool.fileno(), worker, options)


def _scan_held(held: Held, worker: Worker, options: Options) -> FileReport:
    try:
        with held.open() as file:
            return _scan_descriptor(held.name, file.fileno(), worker, options, held=held)
    except OSError as error:
        return _unread(held.name, f"the file cannot be read: {error.strerror}")


def _spooled(stream: BinaryIO, spool: IO[bytes]) -> int:
    """How many bytes came; reading ends when there were more than `MAX_STREAM`."""
    size = 0
    while size <= MAX_STREAM and (data := stream.read(CHUNK)):
        size += len(data)
        spool.write(data)
    spool.flush()
    return size


def _scan_descriptor(
    name: str,
    descriptor: int,
    worker: Worker,
    options: Options,
    expected: str = "",
    *,
    is_own: bool = True,
    held: Held | None = None,
) -> FileReport:
    """Hash here while the worker parses the same descriptor. `is_own`: the caller opened it and answers for links."""
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        return _unread(name, "not a regular file")
    size = held.size if held and held.unseal else before.st_size
    worker.send(name, descriptor, size, held.unseal if held else None)
    try:
        known = held.known(before) if held and held.known else ""
        digest = known or (_hash(descriptor) if options.hash_files else "")
    except OSError as error:
        worker.receive()
        return _unread(name, f"the file cannot be read: {error.strerror}")
    judged = worker.receive()
    after = os.fstat(descriptor)
    if known and before.st_ctime_ns != after.st_ctime_ns:  # somebody wrote, or only gave it another name
        digest = _hash(descriptor) if held and not held.unseal else ""
    extra: list[Finding] = []
    gaps = set(judged.gaps)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        gaps.add("artifact.file.changed")
        message = "the file changed while it was scanned"
        extra.append(Finding("artifact.file.changed", Severity.LOW, message, name, "scan it again"))
    if before.st_nlink > 1 and not options.allow_hard_links and not is_own:
        message = f"a hard link: the file has {before.st_nlink} names"
        extra.append(Finding("artifact.file.hard_link", Severity.MEDIUM, message, name, _HARD_LINK_FIX))
    if expected and digest and digest != expected:
        message = f"the cache calls it {expected[:12]}, its content is {digest[:12]}"
        fix = "delete it from the cache and download it again"
        extra.append(Finding("artifact.cache.digest", Severity.HIGH, message, name, fix))
    added = [Verdict.INCOMPLETE if each.severity is Severity.LOW else Verdict.REFUSED for each in extra]
    return FileReport(
        name,
        judged.format,
        worst((judged.verdict, *added)),
        digest,
        size,
        (*_named(judged, name), *extra),
        tuple(judged.references.items()),
        frozenset(gaps),
        judged.facts,
        judged.kept,
    )


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


def _unread(path: str, message: str) -> FileReport:
    fix = "make it readable, or leave it out of the artifact"
    finding = Finding("artifact.unreadable", Severity.LOW, message, path, fix)
    return FileReport(
        path, "unknown", Verdict.INCOMPLETE, "", 0, (finding,), gaps=frozenset({finding.rule_id})
    )
