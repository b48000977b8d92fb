"""Events of one stream that differ in nothing but a text: recognised by their bytes, without parsing each as JSON.

A model server writes the same envelope around every token. When one event was parsed, what stands before and
behind its text is the shape of the next ones. An event of that shape whose text is written plainly - no quote, no
backslash, no control character - can only say the same with another text; every other event is parsed as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

_SPECIAL = bytes(range(0x20)) + b'"\\'  # what a JSON string cannot hold as it is (RFC 8259 section 7)
LINE_FEED = 10
_PROBE = "\N{WHITE SQUARE}"


class Run(NamedTuple):
    """Texts of events from `start` to before `end`: joined, and how many are not empty."""

    end: int
    text: str
    pieces: int


class Shape:
    """One event around the text of one field of one choice."""

    __slots__ = ("_after", "_before", "_between", "index", "name")

    def __init__(self, before: bytes, after: bytes, index: int, name: str) -> None:
        self._before = before
        self._after = after
        self._between = after + b"\n" + before
        self.index = index
        self.name = name

    def run(self, events: Sequence[Any], start: int) -> Run | None:
        """The texts of as many events from `start` on as have this shape; None when there is none."""
        if type(events[start]) is not bytes:
            return None
        # Joined by what no event of this shape holds, a line feed, and cut where one ends and the next begins.
        joined = b"\n".join(events[start:] if start else events)
        if not joined.startswith(self._before):
            return None
        texts = joined[len(self._before) :].split(self._between)
        texts[-1], ends, rest = texts[-1].partition(self._after)
        if not ends or (rest and rest[0] != LINE_FEED):
            texts.pop()
        plain = b"".join(texts)
        if len(plain.translate(None, _SPECIAL)) != len(plain):
            special = next(
                n for n, text in enumerate(texts) if len(text.translate(None, _SPECIAL)) != len(text)
            )
            del texts[special:]
            plain = b"".join(texts)
        if not texts:
            return None
        try:
            text = plain.decode("ascii") if plain.isascii() else "".join([each.decode() for each in texts])
        except UnicodeDecodeError:
            return None
        return Run(start + len(texts), text, len(texts) - texts.count(b""))


def shape_of(
    event: bytes, value: dict[str, Any], holder: dict[str, Any], said: str, index: int, name: str
) -> Shape | None:
    """The shape of an event, `value`, whose only text is `holder[said]`; None when it has none.

    That the bytes around the text are what they seem is tried out: with another text in between, the event has to
    parse to the same value but for that text.
    """
    text = holder[said]
    raw = orjson.dumps(text)
    if event.count(raw) != 1 or b"\n" in event:
        return None
    before, _, after = event.partition(raw)
    before, after = before + b'"', b'"' + after
    try:
        tried = orjson.loads(before + _PROBE.encode() + after)
    except orjson.JSONDecodeError:
        return None
    holder[said] = _PROBE
    same = tried == value
    holder[said] = text
    return Shape(before, after, index, name) if same else None
