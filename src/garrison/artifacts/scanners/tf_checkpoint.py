"""TensorFlow checkpoints: the index of tensors (`.index`), a sorted string table, and how long the data has to be.

Sources: the table format of LevelDB (doc/table_format.md); tensor_bundle.proto. The data files beside it are
raw numbers and texts.
"""

from __future__ import annotations

from collections.abc import Iterator

from garrison.artifacts.scanners.base import Fact, Gap, Malformed, Reference, Seen, Source
from garrison.artifacts.scanners.protobuf import Field, fields, varint
from garrison.artifacts.scanners.sources import BytesSource, Reader

MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
MAX_BLOCK = 16 << 20  # blocks have some kilobytes
MAX_TENSORS = 1_000_000
MAX_SHARDS = 10_000
MAX_KEY = 4_096
_FOOTER = 48


def _bad(message: str) -> Malformed:
    return Malformed("artifact.tensorflow.checkpoint", message)


class CheckpointIndex:
    format = "tensorflow-checkpoint"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return source.size >= _FOOTER and source.read_at(source.size - 8, 8) == MAGIC

    def scan(self, source: Source) -> Iterator[Seen]:
        footer = Reader(BytesSource("footer", source.read_at(source.size - _FOOTER, 40)))
        meta, index = _handle(footer), _handle(footer)
        spans = [meta, index]
        shards, ends, count, is_headed = 1, dict[int, int](), 0, False
        _entries_checked = _block(source, *meta)
        if _entries_checked is None:
            yield Gap("artifact.tensorflow.checkpoint", "a compressed table", fix="save it again")
            return
        blocks = _block(source, *index) or []
        for _, handle in blocks:
            where = _handle(Reader(BytesSource("handle", handle)))
            spans.append(where)
            entries = _block(source, *where)
            if entries is None:
                yield Gap("artifact.tensorflow.checkpoint", "a compressed table", fix="save it again")
                return
            for key, value in entries:
                count += 1
                if count > MAX_TENSORS:
                    raise _bad(f"more than {MAX_TENSORS} tensors")
                if key == b"":
                    is_headed, shards = True, _header(value)
                else:
                    yield Fact("tensor", key.decode("utf-8", "replace"))
                    shard, end = _entry(value)
                    ends[shard] = max(ends.get(shard, 0), end)
        _covered(spans, source.size - _FOOTER)
        if not is_headed or any(shard >= shards for shard in ends):
            raise _bad("an index without a header, or with tensors in a part that there is not")
        yield from _references(source.name, shards, ends)


def _references(name: str, shards: int, ends: dict[int, int]) -> Iterator[Seen]:
    base = name.rsplit("/", 1)[-1].removesuffix(".index")
    for shard in range(shards):
        yield Reference(f"{base}.data-{shard:05d}-of-{shards:05d}", ends.get(shard, 0))


def _covered(spans: list[tuple[int, int]], end: int) -> None:
    """Blocks, each with five bytes of type and checksum behind it, fill the file to its footer."""
    at = 0
    for start, size in sorted(spans):
        if start != at:
            raise _bad("blocks that overlap, or bytes that belong to none")
        at = start + size + 5
    if at != end:
        raise _bad("bytes before the footer that belong to no block")


def _handle(reader: Reader) -> tuple[int, int]:
    return varint(reader), varint(reader)


def _block(source: Source, start: int, size: int) -> list[tuple[bytes, bytes]] | None:
    """Keys and values of a block; None when it is compressed."""
    if size > MAX_BLOCK or start + size + 5 > source.size or size < 4:
        raise _bad("a block that is not inside the file")
    raw = source.read_at(start, size + 1)
    if raw[size]:
        return None
    restarts = int.from_bytes(raw[size - 4 : size], "little")
    end = size - 4 - 4 * restarts
    if end < 0:
        raise _bad("a block that is shorter than its restarts")
    reader = Reader(BytesSource("block", raw[:end]))
    found: list[tuple[bytes, bytes]] = []
    key = b""
    while reader.left:
        shared, rest, length = varint(reader), varint(reader), varint(reader)
        if shared > len(key) or shared + rest > MAX_KEY:
            raise _bad("a key that continues another that is too short")
        following = key[:shared] + reader.take(rest)
        if found and following <= key:
            raise _bad("keys that are not in order")
        key = following
        found.append((key, reader.take(length)))
        if len(found) > MAX_TENSORS:
            raise _bad(f"more than {MAX_TENSORS} tensors")
    return found


def _parts(value: bytes) -> Iterator[Field]:
    return fields(Reader(BytesSource("value", value)), 0, len(value))


def _header(value: bytes) -> int:
    """BundleHeaderProto: the number of parts."""
    shards = 0
    for item in _parts(value):
        if item.number == 1:
            shards = item.value
        elif item.number == 2 and item.value:
            raise _bad("numbers in big-endian order")
    if not 1 <= shards <= MAX_SHARDS:
        raise _bad(f"data in {shards} parts")
    return shards


def _entry(value: bytes) -> tuple[int, int]:
    """BundleEntryProto: the part and where the tensor ends in it."""
    numbers = {item.number: item.value for item in _parts(value) if not item.is_span}
    end = numbers.get(4, 0) + numbers.get(5, 0)
    if end >= 1 << 62:
        raise _bad("a tensor that is larger than any file")
    return numbers.get(3, 0), end
