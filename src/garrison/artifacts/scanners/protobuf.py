"""Protocol buffers without a schema: bounded steps through the fields of one message.

Source: the protocol buffers encoding guide. Groups are not part of any format here and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from garrison.artifacts.scanners.base import Malformed
from garrison.artifacts.scanners.sources import Reader

MAX_TEXT = 1 << 20


@dataclass(frozen=True, slots=True)
class Field:
    """`value` of a number; `start` and `end` of bytes, text or a message inside."""

    number: int
    is_span: bool
    value: int
    start: int
    end: int


def varint(reader: Reader) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = reader.take(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise Malformed("artifact.protobuf.number", "a number of more than ten bytes")


def fields(reader: Reader, start: int, end: int) -> Iterator[Field]:
    """The fields between two offsets. Raises `Malformed` when one does not end where the message ends."""
    at = start
    while at < end:
        reader.offset = at
        key = varint(reader)
        number, wire = key >> 3, key & 7
        begin, value = reader.offset, 0
        if wire == 0:
            value = varint(reader)
            at = reader.offset
        elif wire in (1, 5):
            at = begin + (8 if wire == 1 else 4)
        elif wire == 2:
            length = varint(reader)
            begin = reader.offset
            at = begin + length
        else:
            raise Malformed("artifact.protobuf.wire", f"field {number} has the wire type {wire}")
        if at > end or number == 0:
            raise Malformed("artifact.protobuf.length", f"field {number} ends behind its message")
        yield Field(number, wire == 2, value, begin, at)


def text(reader: Reader, field: Field) -> str:
    if field.end - field.start > MAX_TEXT:
        raise Malformed("artifact.protobuf.text", f"a text of {field.end - field.start} bytes")
    reader.offset = field.start
    try:
        return reader.take(field.end - field.start).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("artifact.protobuf.text", "a text that is not UTF-8") from error
