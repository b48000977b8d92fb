"""OpenAI-style requests - chat, completions, embeddings - as a closed list of fields, nothing passed on unseen.

What comes out, a `Call`, is the one shape that everything behind it knows: the other doors (`responses_in`,
`messages_in`) make the same chat body of theirs. Token ids, audio and files are refused: text that cannot be read
cannot be inspected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from garrison.core.errors import Usage
from garrison.gateway.fields import count, drop, flag, model_of, only, text_of, unknown, words, wrong
from garrison.gateway.parts import Image, content_of, image_part, image_url, images_of, part_refused
from garrison.gateway.strict_json import parse_object

MAX_CHOICES = 8  # n: each is a whole generation
MAX_INPUTS = 2_048  # texts in one embeddings or completions request, as the OpenAI API has it
MAX_TOKENS = 1_000_000

_SAMPLING = words(
    "temperature top_p top_k min_p presence_penalty frequency_penalty repeat_penalty repetition_penalty seed stop "
    "n stream stream_options max_tokens logit_bias logprobs"
)
_CHAT = _SAMPLING | words(
    "model messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls response_format "
    "reasoning_effort verbosity"
)
# They speak to a vendor's account, not to a model: accepted so that clients work, never passed on.
DROPPED = words("user metadata store service_tier safety_identifier prompt_cache_key")
_MESSAGE = words("role content name tool_calls tool_call_id refusal reasoning_content")
# No set: a caller may send what cannot be hashed.
_ROLES = ("assistant", "developer", "system", "tool", "user")
_TEXT_PART, _IMAGE_PART = words("type text"), words("type image_url")
# Words of the API itself, which say nothing to a model beyond their meaning: not worth an inspection.
_VOCABULARY = (
    _CHAT
    | _MESSAGE
    | frozenset(_ROLES)
    | words(
        "text type function auto none required object string number integer boolean array properties description "
        "parameters strict json_object json_schema schema enum items arguments id index input prompt suffix low medium "
        "high minimal additionalProperties include_usage dimensions encoding_format float base64 image_url url detail"
    )
)
_JSON_FORMATS = ("json_object", "json_schema")
_FORMAT = words("type json_schema schema")


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint. `task` is what a served model has to offer for it; `asked` the path at its server."""

    name: str
    task: str
    path: str
    fields: frozenset[str]
    streams: bool
    asked: str


CHAT = Operation("chat", "chat", "/v1/chat/completions", _CHAT, True, "/v1/chat/completions")
COMPLETIONS = Operation(
    "completions",
    "completions",
    "/v1/completions",
    _SAMPLING | {"model", "prompt", "suffix"},
    True,
    "/v1/completions",
)
EMBEDDINGS = Operation(
    "embeddings",
    "embeddings",
    "/v1/embeddings",
    frozenset({"model", "input", "encoding_format", "dimensions"}),
    False,
    "/v1/embeddings",
)


class Call(NamedTuple):
    """A parsed request. `body` holds listed fields only; `model` and usage options are set when it is sent.

    `echo` is what the answer repeats of the request, in the APIs that do so.
    """

    operation: Operation
    model: str
    body: dict[str, Any]
    stream: bool
    wants_usage: bool
    choices: int
    max_tokens: int | None
    size: int  # bytes of the body as it came: what reservations are estimated from
    is_json: bool = False  # the answer is a JSON document: it is inspected as one
    images: tuple[Image, ...] = ()
    echo: dict[str, Any] | None = None


def parse_call(operation: Operation, raw: bytes, depth: int) -> Call:
    """The request in `raw`. Raises `Usage` HTTP-JSON, GW-STEER, GW-FIELD or GW-PART."""
    body = parse_object(raw, depth)
    if not operation.fields.issuperset(body):
        drop(body, operation.fields, DROPPED, operation.path)
    model = model_of(body)
    images: tuple[Image, ...] = ()
    if operation is CHAT:
        images = _messages(body.get("messages"))
    else:
        _check_inputs(body, "prompt" if operation is COMPLETIONS else "input")
    stream = "stream" in body and flag(body, "stream")
    wants_usage = "stream_options" in body and _wants_usage(body.pop("stream_options"))
    if stream and (body.get("logprobs") or body.get("top_logprobs")):
        raise wrong("logprobs", "left out of streams: they would show what is redacted later")
    most = count(body, "max_tokens", MAX_TOKENS) if "max_tokens" in body else None
    if "max_completion_tokens" in body:
        most = count(body, "max_completion_tokens", MAX_TOKENS) or most
    choices = (count(body, "n", MAX_CHOICES) or 1) if "n" in body else 1
    is_json = "response_format" in body and _is_json(body["response_format"])
    return Call(operation, model, body, stream, wants_usage, choices, most, len(raw), is_json, images)


def _wants_usage(options: Any) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict) or not options.keys() <= {"include_usage", "include_obfuscation"}:
        raise wrong("stream_options", "an object with include_usage only")
    return options.get("include_usage") is True


def _is_json(form: Any) -> bool:
    """Only the forms of the API: grammars and expressions are programs that a model server would run."""
    if form is None:
        return False
    if not isinstance(form, dict) or form.get("type") not in ("text", *_JSON_FORMATS):
        raise wrong("response_format", "of the type text, json_object or json_schema")
    only(form, _FORMAT, "response_format")
    return wants_json(form)


def wants_json(form: Any) -> bool:
    return isinstance(form, dict) and form.get("type") in _JSON_FORMATS


def _messages(messages: Any) -> tuple[Image, ...]:
    """Check messages and join their text parts: what is inspected is then exactly what the model is given."""
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", "a list of at least one message")
    has_images = False
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise wrong("messages", f"messages with one of the roles {', '.join(_ROLES)}")
        if not _MESSAGE.issuperset(message):
            raise unknown(min(message.keys() - _MESSAGE), CHAT.path)
        content = message.get("content")
        if isinstance(content, list):
            message["content"] = joined = content_of([_part(part) for part in content])
            has_images = has_images or type(joined) is list
        elif content is not None and not isinstance(content, str):
            raise wrong("content", "a string or a list of text parts")
        if "tool_calls" in message:
            plain_arguments(message["tool_calls"])
    return tuple(images_of(messages)) if has_images else ()


def _part(part: Any) -> str | dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return text_of(only(part, _TEXT_PART, "content").get("text"), "text")
    if kind == "image_url":
        image = only(part, _IMAGE_PART, "content").get("image_url")
        if not isinstance(image, dict) or not image.keys() <= {"url", "detail"}:
            raise wrong("image_url", "an object with url and detail")
        return image_part(image_url(image.get("url")), image.get("detail"))
    raise part_refused(part)


def plain_arguments(calls: Any) -> None:
    """Arguments spelled with JSON escapes are written plainly, so that what is inspected is what they say."""
    if not isinstance(calls, list):
        raise wrong("tool_calls", "a list")
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        text = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(function, dict) and isinstance(text, str) and "\\" in text:
            try:
                function["arguments"] = orjson.dumps(orjson.loads(text)).decode()
            except orjson.JSONDecodeError:
                continue  # not JSON: it says what it says


def _check_inputs(body: dict[str, Any], name: str) -> None:
    value = body.get(name)
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not 0 < len(value) <= MAX_INPUTS:
        raise wrong(name, f"a string or a list of 1 to {MAX_INPUTS} strings")
    if not all(isinstance(text, str) for text in value):
        raise Usage(
            "GW-PART",
            f"{name} holds token ids, which cannot be inspected",
            fix="send the text itself; the model server turns it into tokens",
        )


def rewrite_strings(value: Any, rewrite: Callable[[str], str]) -> Any:
    """`value` with every string in it, keys included, replaced by `rewrite(string)`; API words are left alone.

    Recursion is bounded by the depth that `parse_object` admits.
    """
    if isinstance(value, str):
        return value if value in _VOCABULARY or type(value) is Image else rewrite(value)
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
