"""Google's generateContent API (Vertex AI) as a model server: a chat request in its shape, answers as chat answers."""

from __future__ import annotations

from typing import Any

import orjson

from garrison.gateway.fields import words, wrong
from garrison.gateway.sse import EventParser
from garrison.gateway.upstreams.connection import malformed
from garrison.gateway.upstreams.foreign import (
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

_KNOWN = words(
    "temperature top_p top_k stop max_tokens max_completion_tokens seed presence_penalty frequency_penalty tools "
    "tool_choice response_format"
)
_SETTINGS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "n": "candidateCount",
}
_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE", "function": "ANY"}
_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}  # everything else is one of many kinds of refusal


def encode(body: dict[str, Any], _model: str) -> dict[str, Any]:
    """Raises `Usage` GW-FIELD for what has no counterpart."""
    check(body, _KNOWN, "this model", most=8)
    names = {identifier: name for message in body["messages"] for identifier, name, _ in calls_of(message)}

    def parts(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["role"] == "tool":
            name = names.get(str(message.get("tool_call_id")))
            if name is None:
                raise wrong("tool_call_id", "that of a call before it")
            return [
                {"functionResponse": {"name": name, "response": {"result": message.get("content") or ""}}}
            ]
        called = [{"functionCall": {"name": name, "args": given}} for _, name, given in calls_of(message)]
        return content_parts(message, _text, _image) + called

    shown: dict[str, Any] = {
        "contents": [{"role": role, "parts": said} for role, said in in_turn(body, parts, "model")]
    }
    if system := system_of(body):
        shown["systemInstruction"] = {"parts": [_text(system)]}
    settings = {
        theirs: body[ours] for ours, theirs in _SETTINGS.items() if body.get(ours) is not None
    } | _format(body.get("response_format"))
    if (most := maximum_of(body)) is not None:
        settings["maxOutputTokens"] = most
    if stops := stops_of(body):
        settings["stopSequences"] = stops
    if settings:
        shown["generationConfig"] = settings
    if functions := tools_of(body):
        known = ("name", "description", "parameters")
        declared = [{name: each[name] for name in known if each.get(name)} for each in functions]
        shown["tools"] = [{"functionDeclarations": declared}]
    kind, name = choice_of(body)
    if kind:
        calling = {"mode": _MODES[kind], **({"allowedFunctionNames": [name]} if name else {})}
        shown["toolConfig"] = {"functionCallingConfig": calling}
    return shown


def _format(form: Any) -> dict[str, Any]:
    if not isinstance(form, dict) or form.get("type") not in ("json_object", "json_schema"):
        return {}
    schema = form.get("json_schema")
    inner = schema.get("schema") if isinstance(schema, dict) else None
    return {"responseMimeType": "application/json", **({"responseSchema": inner} if inner else {})}


def _text(text: str) -> dict[str, Any]:
    return {"text": text}


def _image(kind: str, encoded: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": encoded}}


def decode(value: Any) -> Any:
    """A chat completion. Raises `Undecided` GW-ANSWER."""
    candidates = value.get("candidates") if isinstance(value, dict) else None
    if not isinstance(candidates, list):
        raise malformed("an answer without candidates")
    choices = []
    for number, candidate in enumerate(candidates):
        texts, thoughts, calls = _said(candidate)
        finish = "tool_calls" if calls else _finish(candidate) or "stop"
        choices.append({**chat_answer(texts, thoughts, calls, finish), "index": number})
    return {"choices": choices, "usage": _counts(value)}


def _said(candidate: Any) -> tuple[list[str], list[str], list[tuple[str, str, Any]]]:
    content = candidate.get("content") if isinstance(candidate, dict) else None
    if not isinstance(candidate, dict) or not (content is None or isinstance(content, dict)):
        raise malformed("a candidate that is not an object")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[tuple[str, str, Any]] = []
    for part in (content or {}).get("parts") or ():
        if not isinstance(part, dict):
            raise malformed("a part that is not an object")
        if isinstance(part.get("functionCall"), dict):
            call = part["functionCall"]
            calls.append(("", str(call.get("name", "")), call.get("args") or {}))
        elif "text" in part:
            (thoughts if part.get("thought") else texts).append(str(part["text"]))
        else:
            raise malformed("a part of an unknown kind")
    return texts, thoughts, calls


def _finish(candidate: dict[str, Any]) -> str | None:
    reason = candidate.get("finishReason")
    return None if reason is None else _FINISH.get(str(reason), "content_filter")


def _counts(value: dict[str, Any]) -> dict[str, Any]:
    counts = value.get("usageMetadata") or {}
    return usage(counts.get("promptTokenCount", 0), counts.get("candidatesTokenCount", 0))


class Events:
    """Its stream as the events of a chat stream. It has no last event: it is over when every candidate is."""

    def __init__(self, limit: int) -> None:
        self._parser = EventParser(limit)
        self._calls: dict[int, int] = {}
        self._open: set[int] = set()
        self._is_begun = False

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for event in self._parser.feed(data):
            try:
                value = orjson.loads(event)
            except orjson.JSONDecodeError:
                raise malformed("an event that is not JSON") from None
            if not isinstance(value, dict) or value.get("error"):
                return [*out, {"error": True}]
            out += self._event(value)
        return out

    def _event(self, value: dict[str, Any]) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for candidate in value.get("candidates") or ():
            texts, thoughts, calls = _said(candidate)
            index = candidate.get("index", 0)
            self._is_begun = True
            self._open.add(index)
            if texts or thoughts:
                delta = {"content": "".join(texts), "reasoning_content": "".join(thoughts)}
                out.append(chunk({name: text for name, text in delta.items() if text}, index=index))
            for _, name, given in calls:
                at = self._calls[index] = self._calls.get(index, -1) + 1
                function = {"name": name, "arguments": orjson.dumps(given).decode()}
                out.append(chunk({"tool_calls": [{"index": at, "function": function}]}, index=index))
            finish = _finish(candidate)
            if finish is not None:
                self._open.discard(index)
                out.append(chunk({}, "tool_calls" if index in self._calls else finish, index))
        if self._is_begun and not self._open:
            out += [{"choices": [], "usage": _counts(value)}, {}]
        return out
