"""Inspected chat answers as OpenAI-style responses, whole and as a stream of numbered events.

A whole answer is made by the writer of the stream, fed once: the two cannot differ.
"""

from __future__ import annotations

from typing import Any

import orjson

from garrison.core.errors import GarrisonError
from garrison.gateway.answers import Usage
from garrison.gateway.openai_out import Named
from garrison.gateway.openai_shapes import Call
from garrison.gateway.replies import error_body

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
# Texts of a chat answer: the name of its events, and the kind of the part that carries it.
_PARTS = {
    "reasoning_content": ("reasoning_text", "reasoning_text", "text"),
    "content": ("output_text", "output_text", "text"),
    "refusal": ("refusal", "refusal", "refusal"),
}


def responses_body(choices: list[dict[str, Any]], usage: Usage | None, call: Call, named: Named) -> bytes:
    writer = ResponsesWriter(call, named)
    shown = {name: value for name, value in choices[0]["message"].items() if name != "role" and value}
    writer.delta(0, shown, choices[0]["finish_reason"])
    writer.end(usage or Usage(0, 0))
    return orjson.dumps(writer.response)


class ResponsesWriter:
    """Events of one streamed response. `response` is the object that the first and the last of them carry."""

    in_blocks = True

    def __init__(self, call: Call, named: Named) -> None:
        self._named = named
        self._number = 0
        self._is_begun = False
        self._reason: str | None = None
        self._name = ""  # of the text whose part is open
        self._pieces: list[str] = []
        self.response: dict[str, Any] = {
            "id": "resp_" + named.request_id,
            "object": "response",
            "created_at": named.created,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "model": named.served,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "truncation": "disabled",
            "usage": None,
            "metadata": {},
            **(call.echo or {}),
        }

    def delta(self, _index: int, shown: dict[str, Any], reason: str | None) -> bytes:
        out: list[bytes] = []
        self._begin(out)
        for name, (event, _, _) in _PARTS.items():
            text = shown.get(name)
            if not text:
                continue
            self._open(name, out)
            self._pieces.append(text)
            extra: dict[str, Any] = {"logprobs": []} if name == "content" else {}
            self._say(out, f"response.{event}.delta", **self._place(), delta=text, **extra)
        for call in shown.get("tool_calls", ()):
            self._function_call(call, out)
        self._reason = reason or self._reason
        return b"".join(out)

    def end(self, usage: Usage) -> bytes:
        out: list[bytes] = []
        self._begin(out)
        self._close_item(out)
        why = _INCOMPLETE.get(self._reason or "")
        self.response["status"] = "incomplete" if why else "completed"
        self.response["incomplete_details"] = {"reason": why} if why else None
        self.response["usage"] = {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt + usage.completion,
        }
        self._say(out, f"response.{self.response['status']}", response=self.response)
        return b"".join(out)

    def error(self, error: GarrisonError) -> bytes:
        body = error_body(error, self._named.request_id)
        out: list[bytes] = []
        # The words stand where the API has them, and in `error`, which makes its client raise.
        self._say(out, "error", code=body["code"], message=body["message"], param=body["param"], error=body)
        return b"".join(out)

    # --- items and parts ---

    def _begin(self, out: list[bytes]) -> None:
        if not self._is_begun:
            self._is_begun = True
            self._say(out, "response.created", response=self.response)
            self._say(out, "response.in_progress", response=self.response)

    def _open(self, name: str, out: list[bytes]) -> None:
        """An item and a part for the text `name`, unless they are open already."""
        if self._name == name:
            return
        wanted = "reasoning" if name == "reasoning_content" else "message"
        self._close_part(out)
        items = self.response["output"]
        if not items or items[-1]["type"] != wanted or items[-1]["status"] != "in_progress":
            self._close_item(out)
            self._item(_item(wanted, f"{self._named.request_id}_{len(items)}"), out)
        _, kind, field = _PARTS[name]
        part: dict[str, Any] = {"type": kind, field: ""}
        if name == "content":
            part |= {"annotations": [], "logprobs": []}
        self._name = name
        items[-1]["content"].append(part)
        self._say(out, "response.content_part.added", **self._place(), part=part)

    def _close_part(self, out: list[bytes]) -> None:
        if not self._name:
            return
        event, _, field = _PARTS[self._name]
        part = self.response["output"][-1]["content"][-1]
        part[field] = text = "".join(self._pieces)
        extra: dict[str, Any] = {"logprobs": []} if self._name == "content" else {}
        self._say(out, f"response.{event}.done", **self._place(), **{field: text}, **extra)
        self._say(out, "response.content_part.done", **self._place(), part=part)
        self._name = ""
        self._pieces.clear()

    def _item(self, item: dict[str, Any], out: list[bytes]) -> None:
        items = self.response["output"]
        items.append(item)
        self._say(out, "response.output_item.added", output_index=len(items) - 1, item=item)

    def _close_item(self, out: list[bytes]) -> None:
        self._close_part(out)
        items = self.response["output"]
        if items and items[-1]["status"] == "in_progress":
            items[-1]["status"] = "completed"
            self._say(out, "response.output_item.done", output_index=len(items) - 1, item=items[-1])

    def _function_call(self, call: dict[str, Any], out: list[bytes]) -> None:
        self._close_item(out)
        items = self.response["output"]
        item = _item("function_call", f"{self._named.request_id}_{len(items)}")
        item |= {"call_id": call["id"], "name": call["function"]["name"], "arguments": ""}
        self._item(item, out)
        text = item["arguments"] = call["function"]["arguments"]
        where = {"item_id": item["id"], "output_index": len(items) - 1}
        self._say(out, "response.function_call_arguments.delta", **where, delta=text)
        self._say(out, "response.function_call_arguments.done", **where, name=item["name"], arguments=text)
        self._close_item(out)

    def _place(self) -> dict[str, Any]:
        """Where the open part stands."""
        items = self.response["output"]
        return {
            "item_id": items[-1]["id"],
            "output_index": len(items) - 1,
            "content_index": len(items[-1]["content"]) - 1,
        }

    def _say(self, out: list[bytes], kind: str, **fields: Any) -> None:
        body = orjson.dumps({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), body))


def _item(kind: str, number: str) -> dict[str, Any]:
    prefix = {"reasoning": "rs_", "message": "msg_", "function_call": "fc_"}[kind]
    item: dict[str, Any] = {"id": prefix + number, "type": kind, "status": "in_progress"}
    if kind == "message":
        item |= {"role": "assistant", "content": []}
    elif kind == "reasoning":
        item |= {"summary": [], "content": []}
    return item
