"""Redaction of an answer while it is being written. I/O-free: text in, text that may go on out.

    redactor = StreamRedactor(inspector)
    send(redactor.feed(delta)); ...; send(redactor.close())

One object per choice and field (content, each tool call's arguments). Whatever the cuts, the pieces
joined are `inspector.inspect(whole, Direction.OUTPUT).text`: that function is this class fed once.
"""

from __future__ import annotations

from typing import Protocol

from garrison.detect.base import TextFinding
from garrison.detect.handling import How
from garrison.detect.patterns import TextStream
from garrison.detect.redact import Redaction


class OutputRules(Protocol):
    """What a stream needs of an `Inspector`."""

    def open_output(self, how: How | None = None) -> tuple[TextStream, Redaction]:
        """A scanner stream and a redaction over the rules for answers, both fresh."""


class StreamRedactor:
    """Holds back only what could still become a value; see `docs/detection.md` for how much that is."""

    def __init__(self, inspector: OutputRules, how: How | None = None) -> None:
        self._stream, self._redaction = inspector.open_output(how)
        self._closed = False

    def feed(self, text: str) -> str:
        """The next piece. Returns what may go on now, possibly nothing."""
        if not text:
            return ""
        return self._redaction.feed(text, self._stream.scan(text))

    def close(self) -> str:
        """Nothing follows: the rest. A second call returns nothing."""
        if self._closed:
            return ""
        self._closed = True
        self._stream.close()
        return self._redaction.feed("", (), last=True)

    @property
    def findings(self) -> tuple[TextFinding, ...]:
        """What was found so far, in code points of the text fed."""
        return self._redaction.findings

    @property
    def has_replaced(self) -> bool:
        """Whether a value was replaced in what has been passed on so far."""
        return self._redaction.has_replaced

    @property
    def held(self) -> int:
        """Characters received that wait for what follows them."""
        return self._redaction.held
