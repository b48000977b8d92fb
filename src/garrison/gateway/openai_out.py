"""Inspected answers as OpenAI-style bodies and streams: chat, completions, embeddings.

A writer makes the bytes of one stream from what `streams.Stream` has inspected; it inspects nothing and holds
nothing back.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import orjson

from garrison.core.errors import GarrisonError
from garrison.gateway.answers import Usage
from garrison.gateway.openai_shapes import Call
from garrison.gateway.replies import error_json

DONE = b"data: [DONE]\n\n"


class Named(NamedTuple):
    """What an answer is called: the id of the request, the model as the client knows it, the second it was made."""

    request_id: str
    served: str
    created: int


class Writer(Protocol):
    """One stream in the client's shape. `in_blocks`: texts of different kinds have an order among them."""

    @property
    def in_blocks(self) -> bool: ...

    def delta(self, index: int, shown: dict[str, Any], reason: str | None) -> bytes:
        """What a choice has to show: texts by field, whole `tool_calls`; with a `reason` the choice ends."""

    def end(self, usage: Usage) -> bytes:
        """The last bytes of a stream that went well."""

    def error(self, error: GarrisonError) -> bytes:
        """The last bytes of a stream that did not: an event that clients raise, and nothing that says it is done."""


def chat_body(choices: list[dict[str, Any]], usage: Usage | None, _call: Call, named: Named) -> bytes:
    return _body("chatcmpl-", "chat.completion", choices, usage, named)


def text_body(choices: list[dict[str, Any]], usage: Usage | None, _call: Call, named: Named) -> bytes:
    return _body("cmpl-", "text_completion", choices, usage, named)


def _body(prefix: str, kind: str, choices: list[dict[str, Any]], usage: Usage | None, named: Named) -> bytes:
    body: dict[str, Any] = {
        "id": prefix + named.request_id,
        "object": kind,
        "created": named.created,
        "model": named.served,
        "choices": choices,
    }
    if usage is not None:
        body["usage"] = usage.as_json()
    return orjson.dumps(body)


def embeddings_body(rows: list[dict[str, Any]], usage: Usage | None, _call: Call, named: Named) -> bytes:
    prompt = usage.prompt if usage is not None else 0
    return orjson.dumps(
        {
            "object": "list",
            "data": rows,
            "model": named.served,
            "usage": {"prompt_tokens": prompt, "total_tokens": prompt},
        }
    )


class ChatWriter:
    """Chunks of a chat completion."""

    __slots__ = ("_head", "_opened", "_request_id", "_wants_usage")
    in_blocks = False

    def __init__(self, call: Call, named: Named) -> None:
        self._head = _head("chatcmpl-", "chat.completion.chunk", named)
        self._request_id = named.request_id
        self._wants_usage = call.wants_usage
        self._opened: set[int] = set()

    def delta(self, index: int, shown: dict[str, Any], reason: str | None) -> bytes:
        if index not in self._opened:
            self._opened.add(index)
            shown = {"role": "assistant", **shown}
        if "tool_calls" in shown:
            calls = shown["tool_calls"]
            shown = {**shown, "tool_calls": [{"index": at, **call} for at, call in enumerate(calls)]}
        item = {"index": index, "finish_reason": reason, "delta": shown}
        return self._head + orjson.dumps([item]) + b"}\n\n"

    def end(self, usage: Usage) -> bytes:
        return _end(self._head, usage if self._wants_usage else None)

    def error(self, error: GarrisonError) -> bytes:
        return b"data: " + error_json(error, self._request_id) + b"\n\n"


class TextWriter:
    """Chunks of a completion: one text a choice."""

    __slots__ = ("_head", "_request_id", "_wants_usage")
    in_blocks = False

    def __init__(self, call: Call, named: Named) -> None:
        self._head = _head("cmpl-", "text_completion", named)
        self._request_id = named.request_id
        self._wants_usage = call.wants_usage

    def delta(self, index: int, shown: dict[str, Any], reason: str | None) -> bytes:
        item = {"index": index, "finish_reason": reason, "text": shown.get("text", "")}
        return self._head + orjson.dumps([item]) + b"}\n\n"

    def end(self, usage: Usage) -> bytes:
        return _end(self._head, usage if self._wants_usage else None)

    def error(self, error: GarrisonError) -> bytes:
        return b"data: " + error_json(error, self._request_id) + b"\n\n"


def _head(prefix: str, kind: str, named: Named) -> bytes:
    head = {
        "id": prefix + named.request_id,
        "object": kind,
        "created": named.created,
        "model": named.served,
    }
    return b"data: " + orjson.dumps(head)[:-1] + b',"choices":'


def _end(head: bytes, usage: Usage | None) -> bytes:
    if usage is None:
        return DONE
    return head + b'[],"usage":' + orjson.dumps(usage.as_json()) + b"}\n\n" + DONE
