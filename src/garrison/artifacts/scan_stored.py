"""Judge what publishing has just put into the store: the stored bytes, not the source, and each byte hashed once.

plain      the object's own file, by the digest under which it was written, as long as it is that file and
           nobody wrote to it since (`Stamp`); anything else is hashed again, and the caller compares
sealed     the sealed file; the worker decrypts what its scanners read. The key opens what was sealed under
           that digest and nothing else, so there is nothing to hash
elsewhere  the source, hashed again: the caller refuses it when it is not what was stored
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from garrison.artifacts.scan import Held, Options, scan_held, scan_path
from garrison.artifacts.scan_report import ScanReport
from garrison.core.digest import FileEntry, Manifest
from garrison.storage.local import LocalObjects, Stamp
from garrison.storage.objects import Incoming, ObjectStore
from garrison.storage.spooled import SpooledObjects

MAX_JOBS = 4  # as many as hash at a time


class Noting:
    """A writer that notes which file its bytes became."""

    def __init__(self, writer: Incoming, path: str, stamps: dict[str, Stamp]) -> None:
        self.write = writer.write
        self.abort = writer.abort
        self._commit = writer.commit
        self._path = path
        self._stamps = stamps

    def commit(self, digest: str, /) -> None:
        stamp = self._commit(digest)
        if isinstance(stamp, Stamp):
            self._stamps[self._path] = stamp


def noting(objects: ObjectStore, stamps: dict[str, Stamp]) -> Callable[[str], Noting]:
    """A sink for `read_tree` that fills `stamps`, by path."""
    return lambda path: Noting(objects.incoming_object(path), path, stamps)


def settled(tree: Path, stamps: Mapping[str, Stamp]) -> dict[str, Stamp]:
    """The stamps of files that were laid out just now and are still as they were written."""
    found = {path: Stamp.of((tree / path).lstat()) for path in stamps}
    return {path: stamp for path, stamp in found.items() if replace(stamp, changed=0) == stamps[path]}


def scan_stored(
    objects: ObjectStore, manifest: Manifest, tree: Path, stamps: Mapping[str, Stamp]
) -> ScanReport:
    """`tree` is where the files were laid out, or the source for a store that lays out none."""
    options = Options(jobs=min(MAX_JOBS, len(os.sched_getaffinity(0))), allow_hard_links=True)
    if isinstance(objects, LocalObjects):
        held = [_laid_out(tree / entry.path, entry, stamps.get(entry.path)) for entry in manifest]
        return scan_held(held, options=options)
    if isinstance(objects, SpooledObjects) and objects.has_sealed_files:
        return scan_held([_sealed(objects, entry) for entry in manifest], options=options)
    return scan_path([tree], options=options)


def _laid_out(path: Path, entry: FileEntry, stamp: Stamp | None) -> Held:
    """Its digest is known when the file that was opened is the one that was written, as it was written."""
    digest = entry.digest.removeprefix("sha256:")

    def known(status: os.stat_result) -> str:
        return digest if Stamp.of(status) == stamp else ""

    @contextmanager
    def opened() -> Iterator[BinaryIO]:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
            yield file

    return Held(entry.path, opened, entry.size, known if stamp else None)


def _sealed(objects: SpooledObjects, entry: FileEntry) -> Held:
    sealed = objects.sealed_file(entry.digest)
    unseal = {"key": sealed.key.hex(), "header": sealed.header.hex(), "size": str(sealed.size)}
    digest = entry.digest.removeprefix("sha256:")
    return Held(entry.path, sealed.open, entry.size, lambda _: digest, unseal)
