"""CatBoost's binary models (`.cbm`): the envelope, the flat buffer's table and its parts, by the file's size.

The trees themselves are checked by the library's verifier when it loads them. Source: CatBoost's
`flatbuffers/model.fbs` and `TFullModel::Save`.
"""

from __future__ import annotations

from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Inner, Malformed, Seen, Source, high, shown
from garrison.artifacts.scanners.sources import Window, all_zero

MAX_PARTS = 64
MAX_INFO = 4_096
MAX_TEXT = 4 << 20
_VERSIONS = (b"FlabuffersModel_v1",)
_PARTS = (b"static_provider_v1", b"text_processing_collection_v1", b"embedding_processing_collection_v1")
FIX = "save the model again with CatBoost, or get it again from its author"


class CatBoost:
    format = "catboost"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        return head[:4] == b"CBM1"

    def scan(self, source: Source) -> Iterator[Seen]:
        size = int.from_bytes(source.read_at(4, 4), "little")
        if size < 32 or 8 + size > source.size:
            rest = Window("rest", source, 8, max(source.size - 8, 0))
            yield Inner("from byte 8", rest, guess=True)
            raise Malformed(
                "artifact.catboost.size", f"a model of {size} bytes in a file of {source.size}", fix=FIX
            )
        table = _Table(Window("core", source, 8, size), None)
        version = table.text(0)
        if version not in _VERSIONS:
            raise Malformed("artifact.catboost.version", f"the version {shown(version)} is none", fix=FIX)
        table.child(1)
        for entry in table.tables(2, MAX_INFO):
            entry.text(0)
            entry.text(1)
        parts = table.texts(3, MAX_PARTS)
        for part in parts:
            if part not in _PARTS:
                yield Gap("artifact.catboost.part", f"the part {shown(part)} is not understood", fix=FIX)
        end = 8 + size
        if end < source.size and not parts and not all_zero(source, end, source.size):
            yield high("artifact.catboost.trailing", f"{source.size - end} bytes follow the model", fix=FIX)
        if end < source.size:
            yield Inner(f"from byte {end}", Window("rest", source, end, source.size - end), guess=True)
        elif parts:
            yield Gap("artifact.truncated", "the model's parts are missing", fix=FIX)


class _Table:
    """One table of a flat buffer; every offset is checked against the buffer. Source: FlatBuffers internals."""

    def __init__(self, buffer: Source, at: int | None) -> None:
        self.buffer = buffer
        self.at = self._number(0) if at is None else at
        self.vtable = self.at - self._number(self.at, is_signed=True)
        self.length = int.from_bytes(self._take(self.vtable, 2), "little")
        if self.length < 4 or self.length % 2:
            raise Malformed("artifact.catboost.table", "a table without fields", fix=FIX)

    def _take(self, at: int, length: int) -> bytes:
        if at < 0 or length < 0 or at + length > self.buffer.size:
            raise Malformed("artifact.catboost.table", "an offset that leaves the model", fix=FIX)
        return self.buffer.read_at(at, length)

    def _number(self, at: int, *, is_signed: bool = False) -> int:
        return int.from_bytes(self._take(at, 4), "little", signed=is_signed)

    def _field(self, index: int) -> int:
        """Where the field points to, or 0 when it is not there."""
        slot = 4 + 2 * index
        if slot + 2 > self.length:
            return 0
        offset = int.from_bytes(self._take(self.vtable + slot, 2), "little")
        return self.at + offset + self._number(self.at + offset) if offset else 0

    def _text_at(self, at: int) -> bytes:
        length = self._number(at)
        if length > MAX_TEXT:
            raise Malformed("artifact.catboost.table", f"a text of {length} bytes", fix=FIX)
        return self._take(at + 4, length)

    def text(self, index: int) -> bytes:
        at = self._field(index)
        return self._text_at(at) if at else b""

    def child(self, index: int) -> _Table:
        at = self._field(index)
        if not at:
            raise Malformed("artifact.catboost.table", "a model without trees", fix=FIX)
        return _Table(self.buffer, at)

    def _targets(self, index: int, limit: int) -> list[int]:
        at = self._field(index)
        count = self._number(at) if at else 0
        if count > limit:
            raise Malformed("artifact.catboost.table", f"a list of {count} entries", fix=FIX)
        return [at + 4 + 4 * entry + self._number(at + 4 + 4 * entry) for entry in range(count)]

    def tables(self, index: int, limit: int) -> list[_Table]:
        return [_Table(self.buffer, at) for at in self._targets(index, limit)]

    def texts(self, index: int, limit: int) -> list[bytes]:
        return [self._text_at(at) for at in self._targets(index, limit)]
