"""OpenAI-style responses, read as a chat request: a closed list of fields and item kinds.

Nothing is kept between requests, so what refers to an earlier answer is refused, and so are tools that the vendor
itself runs: they would act outside of what is inspected and recorded here.
"""

from __future__ import annotations

from typing import Any

from garrison.gateway.fields import (
    absent,
    count,
    drop,
    flag,
    list_of,
    model_of,
    only,
    text_of,
    words,
    wrong,
)
from garrison.gateway.openai_shapes import (
    CHAT,
    DROPPED,
    MAX_TOKENS,
    Call,
    Operation,
    plain_arguments,
    wants_json,
)
from garrison.gateway.parts import content_of, image_part, image_url, images_of, part_refused
from garrison.gateway.strict_json import parse_object

_FIELDS = words(
    "model input instructions max_output_tokens temperature top_p stream stream_options tools tool_choice "
    "parallel_tool_calls text reasoning"
)
_EMPTY = (
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
    "max_tool_calls",
    "top_logprobs",
    "include",
)
_MESSAGE = words("type role content id status phase")
_CALL = words("type call_id name arguments id status")
_OUTPUT = words("type call_id output id status")
_REASONING = words("type id summary content encrypted_content status")
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_TEXT_PART = words("type text annotations logprobs")
_FORMAT = words("type name schema strict description")
_TOOL = words("type name description parameters strict")
_ROLES = ("user", "assistant", "system", "developer")
_ECHOED = ("max_output_tokens", "temperature", "top_p", "parallel_tool_calls")

RESPONSES = Operation("responses", "chat", "/v1/responses", _FIELDS, True, CHAT.asked)


def parse_responses(raw: bytes, depth: int) -> Call:
    """The request in `raw`. Raises `Usage` HTTP-JSON, GW-STEER, GW-FIELD or GW-PART."""
    body = parse_object(raw, depth)
    absent(body, _EMPTY, "left out: nothing is kept here between requests")
    if body.pop("truncation", None) not in (None, "disabled"):
        raise wrong("truncation", "disabled")
    if not _FIELDS.issuperset(body):
        drop(body, _FIELDS, DROPPED, RESPONSES.path)
    model = model_of(body)
    most = count(body, "max_output_tokens", MAX_TOKENS)
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": text_of(body["instructions"], "instructions")})
    messages += _items(body.get("input"))
    chat: dict[str, Any] = {"model": model, "messages": messages}
    if most is not None:
        chat["max_tokens"] = most
    for name in ("temperature", "top_p"):
        if body.get(name) is not None:
            chat[name] = body[name]
    if body.get("parallel_tool_calls") is not None:
        chat["parallel_tool_calls"] = flag(body, "parallel_tool_calls")
    stream = flag(body, "stream")
    if stream:
        chat["stream"] = True
    chat |= _tools(body) | _text(body.get("text")) | _reasoning(body.get("reasoning"))
    # The answer repeats settings, never texts: those were inspected for the model, not for the caller.
    echo = {name: body[name] for name in _ECHOED if type(body.get(name)) in (int, float, bool)}
    is_json = wants_json(chat.get("response_format"))
    images = tuple(images_of(messages))
    return Call(RESPONSES, model, chat, stream, True, 1, most, len(raw), is_json, images, echo)


def _items(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    messages: list[dict[str, Any]] = []
    thought = ""
    for item in list_of(value, "input"):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind == "message":
            message = _message(item)
        elif kind == "function_call":
            message = {"role": "assistant", "content": None, "tool_calls": [_function_call(item)]}
            before = messages[-1] if messages else {}
            if before.get("role") == "assistant" and not thought:  # one turn of the model may call several
                before.setdefault("tool_calls", []).extend(message["tool_calls"])
                continue
        elif kind == "function_call_output":
            message = _function_output(item)
        elif kind == "reasoning":
            thought = _thought(item)
            continue
        else:
            raise wrong("input", "messages, function calls, their outputs and reasoning")
        if thought and message["role"] == "assistant":
            message["reasoning_content"], thought = thought, ""
        messages.append(message)
    if not messages:
        raise wrong("input", "a text or a list with a message in it")
    return messages


def _message(item: dict[str, Any]) -> dict[str, Any]:
    role = only(item, _MESSAGE, "a message").get("role")
    if role not in _ROLES:
        raise wrong("input", f"messages with one of the roles {', '.join(_ROLES)}")
    content = item.get("content")
    if isinstance(content, str):
        return {"role": role, "content": content}
    return {"role": role, "content": content_of([_part(part) for part in list_of(content, "content")])}


def _part(part: Any) -> str | dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _TEXTS:
        only(part, _TEXT_PART, "a text part")
        absent(part, ("annotations", "logprobs"), "left out")
        return text_of(part.get("text"), "text")
    if kind == "refusal":
        return text_of(only(part, words("type refusal"), "a refusal").get("refusal"), "refusal")
    if kind == "input_image":
        only(part, words("type image_url detail file_id"), "an image")
        absent(part, ("file_id",), "left out: send the image itself")
        return image_part(image_url(part.get("image_url")), part.get("detail"))
    raise part_refused(part)


def _function_call(item: dict[str, Any]) -> dict[str, Any]:
    only(item, _CALL, "a function call")
    function = {
        "name": text_of(item.get("name"), "name"),
        "arguments": text_of(item.get("arguments"), "arguments"),
    }
    call = {"id": text_of(item.get("call_id"), "call_id"), "type": "function", "function": function}
    plain_arguments([call])
    return call


def _function_output(item: dict[str, Any]) -> dict[str, Any]:
    only(item, _OUTPUT, "the output of a function call")
    output = item.get("output")
    parts = [output] if isinstance(output, str) else [_part(part) for part in list_of(output, "output")]
    call = text_of(item.get("call_id"), "call_id")
    return {"role": "tool", "tool_call_id": call, "content": content_of(parts)}


def _thought(item: dict[str, Any]) -> str:
    only(item, _REASONING, "reasoning")
    absent(item, ("encrypted_content",), "left out: what cannot be read cannot be inspected")
    parts = [*(item.get("content") or ()), *(item.get("summary") or ())]
    return "\n".join(text for text in map(_part, parts) if isinstance(text, str))


def _tools(body: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if body.get("tools"):
        shown["tools"] = [_tool(tool) for tool in list_of(body["tools"], "tools")]
    choice = body.get("tool_choice")
    if choice is None:
        return shown
    if isinstance(choice, dict):
        name = text_of(only(choice, words("type name"), "tool_choice").get("name"), "name")
        if choice.get("type") != "function":
            raise wrong("tool_choice", "a function, auto, none or required")
        shown["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif choice in ("auto", "none", "required"):
        shown["tool_choice"] = choice
    else:
        raise wrong("tool_choice", "a function, auto, none or required")
    return shown


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise wrong("tools", "functions that the caller runs")
    only(tool, _TOOL, "a tool")
    return {
        "type": "function",
        "function": {name: tool[name] for name in _TOOL - {"type"} if tool.get(name) is not None},
    }


def _text(value: Any) -> dict[str, Any]:
    """`text.format` is the response format of a chat, with its schema one level up."""
    if value is None:
        return {}
    only(value, words("format verbosity"), "text")
    shown = {} if value.get("verbosity") is None else {"verbosity": value["verbosity"]}
    form = value.get("format")
    if form is None or form == {"type": "text"}:
        return shown
    kind = only(form, _FORMAT, "text.format").get("type")
    if kind == "json_object":
        return {**shown, "response_format": {"type": kind}}
    if kind != "json_schema":
        raise wrong("text.format", "text, json_object or json_schema")
    schema = {name: item for name, item in form.items() if name != "type" and item is not None}
    return {**shown, "response_format": {"type": kind, "json_schema": schema}}


def _reasoning(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    only(value, words("effort summary generate_summary"), "reasoning")
    return {} if value.get("effort") is None else {"reasoning_effort": value["effort"]}
