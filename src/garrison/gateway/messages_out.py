"""Inspected chat answers as Anthropic-style messages, whole and streamed, and refusals in that vendor's shape."""

from __future__ import annotations

from typing import Any

import orjson

from garrison.core.errors import GarrisonError
from garrison.gateway.answers import Usage
from garrison.gateway.openai_out import Named
from garrison.gateway.openai_shapes import Call
from garrison.gateway.replies import status_of
from garrison.gateway.upstreams.connection import malformed

_STOPS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
# Texts of a chat answer, by the block that carries them; a refusal is said like anything else.
_BLOCKS = {"reasoning_content": "thinking", "content": "text", "refusal": "text"}


def messages_error(error: GarrisonError, request_id: str) -> bytes:
    """`{"type": "error", "error": {"type", "message", ...}, "request_id"}` with Garrison's own words added."""
    status = status_of(error)
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    inner = {**error.as_json(), "type": kind, "audit_id": request_id}
    return orjson.dumps({"type": "error", "error": inner, "request_id": request_id})


def messages_body(choices: list[dict[str, Any]], usage: Usage | None, _call: Call, named: Named) -> bytes:
    message = choices[0]["message"]
    content = [_block(kind, message[name]) for name, kind in _BLOCKS.items() if message.get(name)]
    content += [_use(call, _input(call)) for call in message.get("tool_calls", ())]
    body = _message(named, usage or Usage(0, 0))
    body["content"] = content
    body["stop_reason"] = "refusal" if message.get("refusal") else _stop(choices[0]["finish_reason"])
    return orjson.dumps(body)


class MessagesWriter:
    """Events of one streamed message: a block for every run of text of one kind, then the tool uses."""

    __slots__ = ("_blocks", "_is_begun", "_named", "_open", "_stop_reason")
    in_blocks = True

    def __init__(self, _call: Call, named: Named) -> None:
        self._named = named
        self._blocks = -1  # index of the last block; -1 before the first
        self._open = ""  # the kind of the block that is open
        self._is_begun = False
        self._stop_reason = "end_turn"

    def delta(self, _index: int, shown: dict[str, Any], reason: str | None) -> bytes:
        out: list[bytes] = []
        self._begin(out)
        for name, kind in _BLOCKS.items():
            if shown.get(name):
                self._switch(kind, out)
                piece = {"type": f"{kind}_delta", kind: shown[name]}
                out.append(_event("content_block_delta", index=self._blocks, delta=piece))
        for call in shown.get("tool_calls", ()):
            self._use(call, out)
        if shown.get("refusal"):
            self._stop_reason = "refusal"
        elif reason is not None and self._stop_reason != "refusal":
            self._stop_reason = _stop(reason)
        return b"".join(out)

    def end(self, usage: Usage) -> bytes:
        out: list[bytes] = []
        self._begin(out)
        self._close(out)
        counts = {"input_tokens": usage.prompt, "output_tokens": usage.completion}
        delta = {"stop_reason": self._stop_reason, "stop_sequence": None}
        out.append(_event("message_delta", delta=delta, usage=counts))
        out.append(_event("message_stop"))
        return b"".join(out)

    def error(self, error: GarrisonError) -> bytes:
        return b"event: error\ndata: " + messages_error(error, self._named.request_id) + b"\n\n"

    def _begin(self, out: list[bytes]) -> None:
        if not self._is_begun:
            self._is_begun = True
            out.append(_event("message_start", message=_message(self._named, Usage(0, 0))))

    def _switch(self, kind: str, out: list[bytes]) -> None:
        if self._open == kind:
            return
        self._close(out)
        self._blocks += 1
        self._open = kind
        out.append(_event("content_block_start", index=self._blocks, content_block=_block(kind, "")))

    def _close(self, out: list[bytes]) -> None:
        if self._open:
            out.append(_event("content_block_stop", index=self._blocks))
            self._open = ""

    def _use(self, call: dict[str, Any], out: list[bytes]) -> None:
        arguments = orjson.dumps(_input(call)).decode()
        self._close(out)
        self._blocks += 1
        out.append(_event("content_block_start", index=self._blocks, content_block=_use(call, {})))
        piece = {"type": "input_json_delta", "partial_json": arguments}
        out.append(_event("content_block_delta", index=self._blocks, delta=piece))
        out.append(_event("content_block_stop", index=self._blocks))


def _message(named: Named, usage: Usage) -> dict[str, Any]:
    return {
        "id": "msg_" + named.request_id,
        "type": "message",
        "role": "assistant",
        "model": named.served,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": usage.prompt, "output_tokens": usage.completion},
    }


def _block(kind: str, text: str) -> dict[str, Any]:
    block: dict[str, Any] = {"type": kind, kind: text}
    if kind == "thinking":
        block["signature"] = ""
    return block


def _use(call: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": given}


def _input(call: dict[str, Any]) -> dict[str, Any]:
    """The arguments as an object, which is what this API promises. Raises `Undecided` GW-ANSWER."""
    text = call["function"]["arguments"]
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise malformed("tool arguments that are not a JSON object")
    return value


def _stop(reason: str | None) -> str:
    return _STOPS.get(reason or "", "end_turn")


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))
