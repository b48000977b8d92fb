"""Amazon Bedrock's Converse API as a model server: a chat request in its shape, its answers as chat answers."""

from __future__ import annotations

from typing import Any

from garrison.gateway.fields import words
from garrison.gateway.upstreams.connection import malformed
from garrison.gateway.upstreams.event_frames import FrameParser
from garrison.gateway.upstreams.foreign import (
    call_begins,
    call_goes_on,
    calls_of,
    chat_answer,
    check,
    choice_of,
    chunk,
    content_parts,
    in_turn,
    maximum_of,
    stops_of,
    system_of,
    tools_of,
    usage,
)

_KNOWN = words("temperature top_p stop max_tokens max_completion_tokens tools tool_choice")
_FINISH = {
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}


def encode(body: dict[str, Any], _model: str) -> dict[str, Any]:
    """Raises `Usage` GW-FIELD for what has no counterpart."""
    check(body, _KNOWN, "this model")
    shown: dict[str, Any] = {
        "messages": [{"role": role, "content": parts} for role, parts in in_turn(body, _parts, "assistant")]
    }
    if system := system_of(body):
        shown["system"] = [{"text": system}]
    settings = {
        "maxTokens": maximum_of(body),
        "temperature": body.get("temperature"),
        "topP": body.get("top_p"),
        "stopSequences": stops_of(body) or None,
    }
    if settings := {name: value for name, value in settings.items() if value is not None}:
        shown["inferenceConfig"] = settings
    kind, name = choice_of(body)
    functions = tools_of(body)
    if functions and kind != "none":
        shown["toolConfig"] = {"tools": [{"toolSpec": _tool(function)} for function in functions]}
        choices = {"auto": {"auto": {}}, "required": {"any": {}}, "function": {"tool": {"name": name}}}
        if kind:
            shown["toolConfig"]["toolChoice"] = choices[kind]
    return shown


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    shown = content_parts(message, _text, _image)
    if message["role"] == "tool":
        return [{"toolResult": {"toolUseId": message.get("tool_call_id"), "content": shown or [_text("")]}}]
    return shown + [
        {"toolUse": {"toolUseId": identifier, "name": name, "input": given}}
        for identifier, name, given in calls_of(message)
    ]


def _text(text: str) -> dict[str, Any]:
    return {"text": text}


def _image(kind: str, encoded: str) -> dict[str, Any]:
    return {"image": {"format": kind.removeprefix("image/"), "source": {"bytes": encoded}}}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters") or {"type": "object"}
    shown = {"name": function["name"], "inputSchema": {"json": schema}}
    return {**shown, "description": function["description"]} if function.get("description") else shown


def decode(value: Any) -> Any:
    """A chat completion. Raises `Undecided` GW-ANSWER."""
    output = value.get("output") if isinstance(value, dict) else None
    message = output.get("message") if isinstance(output, dict) else None
    blocks = message.get("content") if isinstance(message, dict) else None
    if not isinstance(blocks, list):
        raise malformed("an answer without content")
    texts, thoughts, calls = [], [], []
    for block in blocks:
        if not isinstance(block, dict):
            raise malformed("a block that is not an object")
        if "text" in block:
            texts.append(str(block["text"]))
        elif isinstance(block.get("reasoningContent"), dict):
            thought = block["reasoningContent"].get("reasoningText")
            thoughts.append(str(thought.get("text", "")) if isinstance(thought, dict) else "")
        elif isinstance(block.get("toolUse"), dict):
            use = block["toolUse"]
            calls.append((str(use.get("toolUseId", "")), str(use.get("name", "")), use.get("input", {})))
        else:
            raise malformed("a block of an unknown kind")
    counts = value.get("usage") or {}
    finish = _FINISH.get(str(value.get("stopReason")), "stop")
    return {
        "choices": [chat_answer(texts, thoughts, calls, finish)],
        "usage": usage(counts.get("inputTokens"), counts.get("outputTokens")),
    }


class Events:
    """Its stream as the events of a chat stream. The counts come last, behind the reason to stop."""

    def __init__(self, limit: int) -> None:
        self._frames = FrameParser(limit)
        self._tools: dict[Any, int] = {}

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for frame in self._frames.feed(data):
            out += self._event(frame.kind, frame.value()) if frame.is_event else [{"error": True}]
        return out

    def _event(self, kind: str, value: dict[str, Any]) -> list[dict[str, Any]]:
        index = value.get("contentBlockIndex")
        if kind == "contentBlockStart":
            use = (value.get("start") or {}).get("toolUse")
            if isinstance(use, dict):
                at = self._tools[index] = len(self._tools)
                return [call_begins(at, use.get("toolUseId"), use.get("name"))]
        elif kind == "contentBlockDelta":
            delta = value.get("delta") or {}
            if "text" in delta:
                return [chunk({"content": delta["text"]})]
            if isinstance(delta.get("reasoningContent"), dict):
                return [chunk({"reasoning_content": delta["reasoningContent"].get("text")})]
            if isinstance(delta.get("toolUse"), dict) and index in self._tools:
                return [call_goes_on(self._tools[index], delta["toolUse"].get("input"))]
        elif kind == "messageStop":
            return [chunk({}, _FINISH.get(str(value.get("stopReason")), "stop"))]
        elif kind == "metadata":
            counts = value.get("usage") or {}
            return [
                {"choices": [], "usage": usage(counts.get("inputTokens"), counts.get("outputTokens"))},
                {},
            ]
        return []
