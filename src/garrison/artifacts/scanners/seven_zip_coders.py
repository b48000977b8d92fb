"""What unpacks a 7z folder: one coder after the other, each into a spool of the size that the header says.

Filters run through liblzma as well, which wants a compressor behind them: it gets stored LZMA2 chunks.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from garrison.artifacts.scanners.base import Malformed, Source
from garrison.artifacts.scanners.seven_zip_header import RULE, Coder, Folder, Unread
from garrison.artifacts.scanners.sources import CHUNK, Spool, chunks

MAX_DICTIONARY = 256 << 20  # `7z -mx=9` uses 64 MiB; the address space of a worker ends at 1 GiB
_STORED = 1 << 16  # bytes of one stored LZMA2 chunk
_TAIL = 16  # LZMA looks at most some bytes ahead
_LZMA = b"\x03\x01\x01"
_ENCRYPTED = (b"\x06\xf1\x07\x01", b"\x06\xf1\x01\x01")
_FILTERS = {
    b"\x03\x03\x01\x03": lzma.FILTER_X86,
    b"\x03\x03\x02\x05": lzma.FILTER_POWERPC,
    b"\x03\x03\x04\x01": lzma.FILTER_IA64,
    b"\x03\x03\x05\x01": lzma.FILTER_ARM,
    b"\x03\x03\x07\x01": lzma.FILTER_ARMTHUMB,
    b"\x03\x03\x08\x05": lzma.FILTER_SPARC,
    b"\x04": lzma.FILTER_X86,
    b"\x05": lzma.FILTER_POWERPC,
    b"\x06": lzma.FILTER_IA64,
    b"\x07": lzma.FILTER_ARM,
    b"\x08": lzma.FILTER_ARMTHUMB,
    b"\x09": lzma.FILTER_SPARC,
}


def unpack(folder: Folder, packed: Source, limit: int) -> Source:
    """The folder's bytes. Raises `Unread` for what is not read here, `Malformed` for what contradicts itself."""
    for coder in folder.coders:
        if coder.method in _ENCRYPTED:
            raise Unread("is encrypted")
    if not folder.chain:
        raise Unread("has coders whose streams branch")
    source = packed
    for index in folder.chain:
        if folder.sizes[index] > limit:
            raise Unread(f"unpacks to more than {limit} bytes")
        source = _apply(folder.coders[index], source, folder.sizes[index])
    return source


def _apply(coder: Coder, source: Source, size: int) -> Source:
    if coder.method == b"\x00":
        if source.size != size:
            raise Malformed(RULE, "a stored folder of another size than it says")
        return source
    decoder, pieces = _engine(coder, source, size)
    marked = coder.method != _LZMA  # the others say themselves where they end
    spool = Spool("7z content")
    try:
        for piece in pieces:
            _feed(decoder, piece, spool, size + 1 if marked else size)
            if decoder.eof or spool.size > size or (not marked and spool.size == size):
                break
    except (lzma.LZMAError, zlib.error, OSError, EOFError, ValueError) as error:
        raise Malformed(RULE, "a folder that cannot be unpacked") from error
    if spool.size != size or (marked and not decoder.eof):
        raise Malformed(RULE, f"a folder that does not unpack to the {size} bytes that it says")
    if next(pieces, b"") or (decoder.eof and decoder.unused_data):
        raise Malformed(RULE, "a packed stream that ends before its bytes do")
    return spool


def _feed(decoder: Any, piece: bytes, spool: Spool, most: int) -> None:
    """All that comes of `piece`, or `most` bytes in the spool."""
    asked, out = 1, b" "
    while len(out) == asked and spool.size < most and not decoder.eof:
        asked = min(CHUNK, most - spool.size)
        out = decoder.decompress(piece, asked)
        spool.write(out)
        piece = getattr(decoder, "unconsumed_tail", b"")


def _tailed(source: Source) -> Iterator[bytes]:
    """The last bytes by themselves: a stream that does not need them has others hidden behind it."""
    end = max(0, source.size - _TAIL)
    yield from chunks(source, 0, end)
    yield source.read_at(end, _TAIL)


def _engine(coder: Coder, source: Source, size: int) -> tuple[Any, Iterator[bytes]]:
    """A decompressor of the standard library and the bytes to feed it."""
    properties = coder.properties
    if coder.method in _FILTERS:
        if properties:
            raise Unread("has a filter with an offset")
        return _raw({"id": _FILTERS[coder.method]}, _LAST), _stored(source)
    if coder.method == b"\x03":
        distance = properties[0] + 1 if len(properties) == 1 else 1
        return _raw({"id": lzma.FILTER_DELTA, "dist": distance}, _LAST), _stored(source)
    plain = _PLAIN.get(coder.method)
    if plain is None:
        raise Unread(f"is packed with the method {coder.method.hex()}, which is not read here")
    return plain(properties, size), _tailed(source)


def _lzma(properties: bytes, size: int) -> Any:
    if len(properties) != 5 or properties[0] >= 225:
        raise Malformed(RULE, "LZMA without its parameters")
    rest, lc = divmod(properties[0], 9)
    pb, lp = divmod(rest, 5)
    if lc + lp > 4:
        raise Unread("has LZMA parameters that are not read here")
    own = _dictionary(int.from_bytes(properties[1:], "little"), size)
    return _raw({"id": lzma.FILTER_LZMA1, "dict_size": own, "lc": lc, "lp": lp, "pb": pb})


def _lzma2(properties: bytes, size: int) -> Any:
    if len(properties) != 1 or properties[0] > 40:
        raise Malformed(RULE, "LZMA2 without its parameters")
    bits = properties[0]
    own = 0xFFFFFFFF if bits == 40 else (2 | bits & 1) << (bits // 2 + 11)
    return _raw({"id": lzma.FILTER_LZMA2, "dict_size": _dictionary(own, size)})


def _dictionary(said: int, size: int) -> int:
    """No distance is longer than what has been unpacked, so a small file needs no large dictionary."""
    needed = max(min(said, size), 4_096)
    if needed > MAX_DICTIONARY:
        raise Unread(f"needs more than {MAX_DICTIONARY} bytes of memory to be read")
    return needed


_LAST = {"id": lzma.FILTER_LZMA2, "dict_size": _STORED}


def _raw(*filters: dict[str, int]) -> Any:
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=list(filters))


def _stored(source: Source) -> Iterator[bytes]:
    """The bytes as LZMA2 chunks that are not compressed; the first one resets the dictionary."""
    kind = b"\x01"
    for data in chunks(source):
        for at in range(0, len(data), _STORED):
            piece = data[at : at + _STORED]
            yield kind + (len(piece) - 1).to_bytes(2, "big") + piece
            kind = b"\x02"
    yield b"\x00"


_PLAIN: dict[bytes, Callable[[bytes, int], Any]] = {
    b"\x21": _lzma2,
    _LZMA: _lzma,
    b"\x04\x01\x08": lambda _properties, _size: zlib.decompressobj(-15),
    b"\x04\x02\x02": lambda _properties, _size: bz2.BZ2Decompressor(),
}
