"""Records appended to a file, for an agent that reads it: whole lines, on the disk when `send` returns.

The file is opened for each batch, so that whoever rotates logs may move it away at any time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from garrison.evidence.record import Record
from garrison.evidence.sinks.base import away, reason_of
from garrison.evidence.sinks.sink import Sink, place_of
from garrison.evidence.sinks.syslog import Line

MODE = 0o640  # the agent's group may read it, when an operator gives the directory that group


class File:
    def __init__(self, sink: Sink, line: Line) -> None:
        self._sink = sink
        self._line = line
        self._path = Path(place_of(sink.url).path)

    def send(self, records: Sequence[Record]) -> None:
        data = "".join(self._line(record) + "\n" for record in records).encode("ascii")
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            is_new = not self._path.exists()
            descriptor = os.open(self._path, flags, MODE)
            try:
                self._append(descriptor, data)
            finally:
                os.close(descriptor)
            if is_new:
                _sync_directory(self._path.parent)
        except OSError as error:
            raise away(self._sink, f"{self._path}: {reason_of(error)}") from None

    def _append(self, descriptor: int, data: bytes) -> None:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data  # a kill tore the last line: it is sent again, whole
        written = 0
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:])
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
