"""SentencePiece models (`tokenizer.model`): a protobuf of pieces and numbers, read to its last byte.

Source: sentencepiece_model.proto. There is nothing in it that a loader runs; what counts is that it is one.
"""

from __future__ import annotations

from collections.abc import Iterator

from garrison.artifacts.scanners.base import Malformed, Seen, Source
from garrison.artifacts.scanners.protobuf import varint
from garrison.artifacts.scanners.sources import Reader

MAX_MESSAGE = 16 << 20  # the normaliser's table is the largest part, under 1 MB
_FIELDS = frozenset({1, 2, 3, 4, 5})


class SentencePiece:
    format = "sentencepiece"

    def recognises(self, head: bytes, source: Source) -> bool:  # noqa: ARG002 - the protocol
        # The first piece: field 1 of the model, holding field 1 (text) and field 2 (a float).
        if len(head) < 12 or head[0] != 0x0A or head[1] > 0x7F or head[2] != 0x0A:
            return False
        text = head[3]
        return head[1] >= text + 7 and head[4 + text : 5 + text] == b"\x15"

    def scan(self, source: Source) -> Iterator[Seen]:
        reader = Reader(source)
        while reader.left:
            key = varint(reader)
            if key & 7 != 2 or key >> 3 not in _FIELDS:
                raise Malformed(
                    "artifact.sentencepiece.field", f"field {key >> 3} is not part of a SentencePiece model"
                )
            length = varint(reader)
            if length > MAX_MESSAGE or length > reader.left:
                raise Malformed("artifact.sentencepiece.length", f"a field claims {length} bytes")
            if key >> 3 == 1:
                _piece(reader, reader.offset + length)
            else:
                reader.skip(length)
        return iter(())


def _piece(reader: Reader, end: int) -> None:
    while reader.offset < end:
        key = varint(reader)
        if key == 0x0A:
            reader.skip(varint(reader))
        elif key == 0x15:
            reader.skip(4)
        elif key == 0x18:
            varint(reader)
        else:
            raise Malformed("artifact.sentencepiece.field", f"a piece with the unknown field {key >> 3}")
    if reader.offset != end:
        raise Malformed("artifact.sentencepiece.length", "a piece longer than its message")
