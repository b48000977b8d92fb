"""A streamed answer, rebuilt event by event: bytes from the model server in, inspected bytes out. No I/O.

Each choice and field has its own redactor, which holds back what may still become a secret. Tool calls are
held until they are complete, because a secret in their JSON can be spelled with escapes and because half a
call is of no use; so is an answer that is JSON as a whole. The end is written only when the model server sent one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from garrison.core.errors import Undecided
from garrison.detect.stream import StreamRedactor
from garrison.gateway.answers import MAX_TOOL_CALLS, TEXT_FIELDS, Usage, finish_of, tool_call, usage_of
from garrison.gateway.openai_out import Writer
from garrison.gateway.openai_shapes import Call
from garrison.gateway.redaction import Redaction
from garrison.gateway.repeats import Shape, shape_of
from garrison.gateway.upstreams.connection import malformed

MAX_HELD = 1 << 20  # characters of one answer that are held in memory: tool calls, JSON, a buffered answer
MAX_SHAPES = 8  # learnt in one stream: where events keep changing, learning costs more than it saves
_TEXT = {"text": "text"}


@dataclass(slots=True)
class _Choice:
    redactors: dict[str, StreamRedactor] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)  # read, not yet inspected
    closed: set[str] = field(default_factory=set)  # fields that another one has followed
    current: str = ""
    document: list[str] = field(default_factory=list)  # the pieces of an answer that is JSON
    tools: dict[int, dict[str, Any]] = field(default_factory=dict)
    finished: bool = False


class Source(Protocol):
    """The events of a model server's stream: bytes in, what is complete out."""

    def feed(self, data: bytes) -> list[bytes] | list[dict[str, Any]]:
        """The JSON of chat events, or their values; the last one is `b"[DONE]"` or `{}`. Raises `Undecided`."""


class Stream:
    """One streamed answer. `feed` until `done`; `usage` and `pieces` say how much it was."""

    def __init__(self, call: Call, redaction: Redaction, source: Source, writer: Writer) -> None:
        self._redaction = redaction
        self._source = source
        self._writer = writer
        self._chat = call.operation.task == "chat"
        self._fields = TEXT_FIELDS if self._chat else _TEXT
        self._in_blocks = writer.in_blocks
        self._document = "content" if call.is_json else ""  # the field that is held until it is whole
        prompts = call.body.get("prompt")
        self._most = call.choices * (len(prompts) if isinstance(prompts, list) else 1)
        self._choices: dict[int, _Choice] = {}
        self._touched: dict[int, None] = {}  # choices with pending text, in the order of their events
        self._held = 0
        self._kept: list[bytes] | None = [] if redaction.rules.stream == "buffer" else None
        self.usage: Usage | None = None
        self.pieces = 0  # deltas with text: about one token each
        self.done = False
        self._shape: Shape | None = None
        self._shapes_left = MAX_SHAPES
        # Of the newest event: what held its only text, under which name, of which choice, and what it leaves as.
        self._said: tuple[dict[str, Any], str, int, str] | None = None

    def feed(self, data: bytes) -> bytes:
        """Raises `Undecided` GW-ANSWER when the stream is not one, or is out of bounds; `Refused` DLP-BLOCK."""
        out: list[bytes] = []
        events = self._source.feed(data)
        at = 0
        while at < len(events) and not self.done:
            event = events[at]
            if self._shape is not None and (after := self._repeated(self._shape, events, at)):
                at = after
                continue
            at += 1
            if event == b"[DONE]" or not event:
                self._finish(out)
            else:
                self._event(event, out)
        # What one read brought is inspected and sent in one piece: a fast model server costs no more per token.
        for index in self._touched:
            self._release(index, self._choices[index], None, out)
        self._touched.clear()
        if self._kept is None:
            return b"".join(out)
        self._kept += out
        self._hold(sum(map(len, out)) >> 2)  # an event is several times as long as its text
        if not self.done:
            return b""
        kept, self._kept = self._kept, []
        return b"".join(kept)

    def end(self) -> None:
        """The model server has closed. Raises `Undecided` GW-ANSWER unless it had said `[DONE]`."""
        if not self.done:
            raise malformed("a stream that ends before its last event")

    # --- one event ---

    def _repeated(self, shape: Shape, events: Sequence[Any], at: int) -> int:
        """Take the events from `at` on that differ from an earlier one in their text only; where the others begin."""
        choice = self._choices[shape.index]
        if choice.finished or (self._in_blocks and shape.name != choice.current):
            return 0
        run = shape.run(events, at)
        if run is None:
            return 0
        if run.text:
            choice.pending[shape.name] = choice.pending.get(shape.name, "") + run.text
            self._touched[shape.index] = None
            self.pieces += run.pieces
        return run.end

    def _event(self, event: bytes | dict[str, Any], out: list[bytes]) -> None:
        try:
            value = orjson.loads(event) if isinstance(event, bytes) else event
        except orjson.JSONDecodeError:
            raise malformed("an event that is not JSON") from None
        if not isinstance(value, dict):
            raise malformed("an event that is not a JSON object")
        if value.get("error"):
            raise Undecided(
                "GW-UPSTREAM",
                "the model server reported an error in the middle of its answer",
                fix="try again in a moment; if it stays so, ask an operator to look at garrison posture",
            )
        if value.get("usage"):
            self.usage = usage_of(value["usage"]) or self.usage
        choices = value.get("choices")
        if not isinstance(choices, list):
            raise malformed("an event without choices")
        self._said = None
        for item in choices:
            self._choice(item, out)
        if self._said is not None and len(choices) == 1 and isinstance(event, bytes) and self._shapes_left:
            self._shapes_left -= 1
            self._shape = None if value.get("usage") else shape_of(event, value, *self._said)

    def _choice(self, item: Any, out: list[bytes]) -> None:
        index = item.get("index", 0) if isinstance(item, dict) else None
        if type(index) is not int or not 0 <= index < self._most:
            raise malformed("a choice that was not asked for")
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        if choice.finished:
            return
        delta = (item.get("delta") if self._chat else item) or {}
        if not isinstance(delta, dict):
            raise malformed("a delta that is not an object")
        texts = 0
        # In the order of their meaning where that matters; else in the order they came, which is less to look at.
        for said in self._fields if self._in_blocks else delta:
            name, text = self._fields.get(said), delta.get(said)
            if name is not None and isinstance(text, str) and text:
                if said == "reasoning" and delta.get("reasoning_content"):
                    continue  # the same, by its two names
                if self._in_blocks and name != choice.current:
                    self._switch(index, choice, name, out)
                choice.pending[name] = choice.pending.get(name, "") + text
                self._touched[index] = None
                self.pieces += 1
                texts += 1
                self._said = (delta, said, index, name)
        if texts != 1 or delta.get("tool_calls") or item.get("finish_reason") is not None:
            self._said = None
        if self._chat and delta.get("tool_calls"):
            self._tools(choice, delta["tool_calls"])
        if item.get("finish_reason") is not None:
            self._touched.pop(index, None)
            self._release(index, choice, finish_of(item), out)

    def _release(self, index: int, choice: _Choice, reason: str | None, out: list[bytes]) -> None:
        """Inspect what is pending and emit what may be shown; with a `reason` the choice ends."""
        shown: dict[str, Any] = {}
        for name, text in choice.pending.items():
            if name == self._document:
                self._hold(len(text))
                choice.document.append(text)
                continue
            redactor = choice.redactors.get(name)
            if redactor is None:
                redactor = choice.redactors[name] = self._redaction.begin()
            piece = self._redaction.piece(redactor, text)
            if piece:
                shown[name] = piece
        choice.pending.clear()
        if reason is not None:
            self._flush(choice, shown)
        if shown or reason is not None:
            out.append(self._writer.delta(index, shown, reason))

    def _switch(self, index: int, choice: _Choice, name: str, out: list[bytes]) -> None:
        """Another block begins, so the one before is complete: what it holds is released in its place."""
        if name in choice.closed:
            # Its beginning is out: a value whose halves stand in two blocks could not be taken back.
            raise malformed("text of a block that had already ended")
        before, choice.current = choice.current, name
        if not before:
            return
        choice.closed.add(before)
        self._release(index, choice, None, out)
        shown = self._ended(choice, before)
        if shown:
            out.append(self._writer.delta(index, {before: shown}, None))

    def _ended(self, choice: _Choice, name: str) -> str:
        """What is still held of a text that is complete."""
        if name == self._document:
            text = "".join(choice.document)
            choice.document.clear()
            return self._redaction.arguments(text) if text else ""
        redactor = choice.redactors.get(name)
        return self._redaction.rest(redactor) if redactor is not None else ""

    def _tools(self, choice: _Choice, pieces: Any) -> None:
        """Gather the fragments of tool calls; they leave when the choice ends."""
        if not isinstance(pieces, list):
            raise malformed("tool calls that are not a list")
        for piece in pieces:
            index = piece.get("index", 0) if isinstance(piece, dict) else None
            if type(index) is not int or not 0 <= index < MAX_TOOL_CALLS:
                raise malformed("a tool call with an impossible index")
            empty: dict[str, Any] = {"id": None, "name": [], "arguments": []}
            call = choice.tools.setdefault(index, empty)
            call["id"] = call["id"] or piece.get("id")
            function = piece.get("function") or {}
            for name in ("name", "arguments"):
                text = function.get(name) if isinstance(function, dict) else None
                if isinstance(text, str):
                    call[name].append(text)
                    self._hold(len(text) + 64)
            self.pieces += 1

    def _hold(self, characters: int) -> None:
        self._held += characters
        if self._held > MAX_HELD:
            raise malformed(f"more than {MAX_HELD} characters of tool calls, JSON or an answer that is held")

    def _flush(self, choice: _Choice, shown: dict[str, Any]) -> None:
        """Everything held back for a choice that has ended."""
        choice.finished = True
        for name in (*choice.redactors, self._document) if self._document else choice.redactors:
            rest = self._ended(choice, name)
            if rest:
                shown[name] = shown.get(name, "") + rest
        if choice.tools:
            shown["tool_calls"] = [
                tool_call(at, _joined(call), self._redaction)
                for at, (_, call) in enumerate(sorted(choice.tools.items()))
            ]

    def _finish(self, out: list[bytes]) -> None:
        """The model server is done: release what choices without a finish reason still hold, then end."""
        for index, choice in sorted(self._choices.items()):
            if not choice.finished:
                self._release(index, choice, "stop", out)
        self._touched.clear()
        out.append(self._writer.end(self.usage or Usage(0, self.pieces)))
        self.done = True


def _joined(call: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": call["id"],
        "function": {"name": "".join(call["name"]), "arguments": "".join(call["arguments"])},
    }
