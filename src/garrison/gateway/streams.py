"""A streamed answer, rebuilt event by event: bytes from the model server in, inspected bytes out. No I/O.

Each choice and field has its own redactor, which holds back what may still become a secret. Tool calls are
held until they are complete, because a secret in their JSON can be spelled with escapes and because half a
call is of no use. The final `[DONE]` is sent only when the model server sent one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from garrison.core.errors import Undecided
from garrison.detect.stream import StreamRedactor
from garrison.gateway.answers import MAX_TOOL_CALLS, TEXT_FIELDS, Usage, finish_of, tool_call, usage_of
from garrison.gateway.openai_shapes import CHAT, Call
from garrison.gateway.redaction import Redaction
from garrison.gateway.sse import EventParser
from garrison.gateway.upstreams.connection import malformed

MAX_ARGUMENTS = 1 << 20  # characters of all tool calls of one answer: they are held in memory
DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class _Choice:
    redactors: dict[str, StreamRedactor] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)  # read, not yet inspected
    tools: dict[int, dict[str, Any]] = field(default_factory=dict)
    opened: bool = False
    finished: bool = False


class Stream:
    """One streamed answer. `feed` until `done`; `usage` and `tokens` say how much it was."""

    def __init__(
        self, call: Call, request_id: str, served: str, created: int, redaction: Redaction, event_bytes: int
    ) -> None:
        self._call = call
        self._redaction = redaction
        self._events = EventParser(event_bytes)
        self._chat = call.operation is CHAT
        self._fields = TEXT_FIELDS if self._chat else ("text",)
        prefix, kind = ("chatcmpl-", "chat.completion.chunk") if self._chat else ("cmpl-", "text_completion")
        head = {"id": prefix + request_id, "object": kind, "created": created, "model": served}
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":'
        prompts = call.body.get("prompt")
        self._most = call.choices * (len(prompts) if isinstance(prompts, list) else 1)
        self._choices: dict[int, _Choice] = {}
        self._touched: dict[int, None] = {}  # choices with pending text, in the order of their events
        self._held = 0
        self.usage: Usage | None = None
        self.pieces = 0  # deltas with text: about one token each
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Raises `Undecided` GW-ANSWER when the stream is not one, or is out of bounds."""
        out: list[bytes] = []
        for event in self._events.feed(data):
            if self.done:
                break
            if event == b"[DONE]":
                self._finish(out)
            else:
                self._event(event, out)
        # What one read brought is inspected and sent in one piece: a fast model server costs no more per token.
        for index in self._touched:
            self._release(index, self._choices[index], None, out)
        self._touched.clear()
        return b"".join(out)

    def end(self) -> None:
        """The model server has closed. Raises `Undecided` GW-ANSWER unless it had said `[DONE]`."""
        if not self.done:
            raise malformed("a stream that ends before its last event")

    # --- one event ---

    def _event(self, event: bytes, out: list[bytes]) -> None:
        try:
            value = orjson.loads(event)
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
        for item in choices:
            self._choice(item, out)

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
        for name in self._fields:
            text = delta.get(name)
            if isinstance(text, str) and text:
                choice.pending[name] = choice.pending.get(name, "") + text
                self._touched[index] = None
                self.pieces += 1
        if self._chat and delta.get("tool_calls"):
            self._tools(choice, delta["tool_calls"])
        if item.get("finish_reason") is not None:
            self._touched.pop(index, None)
            self._release(index, choice, finish_of(item), out)

    def _release(self, index: int, choice: _Choice, reason: str | None, out: list[bytes]) -> None:
        """Inspect what is pending and emit what may be shown; with a `reason` the choice ends."""
        shown: dict[str, Any] = {}
        for name, text in choice.pending.items():
            redactor = choice.redactors.get(name)
            if redactor is None:
                redactor = choice.redactors[name] = self._redaction.begin()
            self._redaction.characters += len(text)
            piece = redactor.feed(text)
            if piece:
                shown[name] = piece
        choice.pending.clear()
        if reason is not None:
            self._flush(choice, shown)
        if shown or reason is not None:
            self._emit(index, choice, shown, reason, out)

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
                    self._held += len(text) + 64
            self.pieces += 1
        if self._held > MAX_ARGUMENTS:
            raise malformed(f"tool calls of more than {MAX_ARGUMENTS} characters")

    def _flush(self, choice: _Choice, shown: dict[str, Any]) -> None:
        """Everything held back for a choice that has ended."""
        choice.finished = True
        for name, redactor in choice.redactors.items():
            rest = redactor.close()
            if rest:
                shown[name] = shown.get(name, "") + rest
        if choice.tools:
            shown["tool_calls"] = [
                {"index": index, **tool_call(index, _joined(call), self._redaction)}
                for index, call in sorted(choice.tools.items())
            ]

    def _emit(
        self, index: int, choice: _Choice, shown: dict[str, Any], reason: str | None, out: list[bytes]
    ) -> None:
        item: dict[str, Any] = {"index": index, "finish_reason": reason}
        if self._chat:
            if not choice.opened:
                choice.opened = True
                shown = {"role": "assistant", **shown}
            item["delta"] = shown
        else:
            item["text"] = shown.get("text", "")
        out.append(self._head + orjson.dumps([item]) + b"}\n\n")

    def _finish(self, out: list[bytes]) -> None:
        """The model server is done: release what choices without a finish reason still hold, then end."""
        for index, choice in sorted(self._choices.items()):
            if not choice.finished:
                self._release(index, choice, "stop", out)
        self._touched.clear()
        if self._call.wants_usage:
            usage = self.usage or Usage(0, self.pieces)
            out.append(self._head + b'[],"usage":' + orjson.dumps(usage.as_json()) + b"}\n\n")
        out.append(DONE)
        self.done = True


def _joined(call: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": call["id"],
        "function": {"name": "".join(call["name"]), "arguments": "".join(call["arguments"])},
    }
