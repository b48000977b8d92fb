"""The OpenAI-style requests that are understood: a closed list of fields, nothing passed on unseen.

A field that is not listed is refused by name rather than dropped, because dropping changes the answer
silently. Fields that would choose where a request goes have a code of their own. Token ids, images, audio
and files are refused: text that cannot be read cannot be inspected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from garrison.core.errors import Usage
from garrison.gateway.strict_json import parse_object

MAX_CHOICES = 8  # n: each is a whole generation
MAX_INPUTS = 2_048  # texts in one embeddings or completions request, as the OpenAI API has it
MAX_TOKENS = 1_000_000
MAX_NAME = 128


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAMPLING = _words(
    "temperature top_p top_k min_p presence_penalty frequency_penalty repeat_penalty repetition_penalty seed stop "
    "n stream stream_options max_tokens logit_bias logprobs"
)
_CHAT = _SAMPLING | _words(
    "model messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls response_format "
    "reasoning_effort verbosity"
)
# They speak to a vendor's account, not to a model: accepted so that clients work, never passed on.
_DROPPED = _words("user metadata store service_tier safety_identifier prompt_cache_key")
_MESSAGE = _words("role content name tool_calls tool_call_id refusal reasoning_content")
_ROLES = _words("system developer user assistant tool")
_STEERING = re.compile(
    r"(^|_)(api_?(base|key|type|version)|base_?url|url|uri|host|endpoint|upstream|provider|headers?|proxy|"
    r"fallbacks?|router?|route|deployment|extra_body|model_list|organization|region|timeout|metadata_url)(_|$)",
    re.IGNORECASE,
)
# Words of the API itself, which say nothing to a model beyond their meaning: not worth an inspection.
_VOCABULARY = (
    _CHAT
    | _MESSAGE
    | _ROLES
    | _words(
        "text type function auto none required object string number integer boolean array properties description "
        "parameters strict json_object json_schema schema enum items arguments id index input prompt suffix low medium "
        "high minimal additionalProperties include_usage dimensions encoding_format float base64"
    )
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One OpenAI-style endpoint. `task` is what an endpoint has to serve; `fields` what a body may hold."""

    task: str
    path: str
    fields: frozenset[str]
    streams: bool


CHAT = Operation("chat", "/v1/chat/completions", _CHAT, True)
COMPLETIONS = Operation("completions", "/v1/completions", _SAMPLING | {"model", "prompt", "suffix"}, True)
EMBEDDINGS = Operation(
    "embeddings",
    "/v1/embeddings",
    frozenset({"model", "input", "encoding_format", "dimensions"}),
    False,
)
OPERATIONS = {operation.path: operation for operation in (CHAT, COMPLETIONS, EMBEDDINGS)}


class Call(NamedTuple):
    """A parsed request. `body` holds listed fields only; `model` and usage options are set when it is sent."""

    operation: Operation
    model: str
    body: dict[str, Any]
    stream: bool
    wants_usage: bool
    choices: int
    max_tokens: int | None
    size: int  # bytes of the body as it came: what reservations are estimated from


def parse_call(operation: Operation, raw: bytes, depth: int) -> Call:
    """The request in `raw`. Raises `Usage` HTTP-JSON, GW-STEER, GW-FIELD or GW-PART."""
    body = parse_object(raw, depth)
    if not operation.fields.issuperset(body):
        for name in body.keys() - operation.fields:
            if name not in _DROPPED:
                raise _unknown(name, operation)
            del body[name]
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_NAME:
        raise _field("model", "the name of a model")
    if operation is CHAT:
        body["messages"] = _messages(body.get("messages"))
    else:
        _check_inputs(body, "prompt" if operation is COMPLETIONS else "input")
    stream = body.get("stream", False)
    options = body.pop("stream_options", None) or {}
    if not isinstance(stream, bool) or not isinstance(options, dict):
        raise _field("stream", "true or false, with stream_options an object")
    if options and options.keys() != {"include_usage"}:
        raise _field("stream_options", "an object with include_usage only")
    if stream and (body.get("logprobs") or body.get("top_logprobs")):
        raise _field("logprobs", "left out of streams: they would show what is redacted later")
    most = _count(body, "max_completion_tokens", MAX_TOKENS) or _count(body, "max_tokens", MAX_TOKENS)
    choices = _count(body, "n", MAX_CHOICES) or 1
    return Call(operation, model, body, stream, options.get("include_usage") is True, choices, most, len(raw))


def _messages(messages: Any) -> list[dict[str, Any]]:
    """Messages with their text parts joined: what is inspected is then exactly what the model is given."""
    if not isinstance(messages, list) or not messages:
        raise _field("messages", "a list of at least one message")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise _field("messages", f"messages with one of the roles {', '.join(sorted(_ROLES))}")
        if not _MESSAGE.issuperset(message):
            raise _unknown(min(message.keys() - _MESSAGE), CHAT)
        content = message.get("content")
        if isinstance(content, list):
            message["content"] = "\n".join(map(_text_part, content))
        elif content is not None and not isinstance(content, str):
            raise _field("content", "a string or a list of text parts")
    return messages


def _text_part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and part.keys() == {"type", "text"}:
        text = part["text"]
        if isinstance(text, str):
            return text
    kind = part.get("type") if isinstance(part, dict) else None
    known = kind if kind in ("image_url", "input_audio", "file", "refusal") else "of this kind"
    raise Usage(
        "GW-PART",
        f"a message part {known} cannot be inspected and is not passed on",
        fix="send text parts only",
    )


def _check_inputs(body: dict[str, Any], name: str) -> None:
    value = body.get(name)
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not 0 < len(value) <= MAX_INPUTS:
        raise _field(name, f"a string or a list of 1 to {MAX_INPUTS} strings")
    if not all(isinstance(text, str) for text in value):
        raise Usage(
            "GW-PART",
            f"{name} holds token ids, which cannot be inspected",
            fix="send the text itself; the model server turns it into tokens",
        )


def _count(body: dict[str, Any], name: str, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise _field(name, f"a whole number from 1 to {most}")
    return value


def rewrite_strings(value: Any, rewrite: Callable[[str], str]) -> Any:
    """`value` with every string in it, keys included, replaced by `rewrite(string)`; API words are left alone.

    Recursion is bounded by the depth that `parse_object` admits.
    """
    if isinstance(value, str):
        return value if value in _VOCABULARY else rewrite(value)
    if isinstance(value, dict):
        return {
            (name if name in _VOCABULARY else rewrite(name)): rewrite_strings(item, rewrite)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [rewrite_strings(item, rewrite) for item in value]
    return value


def strings_of(body: dict[str, Any]) -> list[str]:
    """Every string that `rewrite_strings` would rewrite in a body, the name of the model left out; in no order."""
    found: list[str] = []
    values: list[Any] = [value for name, value in body.items() if name != "model"]
    for value in values:  # it grows as it is walked
        kind = type(value)
        if kind is str:
            if value not in _VOCABULARY:
                found.append(value)
        elif kind is dict:
            values += value.values()
            if not _VOCABULARY.issuperset(value):
                found += [name for name in value if name not in _VOCABULARY]
        elif kind is list:
            values += value
    return found


def _field(name: str, expected: str) -> Usage:
    return Usage(
        "GW-FIELD",
        f"{name} has to be {expected}",
        fix="change the request as the OpenAI API describes it",
        evidence={"param": name},
    )


def _unknown(name: str, operation: Operation) -> Usage:
    shown = name[:64] if re.fullmatch(r"[A-Za-z0-9_.-]+", name) else "with an unusual name"
    if _STEERING.search(name):
        return Usage(
            "GW-STEER",
            f"the field {shown} would choose where the request goes; only the signed configuration does that",
            fix=f"remove {shown}; ask an operator to add a route if a model is missing",
            evidence={"param": shown},
        )
    return Usage(
        "GW-FIELD",
        f"the field {shown} is not one that {operation.path} passes on",
        fix=f"remove {shown}",
        evidence={"param": shown},
    )
