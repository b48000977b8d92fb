"""The parent's side of the scanning workers: start them, hand them descriptors, end those that hang."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from garrison.artifacts.worker_process import PLAIN_FILES, Process, begin
from garrison.confine.scratch import scratch
from garrison.core.finding import Finding, Severity, Verdict

SECONDS = 30.0  # wall clock for one file, plus what follows
BYTES_PER_SECOND = 20 << 20  # the slowest thing done to every byte is unpacking; xz does 40 MB/s
START_SECONDS = 30.0
MAX_ANSWER = 4 << 20  # 200 findings and 2,000 facts of bounded length
MAX_KEPT = 16 << 20  # what a worker may hand back of one file for the feature index
MAX_JOBS = 64
MAX_REASON = 4_096  # of what a worker that does not start writes before it ends
MAX_WORDS = 200
MAX_MISSING = 16  # lines of what the kernel could not take away; there are three steps
AHEAD = 8  # files that each worker may be ahead of the oldest unfinished one

_FIX_HOSTILE = "treat the file as hostile; if you made it yourself, split it into smaller files"
_FIX_START = "pip install --force-reinstall garrison    then scan again; nothing was looked at"

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """Wall clock for one file: `seconds`, plus its size at `bytes_per_second`."""

    seconds: float = SECONDS
    bytes_per_second: float = BYTES_PER_SECOND


@dataclass(frozen=True, slots=True)
class Judged:
    """A worker's answer. `is_stale`: the rules of now need bytes that were not kept; nothing else is said.

    `gaps` are the rules whose findings of severity `low` make the file incomplete; `kept` is for the
    feature index, empty when nothing was asked for or there was too much.
    """

    format: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    references: dict[str, int]
    facts: tuple[tuple[str, str], ...] = ()
    gaps: frozenset[str] = frozenset()
    kept: bytes = b""
    is_stale: bool = False


class Worker:
    """One confined process, reused for every file; replaced after a file that killed it.

    `send` then `receive`, in turn, so that the caller can hash the file in between. `missing` is what this
    kernel could not take away from it. Without `templates` it starts faster, and once more when there is one;
    `fork` asks for the fastest start (`worker_process.py` says who may).
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        keep: bool = False,
        templates: bool = True,
        program: str = PLAIN_FILES,
        fork: bool = False,
    ) -> None:
        self._limits = limits or Limits()
        self._program = program
        self._keep = keep
        self._fork = fork
        self._process: Process | None = None
        self._channel: socket.socket | None = None
        self._said: int | None = None
        self._scratch = ExitStack()
        self._allowed = self._deadline = 0.0
        self._kept: int | None = None
        self._reason = ""
        self._rest = b""
        self._sent: tuple[dict[str, str], list[int], int] | None = None
        self._templates = templates
        self.missing: tuple[str, ...] = ()

    def send(self, name: str, descriptor: int, size: int, unseal: Mapping[str, str] | None = None) -> None:
        """Start judging an open file. `unseal` is what `SEALED_FILES` needs to read it, and no other program."""
        if not self._keep:
            self._send({"name": name, "task": "judge", **(unseal or {})}, [descriptor], size)
            return
        self._kept = os.memfd_create("kept", os.MFD_CLOEXEC)
        self._send({"name": name, "task": "keep"}, [descriptor, self._kept], size)

    def receive(self) -> Judged:
        """The verdict of the file sent last; `incomplete` when the worker died or ran out of time."""
        try:
            return self._receive()
        finally:
            if self._kept is not None:
                os.close(self._kept)
                self._kept = None

    def again(self, kept: bytes) -> Judged:
        """Judge what was kept of a file with the rules of now."""
        descriptor = os.memfd_create("kept", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as stream:
                stream.write(kept)
            self._send({"name": "", "task": "again"}, [descriptor], len(kept))
            return self._receive()
        finally:
            os.close(descriptor)

    def start(self) -> None:
        """Let the process begin, unless it has; what it says about its start is read with its first answer."""
        if self._process is not None and self._process.poll() is None:
            return
        self._stop()
        try:
            self._begin()
        except OSError as error:
            self._reason = f"the process that reads files did not start: {error.strerror}"
            self._stop()

    def close(self) -> None:
        self._stop()

    def _send(self, request: dict[str, str], descriptors: list[int], size: int) -> None:
        self.start()
        self._sent = (request, descriptors, size)
        self._allowed = self._limits.seconds + size / self._limits.bytes_per_second
        self._deadline = time.monotonic() + self._allowed
        if self._channel is None:
            return
        try:
            socket.send_fds(self._channel, [json.dumps(request).encode()], descriptors)
        except OSError:  # it is gone, and the answer that does not come will say so
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)

    def _receive(self) -> Judged:
        try:
            if self._said is not None:
                self._ready(self._said)
            line = self._line(self._deadline)
        except TimeoutError:
            self._stop()
            return lost("artifact.limit.time", "scanning took longer than its time limit")
        except OSError:
            self._stop()
            if self._reason:
                return lost("artifact.scanner.start", self._reason, _FIX_START)
            return lost("artifact.limit.resources", "scanning ended at its limit of memory or processor time")
        try:
            answer = json.loads(line)
            if self._sent is not None and not self._templates and answer.get("later"):
                self._templates = True
                self._stop()
                self._send(*self._sent)
                return self._receive()
            return _judged(answer, self._read_kept())
        except (
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ):  # a worker that was taken over may say anything
            self._stop()
            return lost("artifact.limit.resources", "scanning ended with an answer that is not one")

    def _read_kept(self) -> bytes:
        if self._kept is None:
            return b""
        size = os.fstat(self._kept).st_size
        return os.pread(self._kept, size, 0) if size <= MAX_KEPT else b""

    def _begin(self) -> None:
        self._channel, theirs = socket.socketpair()
        self._rest, self._reason = b"", ""
        with theirs:
            self._said = os.memfd_create("stderr", os.MFD_CLOEXEC)
            place = self._scratch.enter_context(scratch("scan"))  # all that the worker may write to
            mode = "templates" if self._templates else "plain"
            self._process = begin(
                *(theirs.fileno(), self._said, str(place), mode), program=self._program, fork=self._fork
            )

    def _ready(self, said: int) -> None:
        """Wait until the worker is confined: its first line. From then on counts the time for its first file."""
        try:
            self.missing = _missing(self._line(time.monotonic() + START_SECONDS))
        except (OSError, ValueError) as error:
            self._reason = f"the process that reads files did not start{_last_words(said)}"
            raise ConnectionError(self._reason) from error
        self._said = None
        os.close(said)
        self._deadline = time.monotonic() + self._allowed

    def _line(self, deadline: float) -> bytes:
        if self._channel is None:
            raise ConnectionError("no worker")
        data, self._rest = self._rest, b""
        while b"\n" not in data:
            left = deadline - time.monotonic()
            if left <= 0 or len(data) > MAX_ANSWER:
                raise TimeoutError
            self._channel.settimeout(left)
            piece = self._channel.recv(65_536)
            if not piece:
                raise ConnectionError("the worker is gone")
            data += piece
        line, _, self._rest = data.partition(b"\n")
        return line

    def _stop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._said is not None:
            os.close(self._said)
            self._said = None
        self._scratch.close()


class Pool:
    """Up to `jobs` workers. A file that kills one costs that file alone."""

    def __init__(
        self,
        jobs: int = 1,
        limits: Limits | None = None,
        *,
        keep: bool = False,
        templates: bool = True,
        program: str = PLAIN_FILES,
        fork: bool = False,
    ) -> None:
        self.jobs = max(1, min(jobs, MAX_JOBS))
        self._workers = [
            Worker(limits, keep=keep, templates=templates, program=program, fork=fork)
            for _ in range(self.jobs)
        ]

    def each(self, items: Iterable[Item], work: Callable[[Item, Worker], Result]) -> Iterator[Result]:
        """`work` on every item, in their order; up to `jobs` at a time, each with a worker of its own."""
        if self.jobs == 1:
            for item in items:
                yield work(item, self._workers[0])
            return
        for worker in self._workers:
            worker.start()  # now: with the first thread, forking is over
        yield from _in_threads(items, work, self._workers)

    def close(self) -> None:
        for worker in self._workers:
            worker.close()

    @property
    def missing(self) -> tuple[str, ...]:
        """What this kernel could not take away from the workers that ran."""
        return tuple(dict.fromkeys(line for worker in self._workers for line in worker.missing))


def _in_threads(
    items: Iterable[Item], work: Callable[[Item, Worker], Result], workers: Sequence[Worker]
) -> Iterator[Result]:
    import queue  # with the next one, 5 ms that a scan of one file at a time does not need
    from concurrent.futures import Future, ThreadPoolExecutor  # as above

    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def one(item: Item) -> Result:
        worker = idle.get()
        try:
            return work(item, worker)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(len(workers), "scan") as threads:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(threads.submit(one, item))
                if len(pending) >= len(workers) * AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for left in pending:
                left.cancel()


def _missing(line: bytes) -> tuple[str, ...]:
    """The worker's first line: a list of texts. Raises ValueError."""
    found = json.loads(line)
    if not isinstance(found, list) or len(found) > MAX_MISSING:
        raise ValueError("not a list")
    return tuple(_printable(str(each)) for each in found)


def _last_words(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, MAX_REASON, max(0, size - MAX_REASON)).decode("utf-8", "replace").strip()
    return f": {_printable(text.splitlines()[-1])}" if text else ""


def _printable(text: str) -> str:
    return text[:MAX_WORDS].encode("unicode_escape").decode("ascii")


def lost(rule_id: str, message: str, fix: str = _FIX_HOSTILE) -> Judged:
    findings = (Finding(rule_id, Severity.LOW, message, "", fix),)
    return Judged("unknown", Verdict.INCOMPLETE, findings, {}, gaps=frozenset({rule_id}))


def _judged(answer: dict[str, Any], kept: bytes) -> Judged:
    if answer.get("stale"):
        return Judged("unknown", Verdict.INCOMPLETE, (), {}, is_stale=True)
    findings = tuple(
        Finding(row["rule_id"], Severity(row["severity"]), row["message"], row["where"], row["fix"])
        for row in answer["findings"]
    )
    facts = tuple((kind, value) for kind, value in answer["facts"])
    return Judged(
        answer["format"],
        Verdict(answer["verdict"]),
        findings,
        answer["references"],
        facts,
        frozenset(answer["gaps"]),
        kept,
    )
