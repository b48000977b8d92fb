"""Hash the files that were listed, on as many cores as help, each byte from a descriptor that was checked.

Three ways to a file's SHA-256, and only the first judges bytes that nobody has vouched for:

    plain    every byte in order, handed on to a writer if there is one
    tree     chunks in any order on all cores; their root is the one signed beside that SHA-256
    recall   a keyed hash in order; this machine computed the SHA-256 of these very bytes before

The last two fall back to the first when they do not fit, so that a difference is told in the usual terms.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol

from garrison.core.digest import FileEntry
from garrison.trust import chunks
from garrison.trust.chunks import CHUNK_BYTES, ChunkTree
from garrison.trust.hash_cache import Recall
from garrison.trust.tree_open import Seen, beneath, changed, check_same, readable

BLOCK_BYTES = 1 << 20  # one buffer a thread; larger ones fall out of the processor's cache
MAX_THREADS = 4  # hashing releases the interpreter lock; more than the disk feeds is of no use
PARALLEL_FROM_BYTES = 16 << 20  # below this a thread costs more than it saves


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
class Reading:
    """One reading of a tree, shared by its threads."""

    root: int
    allow_hard_links: bool
    sink: Sink | None
    progress: Progress | None
    total: int
    roots: dict[str, str] | None = None
    trees: Mapping[str, ChunkTree] = field(default_factory=dict)
    recall: Recall | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: list[int] = field(default_factory=lambda: [0])

    def advance(self, count: int) -> None:
        if self.progress is None:
            return
        with self._lock:
            self._done[0] = min(self._done[0] + count, self.total)  # a file may have to be read again
            self.progress(self._done[0], self.total)

    def tree_of(self, seen: Seen) -> ChunkTree | None:
        """The signed tree of a file that can be read by chunks."""
        tree = self.trees.get(seen.path)
        fits = tree is not None and tree.size == seen.size >= chunks.TREE_FROM_BYTES
        return tree if fits and self.sink is None else None

    def known_digest(self, seen: Seen) -> str | None:
        """The digest that the cache may recognise."""
        return self.recall.expected.get(seen.path) if self.recall is not None and self.sink is None else None


def hash_all(reading: Reading, files: list[Seen]) -> list[FileEntry]:
    """All files, the largest first so that threads end together. The first failure stops the others."""
    ordered = sorted(files, key=lambda seen: -seen.size)
    by_chunks = [seen for seen in ordered if reading.known_digest(seen) is None and reading.tree_of(seen)]
    whole = [seen for seen in ordered if seen not in by_chunks] if by_chunks else ordered
    local = threading.local()

    def buffered(read: Callable[[memoryview], bytes | FileEntry]) -> bytes | FileEntry:
        if not hasattr(local, "buffer"):
            local.buffer = memoryview(bytearray(BLOCK_BYTES))
        return read(local.buffer)

    jobs: list[Callable[[memoryview], bytes | FileEntry]] = [
        lambda buffer, seen=seen, at=at: _hash_chunk(reading, seen, at, buffer)  # type: ignore[misc]  # bound
        for seen in by_chunks
        for at in range(0, seen.size, CHUNK_BYTES)
    ]
    jobs += [lambda buffer, seen=seen: _hash_file(reading, seen, buffer) for seen in whole]  # type: ignore[misc]  # bound
    threads = min(MAX_THREADS, len(os.sched_getaffinity(0)), len(jobs))
    if threads < 2 or reading.total < PARALLEL_FROM_BYTES:
        results = [buffered(job) for job in jobs]
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="hash") as pool:
            results = _finished(reading, pool, [pool.submit(buffered, job) for job in jobs])
    entries = [result for result in results if isinstance(result, FileEntry)]
    leaves = iter([result for result in results if isinstance(result, bytes)])
    for seen in by_chunks:
        digests = [next(leaves) for _ in range(chunks.count(seen.size))]
        entries.append(_by_tree(reading, seen, digests) or _hash_file(reading, seen, _buffer()))
    return entries


def _finished(
    reading: Reading, pool: ThreadPoolExecutor, futures: list[Future[bytes | FileEntry]]
) -> list[bytes | FileEntry]:
    try:
        finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in finished:
            future.result()
    except BaseException:
        reading.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    return [future.result() for future in futures]


def _by_tree(reading: Reading, seen: Seen, leaves: list[bytes]) -> FileEntry | None:
    tree = reading.tree_of(seen)
    if tree is None or chunks.root(leaves) != tree.root:
        return None
    return _entry(seen, tree.digest)


def _hash_chunk(reading: Reading, seen: Seen, at: int, buffer: memoryview) -> bytes:
    digest, end = chunks.leaf(), min(at + CHUNK_BYTES, seen.size)
    with beneath(reading.root, seen.path) as descriptor:
        check_same(seen, descriptor, reading.allow_hard_links)
        while at < end and not reading.stop.is_set():
            with readable(seen.path):
                count = os.preadv(descriptor, [buffer[: end - at]], at)
            if count == 0:
                raise changed(seen.path)
            digest.update(buffer[:count])
            reading.advance(count)
            at += count
        check_same(seen, descriptor, reading.allow_hard_links)
    return digest.digest()


def _hash_file(reading: Reading, seen: Seen, buffer: memoryview) -> FileEntry:
    """Hash one file from one descriptor, and hand its bytes on. It has to be the file that was listed."""
    writer: Writer | None = None
    try:
        with beneath(reading.root, seen.path) as descriptor:
            check_same(seen, descriptor, reading.allow_hard_links)
            writer = reading.sink(seen.path) if reading.sink is not None else None
            digest = _recalled(reading, descriptor, seen, buffer)
            if digest is None:
                digest = _pour(reading, descriptor, seen, buffer, writer)
            check_same(seen, descriptor, reading.allow_hard_links)
        if writer is not None:
            writer.commit(digest)
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return _entry(seen, digest)


def _recalled(reading: Reading, descriptor: int, seen: Seen, buffer: memoryview) -> str | None:
    """The expected digest when the cache has it for these bytes; None leaves the descriptor at its start."""
    expected = reading.known_digest(seen)
    if expected is None or reading.recall is None:
        return None
    keyed = reading.recall.cache.hasher()
    _read(reading, descriptor, seen, buffer, keyed.update)
    if reading.recall.cache.knows(expected, keyed.digest()):
        return expected
    os.lseek(descriptor, 0, os.SEEK_SET)
    return None


def _pour(reading: Reading, descriptor: int, seen: Seen, buffer: memoryview, writer: Writer | None) -> str:
    """The plain SHA-256; with it, from the same bytes, what a signer or the cache wants to keep."""
    digest = hashlib.sha256()
    grown = chunks.Growing() if _wants_tree(reading, seen) else None
    keyed = reading.recall.cache.hasher() if reading.recall is not None and reading.sink is None else None
    also: list[Callable[[memoryview], object]] = []
    if writer is not None:
        also.append(writer.write)
    if grown is not None:
        also.append(grown.update)
    if keyed is not None:
        also.append(keyed.update)

    def take(chunk: memoryview) -> None:
        digest.update(chunk)
        for each in also:
            each(chunk)

    if not also or (grown is None and seen.size < PARALLEL_FROM_BYTES):
        _read(reading, descriptor, seen, buffer, take)
    else:
        with ThreadPoolExecutor(len(also), thread_name_prefix="beside") as helpers:

            def take_beside(chunk: memoryview) -> None:
                """Copying takes half as long as hashing, and neither waits for the other."""
                waiting = [helpers.submit(each, chunk) for each in also]
                try:
                    digest.update(chunk)
                finally:
                    wait(waiting)  # the buffer is used again
                for each in waiting:
                    each.result()

            _read(reading, descriptor, seen, buffer, take_beside)
    result = f"sha256:{digest.hexdigest()}"
    if grown is not None and reading.roots is not None:
        reading.roots[seen.path] = grown.root()
    if keyed is not None and reading.recall is not None:
        reading.recall.cache.remember(result, keyed.digest())
    return result


def _wants_tree(reading: Reading, seen: Seen) -> bool:
    return reading.roots is not None and chunks.is_worth_it(seen.size, reading.total)


def _read(
    reading: Reading, descriptor: int, seen: Seen, buffer: memoryview, take: Callable[[memoryview], object]
) -> None:
    """Every byte of the file in order, and exactly as many as it had when it was listed."""
    done = 0
    while not reading.stop.is_set():
        with readable(seen.path):
            count = os.readv(descriptor, [buffer])
        if count == 0 or done + count > seen.size:
            done += count
            break
        take(buffer[:count])
        reading.advance(count)
        done += count
    if done != seen.size:
        raise changed(seen.path)


def _entry(seen: Seen, digest: str) -> FileEntry:
    return FileEntry(seen.path, seen.size, 0o755 if seen.mode & 0o111 else 0o644, digest)


def _buffer() -> memoryview:
    return memoryview(bytearray(BLOCK_BYTES))
