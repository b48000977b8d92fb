"""How many rows a Parquet file has, by its footer alone: a bounded reader of Thrift's compact protocol.

Sources: the Parquet format description (FileMetaData: 1 version, 2 schema, 3 num_rows) and the Thrift compact
protocol. Pages are not read.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

MAGIC = b"PAR1"
MAX_FOOTER = 64 * 1024 * 1024  # files of thousands of columns and row groups stay under a few megabytes
MAX_DEPTH = 16  # FileMetaData nests six deep
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 0, 1, 2, 3, 7, 8, 12
_INTEGERS = (4, 5, 6)
_LISTS, _MAP = (9, 10), 11


def parquet_rows(stream: BinaryIO, size: int) -> int:
    """Raises ValueError, IndexError or EOFError for a file that is not a whole Parquet file."""
    stream.seek(0)
    if size < 12 or stream.read(4) != MAGIC:
        raise ValueError("it does not begin with PAR1")
    stream.seek(size - 8)
    length, magic = struct.unpack("<I4s", stream.read(8))
    if magic != MAGIC:
        raise ValueError("it does not end with PAR1, or is encrypted")
    if not 0 < length <= min(MAX_FOOTER, size - 12):
        raise ValueError("its footer claims more bytes than there are")
    stream.seek(size - 8 - length)
    return _Compact(stream.read(length)).num_rows()


class _Compact:
    """A cursor over one struct of the compact protocol."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def num_rows(self) -> int:
        field = 0
        while True:
            head = self.byte()
            kind, delta = head & 15, head >> 4
            if kind == _STOP:
                raise ValueError("its footer has no row count")
            field = field + delta if delta else self.zigzag()
            if field == 3 and kind == 6:
                count = self.zigzag()
                if count < 0:
                    raise ValueError("a negative row count")
                return count
            self.skip(kind, 0)

    def skip(self, kind: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError("a footer nested too deep")
        if kind in _INTEGERS:
            self.varint()
        elif kind in (_TRUE, _FALSE):
            return
        elif kind == _BYTE:
            self.at += 1
        elif kind == _DOUBLE:
            self.at += 8
        elif kind == _BINARY:
            self.at += self.varint()
        elif kind in _LISTS:
            head = self.byte()
            count = head >> 4 if head >> 4 != 15 else self.varint()
            for _ in range(self.bounded(count)):
                self.element(head & 15, depth)
        elif kind == _MAP:
            count = self.bounded(self.varint())
            kinds = self.byte() if count else 0
            for _ in range(count):
                self.element(kinds >> 4, depth)
                self.element(kinds & 15, depth)
        elif kind == _STRUCT:
            while (head := self.byte()) & 15 != _STOP:
                if not head >> 4:
                    self.varint()
                self.skip(head & 15, depth + 1)
        else:
            raise ValueError("a field of unknown type")
        if self.at > len(self.data):
            raise EOFError("its footer ends inside a field")

    def element(self, kind: int, depth: int) -> None:
        """Inside lists a boolean takes a byte."""
        if kind in (_TRUE, _FALSE):
            self.at += 1
        else:
            self.skip(kind, depth + 1)

    def bounded(self, count: int) -> int:
        if count > len(self.data) - self.at:
            raise ValueError("a list longer than the footer")
        return count

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number of more than ten bytes")

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)
