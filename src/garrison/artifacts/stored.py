"""The files of a version as the store gives them, for stores whose objects are not plain files on this disk.

What reads a directory with `trust.tree.read_tree` reads this with the same sink and the same result, so
that verifying and loading are one piece of code. No plain byte touches a disk here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock

from garrison.core.digest import FileEntry, Manifest
from garrison.core.errors import Refused
from garrison.storage.objects import READ_BYTES, ObjectStore
from garrison.trust import chunks
from garrison.trust.tree import Progress, Sink

MAX_THREADS = 4


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The signed entries of a version, and where their bytes are."""

    objects: ObjectStore
    manifest: Manifest

    @property
    def size(self) -> int:
        return self.manifest.size

    def read(
        self,
        sink: Sink | None = None,
        progress: Progress | None = None,
        roots: dict[str, str] | None = None,
    ) -> Manifest:
        """Hash every file, handing its bytes to `sink`; `roots` is filled as by `read_tree`.

        Raises `Refused` ART-TAMPER naming a file whose object was changed, OBJ-MISSING one that is gone, and
        what the store raises when it does not answer.
        """
        lock, done = Lock(), 0

        def advance(count: int) -> None:
            nonlocal done
            with lock:
                done += count
                if progress is not None:
                    progress(done, self.size)

        entries = sorted(self.manifest, key=lambda entry: -entry.size)
        threads = min(MAX_THREADS, len(os.sched_getaffinity(0)))
        with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
            reading = [pool.submit(self._read, entry, sink, advance, roots) for entry in entries]
            try:
                return Manifest.of(future.result() for future in reading)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _read(
        self,
        entry: FileEntry,
        sink: Sink | None,
        advance: Callable[[int], None],
        roots: dict[str, str] | None,
    ) -> FileEntry:
        writer = sink(entry.path) if sink is not None else None
        is_wanted = roots is not None and chunks.is_worth_it(entry.size, self.size)
        grown = chunks.Growing() if is_wanted else None
        hasher, size = hashlib.sha256(), 0
        try:
            with self.objects.open(entry.digest) as stream:
                while chunk := stream.read(READ_BYTES):
                    size += len(chunk)
                    if size > entry.size:
                        break
                    hasher.update(chunk)
                    if grown is not None:
                        grown.update(memoryview(chunk))
                    if writer is not None:
                        writer.write(memoryview(chunk))
                    advance(len(chunk))
            digest = "sha256:" + hasher.hexdigest()
            if grown is not None and roots is not None:
                roots[entry.path] = grown.root()
            if writer is not None:
                writer.commit(digest)
        except BaseException as error:
            if writer is not None:
                writer.abort()
            if isinstance(error, Refused) and error.code in ("OBJ-DAMAGED", "OBJ-MISSING"):
                raise named(error, entry) from error
            raise
        return replace(entry, size=size, digest=digest)


def named(error: Refused, entry: FileEntry) -> Refused:
    code = "ART-TAMPER" if error.code == "OBJ-DAMAGED" else error.code
    return Refused(
        code,
        f"{entry.path}: {error.what}",
        evidence={**error.evidence, "paths": [entry.path], "expected": entry.digest},
        fix=error.fix,
    )
