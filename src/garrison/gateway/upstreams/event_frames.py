"""Amazon's event stream encoding (application/vnd.amazon.eventstream): frames with headers and checksums.

A frame is: total length, length of the headers, CRC-32 of those eight bytes, headers, payload, CRC-32 of all before.
Pure, bounded, and the same under any cutting.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

import orjson

from garrison.gateway.upstreams.connection import malformed

_PRELUDE = struct.Struct(">III")
_OVERHEAD = _PRELUDE.size + 4
_STRING = 7  # the only type of header that these services use


class Frame(NamedTuple):
    """`kind` is the event's type; `is_event` is false for exceptions and errors."""

    kind: str
    is_event: bool
    payload: bytes

    def value(self) -> dict[str, Any]:
        try:
            value = orjson.loads(self.payload or b"{}")
        except orjson.JSONDecodeError:
            raise malformed("an event that is not JSON") from None
        if not isinstance(value, dict):
            raise malformed("an event that is not a JSON object")
        return value


class FrameParser:
    """`feed` bytes, get every frame that is now complete. Raises `Undecided` GW-ANSWER."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._buffer = b""
        self._limit = limit

    def feed(self, data: bytes) -> list[Frame]:
        buffer = self._buffer + data
        frames, at = [], 0
        while len(buffer) - at >= _PRELUDE.size:
            total, headers, check = _PRELUDE.unpack_from(buffer, at)
            if zlib.crc32(buffer[at : at + 8]) != check or not _OVERHEAD + headers <= total <= self._limit:
                raise malformed("a frame with a wrong length or checksum")
            if len(buffer) - at < total:
                break
            frames.append(_frame(buffer[at : at + total], headers))
            at += total
        self._buffer = buffer[at:]
        return frames


def _frame(raw: bytes, headers: int) -> Frame:
    (check,) = struct.unpack_from(">I", raw, len(raw) - 4)
    if zlib.crc32(raw[:-4]) != check:
        raise malformed("a frame with a wrong checksum")
    names = _headers(raw[_PRELUDE.size : _PRELUDE.size + headers])
    is_event = names.get(":message-type") == "event"
    return Frame(names.get(":event-type", ""), is_event, raw[_PRELUDE.size + headers : -4])


def _headers(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(raw):
            end = at + 1 + raw[at]
            name, kind = raw[at + 1 : end].decode("ascii"), raw[end]
            (length,) = struct.unpack_from(">H", raw, end + 1)
            at = end + 3 + length
            if kind != _STRING or at > len(raw):
                raise malformed("a frame header of an unknown type")
            found[name] = raw[end + 3 : at].decode()
    except (IndexError, UnicodeDecodeError, struct.error):
        raise malformed("a frame with broken headers") from None
    return found
