"""Anthropic's messages API as a model server: a chat request in its shape, its answers as chat answers."""

from __future__ import annotations

from typing import Any

import orjson

from garrison.gateway.fields import words
from garrison.gateway.sse import EventParser
from garrison.gateway.upstreams.connection import malformed
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

DEFAULT_TOKENS = 4_096  # this API wants a maximum
_KNOWN = words(
    "temperature top_p top_k stop max_tokens max_completion_tokens tools tool_choice parallel_tool_calls "
    "reasoning_effort"
)
_THINKING = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384}
_FINISH = {"max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}
_CHOICES = {"auto": "auto", "required": "any", "none": "none", "function": "tool"}


def encode(body: dict[str, Any], model: str) -> dict[str, Any]:
    """Raises `Usage` GW-FIELD for what has no counterpart."""
    check(body, _KNOWN, "this model")
    shown: dict[str, Any] = {
        "model": model,
        "max_tokens": maximum_of(body) or DEFAULT_TOKENS,
        "messages": [{"role": role, "content": parts} for role, parts in in_turn(body, _parts, "assistant")],
    }
    if system := system_of(body):
        shown["system"] = system
    for name in ("temperature", "top_p", "top_k", "stream"):
        if body.get(name) is not None:
            shown[name] = body[name]
    if stops := stops_of(body):
        shown["stop_sequences"] = stops
    if functions := tools_of(body):
        shown["tools"] = [_tool(function) for function in functions]
    kind, name = choice_of(body)
    if kind:
        shown["tool_choice"] = {"type": _CHOICES[kind], **({"name": name} if name else {})}
    if body.get("parallel_tool_calls") is False and functions:
        shown["tool_choice"] = {
            "type": "auto",
            **shown.get("tool_choice", {}),
            "disable_parallel_tool_use": True,
        }
    budget = _THINKING.get(str(body.get("reasoning_effort")))
    if budget is not None:
        shown["thinking"] = {"type": "enabled", "budget_tokens": budget}
        shown["max_tokens"] = max(shown["max_tokens"], budget + 1)
    return shown


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    shown = content_parts(message, _text, _image)
    if message["role"] == "tool":
        return [{"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": shown}]
    return shown + [
        {"type": "tool_use", "id": identifier, "name": name, "input": given}
        for identifier, name, given in calls_of(message)
    ]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(kind: str, encoded: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": encoded}}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    shown = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return {**shown, "description": function["description"]} if function.get("description") else shown


def decode(value: Any) -> Any:
    """A chat completion. Raises `Undecided` GW-ANSWER."""
    if not isinstance(value, dict) or not isinstance(value.get("content"), list):
        raise malformed("an answer without content")
    texts, thoughts, calls = [], [], []
    for block in value["content"]:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            texts.append(str(block.get("text", "")))
        elif kind == "thinking":
            thoughts.append(str(block.get("thinking", "")))
        elif kind == "tool_use":
            calls.append((str(block.get("id", "")), str(block.get("name", "")), block.get("input", {})))
        elif kind != "redacted_thinking":
            raise malformed("a block of an unknown kind")
    counts = value.get("usage") or {}
    finish = _FINISH.get(str(value.get("stop_reason")), "stop")
    return {
        "choices": [chat_answer(texts, thoughts, calls, finish)],
        "usage": usage(counts.get("input_tokens"), counts.get("output_tokens")),
    }


class Events:
    """Its stream as the events of a chat stream."""

    def __init__(self, limit: int) -> None:
        self._parser = EventParser(limit)
        self._prompt: Any = 0
        self._completion: Any = 0
        self._tools: dict[Any, int] = {}

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for event in self._parser.feed(data):
            try:
                value = orjson.loads(event)
            except orjson.JSONDecodeError:
                raise malformed("an event that is not JSON") from None
            if not isinstance(value, dict):
                raise malformed("an event that is not a JSON object")
            out += self._event(value)
        return out

    def _event(self, value: dict[str, Any]) -> list[dict[str, Any]]:
        kind = value.get("type")
        if kind == "error":
            return [{"error": True}]
        if kind == "message_start":
            counts = (value.get("message") or {}).get("usage") or {}
            self._prompt = counts.get("input_tokens", 0)
        elif kind == "content_block_start":
            block = value.get("content_block") or {}
            if block.get("type") == "tool_use":
                at = self._tools[value.get("index")] = len(self._tools)
                return [call_begins(at, block.get("id"), block.get("name"))]
        elif kind == "content_block_delta":
            return self._delta(value.get("index"), value.get("delta") or {})
        elif kind == "message_delta":
            self._completion = (value.get("usage") or {}).get("output_tokens", 0)
            reason = _FINISH.get(str((value.get("delta") or {}).get("stop_reason")), "stop")
            return [chunk({}, reason)]
        elif kind == "message_stop":
            return [{"choices": [], "usage": usage(self._prompt, self._completion)}, {}]
        return []

    def _delta(self, index: Any, delta: dict[str, Any]) -> list[dict[str, Any]]:
        kind = delta.get("type")
        if kind == "text_delta":
            return [chunk({"content": delta.get("text")})]
        if kind == "thinking_delta":
            return [chunk({"reasoning_content": delta.get("thinking")})]
        if kind == "input_json_delta" and index in self._tools:
            return [call_goes_on(self._tools[index], delta.get("partial_json"))]
        return []  # signatures and citations stay behind
