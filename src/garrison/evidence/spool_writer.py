"""The gateway worker's side of the audit spool: one line per begun and per ended request.

Standard library only, because it runs on the request path. A line is on its way to the ledger when
`write`, `begin` or `end` returns: it is in the kernel, and survives a kill of the worker (not a power cut).
The control process folds the lines into the ledger (`spool.py`) and removes files it has folded.

    <worker>.<segment>.jsonl    the worker holds a lock (flock) on its newest segment while it lives
    {"k":"b","id":...,"t":...,"actor":...,"resource":...}      admitted
    {"k":"e","id":...,"event":{...Event.as_json()...}}         ended, exactly one event
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from garrison.core.errors import Undecided

SEGMENT_BYTES = 16 << 20  # a new file after this; small enough to be removed soon after it is folded
MAX_SEGMENTS = 4  # files waiting: at 64 MiB (~100 000 requests) the ledger is clearly not keeping up
ENDED = b'{"k":"e"'  # how the line of an ended request begins
MAX_LINE = 65_536  # one record; the writer of a larger one has a defect
_WORKER = re.compile(r"[a-z0-9][a-z0-9-]{0,40}\Z")


def _dumps(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=True).encode()


class SpoolWriter:
    """One per worker process. Not thread-safe: the worker's event loop is its only caller.

    `dumps` may be a faster encoder (orjson.dumps). Raises `Undecided` AUD-BACKLOG or DISK-FULL.
    """

    def __init__(
        self,
        directory: Path,
        worker: str,
        *,
        dumps: Callable[[Any], bytes] = _dumps,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        if not _WORKER.match(worker):
            raise ValueError(f"{worker!r} is not a worker name: lower-case letters, digits and dashes")
        self._directory = directory
        # Unique for ever: a name that came back would be taken for one whose lines are folded already.
        self.name = f"{worker}-{os.getpid()}-{secrets.token_hex(4)}"
        self._dumps = dumps
        self._segment_bytes = segment_bytes
        self._segment = 0
        self._size = 0
        self._file = -1
        self._rotate()

    def begin(self, request_id: str, time: str, actor: str, resource: str) -> None:
        """Record an admitted request before it is sent on. Refuses when too much waits to be folded."""
        self.write(self.begun(request_id, time, actor, resource))

    def end(self, request_id: str, event: Mapping[str, Any]) -> None:
        """Record how an admitted (or refused) request ended. Has room beyond the limit of `begin`."""
        self.write(self.ended(request_id, event))

    def begun(self, request_id: str, time: str, actor: str, resource: str) -> bytes:
        """The line of an admitted request, for `write`. Refuses when too much waits to be folded."""
        if self._size >= self._segment_bytes:
            if len(self._own_segments()) >= MAX_SEGMENTS:
                raise _backlog(f"{MAX_SEGMENTS} files of {self._segment_bytes} bytes wait to be folded")
            self._rotate()
        return self._line(
            {"k": "b", "id": request_id, "t": time, "actor": actor[:1024], "resource": resource[:1024]}
        )

    def ended(self, request_id: str, event: Mapping[str, Any]) -> bytes:
        """The line of an ended request, for `write`."""
        if self._size >= 2 * self._segment_bytes:
            if len(self._own_segments()) >= 2 * MAX_SEGMENTS:
                raise _backlog("the reserve for ended requests is used up")
            self._rotate()
        return self._line({"k": "e", "id": request_id, "event": event})

    def close(self) -> None:
        """Give up the lock: the reader drains the file and removes it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _own_segments(self) -> list[str]:
        return [
            name
            for name in os.listdir(self._directory)
            if name.startswith(f"{self.name}.") and name.endswith(".jsonl")
        ]

    def _rotate(self) -> None:
        """Open and lock the next segment under a hidden name, then show it, then let go of the last one.

        In this order a reader that sees no lock and no newer file knows that the worker is gone.
        """
        target = self._directory / f"{self.name}.{self._segment + 1:06d}.jsonl"
        hidden = target.with_suffix(".new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            file = os.open(hidden, flags, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(target)
        except OSError as error:
            raise _failed(error) from error
        self.close()
        self._file, self._size = file, 0
        self._segment += 1

    def _line(self, record: Mapping[str, Any]) -> bytes:
        line = self._dumps(record) + b"\n"
        if len(line) > MAX_LINE:
            raise _backlog(f"a record of {len(line)} bytes is larger than {MAX_LINE}")
        return line

    def write(self, lines: bytes) -> None:
        """Lines of `begun` and `ended`, all of them or none.

        The kernel writes to a file that somebody removed as if it were there: such lines go to a new one.
        """
        self._append(lines)
        if os.fstat(self._file).st_nlink == 0:
            self._rotate()
            self._append(lines)

    def _append(self, lines: bytes) -> None:
        try:
            written = os.write(self._file, lines)
            if written != len(lines):
                os.ftruncate(self._file, self._size)  # nothing torn stays for the next line to be glued to
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise _failed(error) from error
        self._size += written


def _backlog(why: str) -> Undecided:
    return Undecided(
        "AUD-BACKLOG",
        f"this request cannot be recorded, so it is not served: {why}",
        fix="look at the control process and the disk (garrison doctor); requests go on when the backlog drains",
        retry_after=5.0,
    )


def _failed(error: OSError) -> Undecided:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Undecided(
            "DISK-FULL",
            "this request cannot be recorded, so it is not served: no room on the disk",
            fix="free space on the disk that holds the data directory",
            retry_after=5.0,
        )
    return _backlog(f"the spool cannot be written ({error.strerror})")
