"""Where bytes come from: an open file, a piece of memory, a window into another source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO

from garrison.artifacts.scanners.base import Source

SPOOL_MEMORY = 16 << 20  # unpacked members up to this size stay in memory, larger ones in an unnamed file
CHUNK = 1 << 20
_LINE = 256  # nearly every line of a protocol 0 pickle is shorter; longer ones are read again


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file by descriptor; the path is never opened a second time."""

    name: str
    size: int
    descriptor: int

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        return os.pread(self.descriptor, length, offset)


@dataclass(frozen=True, slots=True)
class BytesSource:
    name: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[max(offset, 0) : max(offset, 0) + max(length, 0)]


@dataclass(frozen=True, slots=True)
class Window:
    """`size` bytes of another source from `start`."""

    name: str
    outer: Source
    start: int
    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        return self.outer.read_at(self.start + offset, length)


class Spool:
    """Unpacked bytes: written once, then read like any other source. Freed with the object."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 0
        self._file: IO[bytes] = SpooledTemporaryFile(max_size=SPOOL_MEMORY)  # noqa: SIM115 - closed with the object

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        self._file.seek(offset)
        return self._file.read(length)

    def __del__(self) -> None:
        self._file.close()


def chunks(source: Source, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes of a range in order, a bounded piece at a time."""
    position, stop = start, source.size if end is None else min(end, source.size)
    while position < stop:
        data = source.read_at(position, min(CHUNK, stop - position))
        if not data:
            return
        position += len(data)
        yield data


def all_zero(source: Source, start: int, end: int) -> bool:
    return all(
        not any(data) if len(data) < 64 else data.count(0) == len(data) for data in chunks(source, start, end)
    )


class Reader:
    """A cursor over a source with a read-ahead window; sequential parsers read through it."""

    __slots__ = ("_base", "_window", "offset", "size", "source")

    def __init__(self, source: Source, offset: int = 0) -> None:
        self.source = source
        self.size = source.size
        self.offset = offset
        self._base = 0
        self._window = b""

    def take(self, length: int) -> bytes:
        """Exactly `length` bytes, or EOFError. The caller bounds `length`; it is checked against the file first."""
        if length < 0 or length > self.size - self.offset:
            raise EOFError(f"{length} bytes at {self.offset} of {self.size}")
        start = self.offset - self._base
        if start < 0 or start + length > len(self._window):
            self._window = self.source.read_at(self.offset, max(length, 65_536))
            self._base, start = self.offset, 0
            if len(self._window) < length:
                raise EOFError(f"the file ended while it was read at {self.offset}")
        self.offset += length
        return self._window[start : start + length]

    def line(self, limit: int) -> bytes:
        """Up to and without the next newline; EOFError when there is none within `limit` bytes.

        At the end of the file the last byte stands for the newline, whatever it is: `pickle` drops it so.
        """
        data = self.source.read_at(self.offset, min(_LINE, limit))
        end = data.find(b"\n")
        if end < 0 and len(data) == _LINE:
            data = self.source.read_at(self.offset, limit)
            end = data.find(b"\n")
        if end < 0:
            if len(data) < 2 or self.offset + len(data) < self.size:
                raise EOFError(f"no end of line within {limit} bytes at {self.offset}")
            end = len(data) - 1
        self.offset += end + 1
        return data[:end]

    def skip(self, length: int) -> None:
        if length < 0 or length > self.size - self.offset:
            raise EOFError(f"{length} bytes at {self.offset} of {self.size}")
        self.offset += length

    @property
    def left(self) -> int:
        return self.size - self.offset
