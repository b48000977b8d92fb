"""AES-256-GCM over a stream of any length, in constant memory; the format of a sealed object.

    header     8 bytes GARSEAL1, 1 byte log2 of the segment size, 7 random bytes
    segments   ciphertext of a full segment (the last one may be shorter) and its tag of 16 bytes

This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015): the nonce of a segment
is the 7 random bytes, a 32-bit counter and one byte that says whether it is the last. So a changed,
missing, repeated or moved segment, an added one and a cut end all fail to decrypt. The header is
authenticated with every segment. Which object this is, the wrapped data key says (`spooled.py`).
"""

from __future__ import annotations

import io
import os
from typing import BinaryIO, Protocol, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"GARSEAL1"
SEGMENT_BITS = 20  # 1 MiB: large enough for the cipher's full speed, small enough to hold
HEADER_BYTES = 16
TAG_BYTES = 16
KEY_BYTES = 32
KEPT_SEGMENTS = 4  # of a file that is read here and there: its beginning, its end, and where the reader is
MAX_SEGMENTS = 1 << 32  # the counter's range: 4 PiB an object


class Broken(Exception):
    """The sealed bytes are not what was sealed with that key."""


class KeyWrap(Protocol):
    """Keys that wrap data keys and never leave their token. Labels name them."""

    def current(self) -> str:
        """The label of the key that wraps new data keys."""
        ...

    def wrap(self, label: str, data_key: bytes, context: bytes) -> bytes: ...

    def unwrap(self, label: str, wrapped: bytes, context: bytes) -> bytes:
        """Raises `Broken` when it was not wrapped by that key with that context."""
        ...


def new_header() -> bytes:
    return MAGIC + bytes([SEGMENT_BITS]) + os.urandom(7)


def sealed_size(size: int, bits: int = SEGMENT_BITS) -> int:
    """Bytes on the disk for an object of `size` bytes."""
    segments = max(1, -(-size // (1 << bits)))
    return HEADER_BYTES + size + segments * TAG_BYTES


class Target(Protocol):
    """What takes the sealed bytes: all of a chunk, or an exception."""

    def write(self, chunk: bytes, /) -> object: ...


class Sealer:
    """Writes plaintext into `target` as a sealed stream. Call `finish` once."""

    def __init__(self, target: Target, key: bytes, header: bytes) -> None:
        self._target = target
        self._cipher = AESGCM(key)
        self._header = header
        self._room = memoryview(bytearray(1 << header[8]))
        self._used = 0
        self._count = 0
        target.write(header)

    def write(self, chunk: bytes | memoryview) -> None:
        view = memoryview(chunk)
        while view:
            if self._used == len(self._room):  # a full one waits until more comes: it may be the last
                self._emit(is_last=False)
            count = min(len(view), len(self._room) - self._used)
            self._room[self._used : self._used + count] = view[:count]
            self._used += count
            view = view[count:]

    def finish(self) -> None:
        self._emit(is_last=True)

    def _emit(self, *, is_last: bool) -> None:
        if self._count >= MAX_SEGMENTS:
            raise OverflowError("the object has more segments than the counter")
        nonce = _nonce(self._header, self._count, is_last)
        self._target.write(self._cipher.encrypt(nonce, self._room[: self._used], self._header))
        self._count += 1
        self._used = 0


class Unsealer(io.RawIOBase):
    """Reads the plaintext of a sealed stream. Raises `Broken`; no byte of a broken segment is given out."""

    def __init__(self, source: BinaryIO, key: bytes, header: bytes) -> None:
        self._source = source
        if _exactly(source, HEADER_BYTES) != header or not header.startswith(MAGIC):
            raise Broken("its header is not the one that was sealed")
        self._cipher = AESGCM(key)
        self._header = header
        self._room = (1 << header[8]) + TAG_BYTES
        self._count = 0
        self._following = _exactly(source, self._room)
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the base says Buffer, which 3.11 cannot name
        if not self._ready and not self._is_over:
            self._ready = memoryview(self._next())
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    @property
    def _is_over(self) -> bool:
        return self._count > 0 and not self._following

    def _next(self) -> bytes:
        current, self._following = self._following, _exactly(self._source, self._room)
        try:
            plain = self._cipher.decrypt(
                _nonce(self._header, self._count, is_last=not self._following), current, self._header
            )
        except (InvalidTag, ValueError) as error:
            raise Broken(f"segment {self._count} does not decrypt") from error
        self._count += 1
        return plain

    def close(self) -> None:
        self._source.close()
        super().close()


class Segments:
    """Any range of a sealed file's plaintext: a segment is decrypted when it is wanted, and the last few are kept.

    Raises `Broken` when the file is not as long as its plaintext makes it, or a segment does not decrypt.
    """

    def __init__(self, descriptor: int, key: bytes, header: bytes, size: int) -> None:
        self.size = size
        self._descriptor = descriptor
        self._cipher = AESGCM(key)
        self._header = header
        self._count = max(1, -(-size >> header[8]))
        self._kept: dict[int, bytes] = {}
        found = os.pread(descriptor, HEADER_BYTES, 0), os.fstat(descriptor).st_size
        if found != (header, sealed_size(size, header[8])):
            raise Broken("its header or its length is not the one that was sealed")

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; fewer only at the end."""
        end = min(offset + length, self.size)
        if offset < 0 or offset >= end:
            return b""
        bits = self._header[8]
        first, last = offset >> bits, end - 1 >> bits
        start = first << bits
        if first == last:
            return self._segment(first)[offset - start : end - start]
        return b"".join(map(self._segment, range(first, last + 1)))[offset - start : end - start]

    def _segment(self, number: int) -> bytes:
        plain = self._kept.pop(number, None)
        if plain is None:
            room = (1 << self._header[8]) + TAG_BYTES
            sealed = os.pread(self._descriptor, room, HEADER_BYTES + number * room)
            nonce = _nonce(self._header, number, is_last=number == self._count - 1)
            try:
                plain = self._cipher.decrypt(nonce, sealed, self._header)
            except (InvalidTag, ValueError) as error:
                raise Broken(f"segment {number} does not decrypt") from error
        self._kept[number] = plain
        if len(self._kept) > KEPT_SEGMENTS:
            del self._kept[next(iter(self._kept))]
        return plain


def unsealed(source: BinaryIO, key: bytes, header: bytes) -> BinaryIO:
    try:
        return cast(BinaryIO, io.BufferedReader(Unsealer(source, key, header), 1 << header[8]))
    except BaseException:
        source.close()
        raise


def _nonce(header: bytes, count: int, is_last: bool) -> bytes:
    return header[9:16] + count.to_bytes(4, "big") + bytes([is_last])


def _exactly(source: BinaryIO, count: int) -> bytes:
    """That many bytes, or what there is: sockets give short reads in the middle."""
    first = source.read(count) or b""
    if len(first) in (0, count):
        return first
    parts, have = [first], len(first)
    while have < count and (more := source.read(count - have)):
        parts.append(more)
        have += len(more)
    return b"".join(parts)
