"""Server-sent events, read from a stream of bytes. Pure, bounded, and the same under any re-chunking.

Only `data` matters for OpenAI-style answers; comments and the other fields are dropped
(WHATWG HTML, section 9.2.6 "Interpreting an event stream").
"""

from __future__ import annotations

from garrison.core.errors import Undecided

_CUT = b"\n\ndata: "


class EventParser:
    """`feed` bytes, get the data of every event that is now complete. Raises `Undecided` GW-ANSWER when one
    event grows beyond `limit` bytes.
    """

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._buffer = b""
        self._limit = limit

    @property
    def is_mid_event(self) -> bool:
        """Whether bytes of an unfinished event are held; at the end of a stream that means it was cut."""
        return bool(self._buffer.strip())

    def feed(self, data: bytes) -> list[bytes]:
        text = self._buffer + data
        if b"\r" in text:
            # A CR at the very end may be half of CR LF: it waits for the next bytes.
            held = b"\r" if text.endswith(b"\r") else b""
            text = text.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        whole, _, rest = text.rpartition(b"\n\n")
        if whole.startswith(b"data: "):
            blocks = whole[6:].split(_CUT)
            if (
                whole.count(b"\n") == 2 * len(blocks) - 2
            ):  # none but those of the cuts: each event is one line
                self._buffer = rest
                return self._bounded(blocks)
        *blocks, self._buffer = text.split(b"\n\n")
        return [event for event in map(_data, self._bounded(blocks)) if event is not None]

    def _bounded(self, blocks: list[bytes]) -> list[bytes]:
        if len(self._buffer) > self._limit or len(max(blocks, key=len, default=b"")) > self._limit:
            raise Undecided(
                "GW-ANSWER",
                f"the model server sent an event of more than {self._limit} bytes",
                fix="check the model server; the answer was cut",
            )
        return blocks


def _data(block: bytes) -> bytes | None:
    """The joined `data` lines of one event, or None when it has none."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
