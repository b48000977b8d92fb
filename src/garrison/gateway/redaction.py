"""Output inspection as the answers need it: one redactor per text, the same for whole answers and streams.

A whole answer in which anything may be found goes through the very object that a stream goes through, so the
two cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from garrison.detect.base import Direction, TextFinding
from garrison.detect.stream import OutputRules, StreamRedactor
from garrison.gateway.openai_shapes import rewrite_strings

MAX_FINDINGS = 50  # kept per request; more of the same tells nobody more


class OutputInspector(OutputRules, Protocol):
    """`detect.inspect.Inspector`, as answers need it."""

    def is_clean(self, texts: Sequence[str], direction: Direction) -> bool:
        """Whether nothing is to be found in any of these texts."""


class Redaction:
    """All output inspection of one request: makes redactors and gathers what they found."""

    __slots__ = ("_inspector", "_open", "_seen", "characters")

    def __init__(self, inspector: OutputInspector) -> None:
        self._inspector = inspector
        self._open: list[StreamRedactor] = []
        self._seen: list[TextFinding] = []
        self.characters = 0

    def begin(self) -> StreamRedactor:
        """A redactor for one text that arrives in pieces."""
        redactor = StreamRedactor(self._inspector)
        self._open.append(redactor)
        return redactor

    def whole(self, text: str) -> str:
        """One complete text."""
        if not text:
            return text
        self.characters += len(text)
        if self._inspector.is_clean((text,), Direction.OUTPUT):
            return text
        redactor = StreamRedactor(self._inspector)
        shown = redactor.feed(text) + redactor.close()
        self._seen += redactor.findings
        return shown

    def arguments(self, text: str) -> str:
        """The JSON arguments of a tool call: inspected as text and as the strings that a reader decodes.

        Text with escapes is written anew from what was inspected, so nothing hides in an escape.
        """
        try:
            value: Any = orjson.loads(text)
        except orjson.JSONDecodeError:
            return self.whole(text)
        shown = rewrite_strings(value, self.whole) if _depth_is_bounded(text) else "[REDACTED:nesting]"
        if shown != value or "\\" in text:
            text = orjson.dumps(shown).decode()
        return self.whole(text)

    def close(self) -> tuple[TextFinding, ...]:
        """End every redactor, also of a stream that was cut, and return what was found. What was held is lost."""
        if not self._open and not self._seen:
            return ()
        for redactor in self._open:
            redactor.close()
        return self.findings

    @property
    def findings(self) -> tuple[TextFinding, ...]:
        found = [*self._seen, *(finding for redactor in self._open for finding in redactor.findings)]
        return tuple(found[:MAX_FINDINGS])


def _depth_is_bounded(text: str) -> bool:
    return text.count("{") + text.count("[") <= 256
