"""Output inspection as the answers need it: one redactor per text, the same for whole answers and streams.

A whole answer in which anything may be found goes through the very object that a stream goes through, so the
two cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from garrison.core.errors import Refused
from garrison.detect.base import Direction, TextFinding
from garrison.detect.handling import How
from garrison.detect.stream import OutputRules, StreamRedactor
from garrison.detect.tokens import Restorer, Vault
from garrison.gateway.openai_shapes import rewrite_strings
from garrison.gateway.rules import PLAIN, RouteRules

MAX_FINDINGS = 50  # kept per request; more of the same tells nobody more


class OutputInspector(OutputRules, Protocol):
    """`detect.inspect.Inspector`, as answers need it."""

    def is_clean(self, texts: Sequence[str], direction: Direction) -> bool:
        """Whether nothing is to be found in any of these texts."""


class Redaction:
    """All output inspection of one request: makes redactors and gathers what they found.

    `scanned` counts the bytes (UTF-8) that detectors have read, whatever became of them. With `rules.is_audit`
    texts pass as they are and findings are only noted; with `rules.blocks` a value that would be replaced ends
    the answer. `how` is what is done with values here, instead of the defaults. What was tokenised in the request
    comes back behind all inspection, so a value that the model made up is still replaced.
    """

    __slots__ = (
        "_inspector", "_open", "_principal", "_restorers", "_seen", "_vault", "characters", "how", "rules", "scanned"
    )  # fmt: skip

    def __init__(self, inspector: OutputInspector, rules: RouteRules = PLAIN) -> None:
        self._inspector = inspector
        self._open: list[StreamRedactor] = []
        self._seen: list[TextFinding] = []
        self._restorers: dict[StreamRedactor, Restorer] = {}
        self._vault: Vault | None = None
        self._principal = ""
        self.rules = rules
        self.how: How | None = None
        self.characters = 0
        self.scanned = 0

    def restore(self, vault: Vault | None, principal: str) -> None:
        """Undo the tokens of `vault` in every text of this answer, for this principal."""
        if vault is not None and len(vault):
            self._vault, self._principal = vault, principal

    def begin(self) -> StreamRedactor:
        """A redactor for one text that arrives in pieces; feed it by `piece` and end it by `rest`."""
        redactor = StreamRedactor(self._inspector, self.how)
        self._open.append(redactor)
        if self._vault is not None:
            self._restorers[redactor] = Restorer(self._vault, self._principal)
        return redactor

    def piece(self, redactor: StreamRedactor, text: str) -> str:
        """The next piece of a text: what of it, and of what was held, may be shown. Raises `Refused` DLP-BLOCK."""
        shown = redactor.feed(text)
        self._count(text)
        if self.rules.is_audit:
            shown = text
        else:
            self._end_if_blocked(redactor)
        restorer = self._restorers.get(redactor) if self._restorers else None
        return shown if restorer is None else restorer.feed(shown)

    def rest(self, redactor: StreamRedactor) -> str:
        """The end of a text that came in pieces. Raises `Refused` DLP-BLOCK."""
        shown = redactor.close()
        if self.rules.is_audit:
            shown = ""
        else:
            self._end_if_blocked(redactor)
        restorer = self._restorers.get(redactor) if self._restorers else None
        return shown if restorer is None else restorer.feed(shown) + restorer.close()

    def whole(self, text: str) -> str:
        """One complete text. Raises `Refused` DLP-BLOCK."""
        if not text:
            return text
        is_clean = self._inspector.is_clean((text,), Direction.OUTPUT)
        self._count(text)
        if is_clean:
            return self._restored(text)
        shown = self._whole(text)
        return self._restored(text if self.rules.is_audit else shown)

    def arguments(self, text: str) -> str:
        """The JSON arguments of a tool call: inspected as text and as the strings that a reader decodes.

        Text with escapes is written anew from what was inspected, so nothing hides in an escape.
        """
        self._count(text)
        given = text
        try:
            value: Any = orjson.loads(text)
        except orjson.JSONDecodeError:
            shown = self._inspected(text)
        else:
            seen = (
                rewrite_strings(value, self._inspected) if _depth_is_bounded(text) else "[REDACTED:nesting]"
            )
            if seen != value or "\\" in text:
                text = orjson.dumps(seen).decode()
            shown = self._inspected(text)
        return self._restored_json(given if self.rules.is_audit else shown)

    def _restored(self, text: str) -> str:
        return text if self._vault is None else self._vault.restore(text, self._principal)

    def _restored_json(self, text: str) -> str:
        """Tokens undone in the strings of a JSON text, where a value is written as JSON writes it."""
        if self._vault is None:
            return text
        try:
            value: Any = orjson.loads(text)
        except orjson.JSONDecodeError:
            return self._restored(text)
        restored = rewrite_strings(value, self._restored)
        return text if restored == value else orjson.dumps(restored).decode()

    def _inspected(self, text: str) -> str:
        if not text or self._inspector.is_clean((text,), Direction.OUTPUT):
            return text
        return self._whole(text)

    def _whole(self, text: str) -> str:
        redactor = StreamRedactor(self._inspector, self.how)
        shown = redactor.feed(text) + redactor.close()
        self._seen += redactor.findings
        self._end_if_blocked(redactor)
        return shown

    def _end_if_blocked(self, redactor: StreamRedactor) -> None:
        if not redactor.has_replaced:
            return
        if self.rules.blocks or (
            self.how is not None and any(self.how.ends(found.kind) for found in redactor.findings)
        ):
            raise _blocked()

    def _count(self, text: str) -> None:
        self.characters += len(text)
        self.scanned += len(text) if text.isascii() else len(text.encode())

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


def _blocked() -> Refused:
    return Refused(
        "DLP-BLOCK",
        "the answer holds a value that this route does not let out; the rest of it was withheld",
        fix="ask without the value; an operator finds the rule in the event of this audit id",
    )


def _depth_is_bounded(text: str) -> bool:
    return text.count("{") + text.count("[") <= 256
