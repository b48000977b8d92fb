"""The log of a Weights & Biases run (`run-*.wandb`): records in blocks with checksums, each a protocol buffer.

The form is LevelDB's log: 32 KiB blocks, each record with CRC-32, length and type (whole, first, middle,
last). A wrong checksum is refused, never skipped; an unfinished last record, as a crash leaves it, ends the
reading and is reported.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from garrison.artifacts.lineage.remote import not_understood, too_much

MAX_LOG_BYTES = 256 << 20  # a history of millions of steps; config, summary and artifacts are a few kilobytes
MAX_RECORD_BYTES = 32 << 20  # a manifest of 50,000 files
MAX_FIELDS = 200_000  # of one message: the entries of such a manifest
_BLOCK = 32 * 1024
_HEADER = struct.Struct("<IHB")
_MAGIC = b":W&B\xe1\xbe\x00"
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(data: bytes, name: str) -> Iterator[bytes]:
    """The records in their order. Raises `Undecided` LIN-FORMAT and LIN-LIMIT."""
    if len(data) > MAX_LOG_BYTES:
        raise too_much(f"{name} has more than {MAX_LOG_BYTES:,} bytes")
    if not data.startswith(_MAGIC):
        raise not_understood(name, "it does not begin as a run's log of version 0")
    at, open_record = len(_MAGIC), bytearray()
    is_open = False
    while at < len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER.size:
            at += left
            continue
        if len(data) - at < _HEADER.size:
            return
        checksum, length, kind = _HEADER.unpack_from(data, at)
        begin = at + _HEADER.size
        if checksum == length == kind == 0 and not any(data[at : at + left]):
            return  # preallocated and never written
        if begin + length > len(data):
            return  # the run ended while this was written
        if length > left - _HEADER.size or kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST):
            raise not_understood(
                name, f"a record at byte {at} is longer than its block or of an unknown type"
            )
        chunk = data[begin : begin + length]
        if zlib.crc32(chunk, zlib.crc32(bytes([kind]))) != checksum:
            raise not_understood(name, f"the checksum of the record at byte {at} is wrong")
        if is_open != (kind in (_MIDDLE, _LAST)):
            raise not_understood(name, f"a record at byte {at} is out of order")
        open_record += chunk
        if len(open_record) > MAX_RECORD_BYTES:
            raise too_much(f"{name} has a record of more than {MAX_RECORD_BYTES:,} bytes")
        is_open = kind in (_FIRST, _MIDDLE)
        if not is_open:
            yield bytes(open_record)
            open_record.clear()
        at = begin + length


def message(data: bytes, name: str) -> dict[int, list[int | bytes]]:
    """The fields of one protocol buffer by number: numbers as they are, text and messages as bytes."""
    fields: dict[int, list[int | bytes]] = {}
    at, count = 0, 0
    while at < len(data):
        count += 1
        key, at = _varint(data, at, name)
        number, wire = key >> 3, key & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at, name)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = data[at : at + size], at + size
        elif wire == 2:
            length, at = _varint(data, at, name)
            value, at = data[at : at + length], at + length
        else:
            raise not_understood(name, f"a field has the wire type {wire}")
        if at > len(data) or number == 0 or count > MAX_FIELDS:
            raise not_understood(name, "a field ends behind its message, or there are too many")
        fields.setdefault(number, []).append(value)
    return fields


def _varint(data: bytes, at: int, name: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise not_understood(name, "a number has no end")
