"""Anthropic-style messages, read as a chat request: a closed list of fields and block kinds.

Documents, searches, containers and tools that the vendor itself runs are refused: they would act outside of what
is inspected and recorded here. `thinking` becomes the effort that a chat model is asked for.
"""

from __future__ import annotations

from typing import Any

import orjson

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
from garrison.gateway.openai_shapes import CHAT, MAX_TOKENS, Call, Operation
from garrison.gateway.parts import content_of, image_of, image_part, images_of, part_refused
from garrison.gateway.strict_json import parse_object

_FIELDS = words(
    "model messages max_tokens system stop_sequences stream temperature top_p top_k tools tool_choice thinking"
)
_DROPPED = words("metadata service_tier")
_EMPTY = ("container", "mcp_servers", "context_management")
_TEXT = words("type text cache_control citations")
_IMAGE = words("type source cache_control")
_USE = words("type id name input cache_control caller")
_RESULT = words("type tool_use_id content is_error cache_control")
_THINKING = words("type thinking signature")
_TOOL = words("type name description input_schema cache_control strict")
_EFFORTS = ((2_048, "low"), (8_192, "medium"))  # thinking tokens, as an effort

MESSAGES = Operation("messages", "chat", "/v1/messages", _FIELDS, True, CHAT.asked)


def parse_messages(raw: bytes, depth: int) -> Call:
    """The request in `raw`. Raises `Usage` HTTP-JSON, GW-STEER, GW-FIELD or GW-PART."""
    body = parse_object(raw, depth)
    absent(body, _EMPTY, "left out: it would act outside of this gateway")
    if not _FIELDS.issuperset(body):
        drop(body, _FIELDS, _DROPPED, MESSAGES.path)
    model = model_of(body)
    most = count(body, "max_tokens", MAX_TOKENS)
    if most is None:
        raise wrong("max_tokens", "stated")
    messages = _system(body.get("system"))
    for message in list_of(body.get("messages"), "messages"):
        messages += _message(message)
    chat: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": most}
    for name in ("temperature", "top_p", "top_k"):
        if body.get(name) is not None:
            chat[name] = body[name]
    if body.get("stop_sequences"):
        chat["stop"] = [text_of(text, "stop_sequences") for text in list_of(body["stop_sequences"], "stop")]
    stream = flag(body, "stream")
    if stream:
        chat["stream"] = True
    chat |= _tools(body) | _thinking(body.get("thinking"))
    images = tuple(images_of(messages))
    return Call(MESSAGES, model, chat, stream, True, 1, most, len(raw), images=images)


def _system(value: Any) -> list[dict[str, Any]]:
    if not value:
        return []
    if isinstance(value, list):
        value = "\n".join(_text(block) for block in value)
    return [{"role": "system", "content": text_of(value, "system")}]


def _text(block: Any) -> str:
    if not isinstance(block, dict) or block.get("type") != "text":
        raise part_refused(block)
    if block.get("citations"):
        raise wrong("citations", "left out")
    return text_of(only(block, _TEXT, "a text block").get("text"), "text")


def _message(message: Any) -> list[dict[str, Any]]:
    """One message as one or several of a chat: each tool result is a message of its own there."""
    role = only(message, words("role content"), "a message").get("role")
    if role not in ("user", "assistant"):
        raise wrong("messages", "messages with the role user or assistant")
    content = message.get("content")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    blocks = list_of(content, "content")
    return [_assistant(blocks)] if role == "assistant" else _user(blocks)


def _user(blocks: list[Any]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    said: list[str | dict[str, Any]] = []
    for block in blocks:
        if isinstance(block, dict) and block.get("type") == "tool_result":
            block = only(block, _RESULT, "a tool result")
            inner = block.get("content") or ""
            parts = (
                [inner] if isinstance(inner, str) else [_shown(part) for part in list_of(inner, "content")]
            )
            call = text_of(block.get("tool_use_id"), "tool_use_id")
            results.append({"role": "tool", "tool_call_id": call, "content": content_of(parts)})
        else:
            said.append(_shown(block))
    return [*results, {"role": "user", "content": content_of(said)}] if said else results


def _shown(block: Any) -> str | dict[str, Any]:
    if isinstance(block, dict) and block.get("type") == "image":
        source = only(block, _IMAGE, "an image block").get("source")
        if not isinstance(source, dict) or source.get("type") != "base64":
            raise part_refused({"type": "image_url"})
        only(source, words("type media_type data"), "an image source")
        return image_part(image_of(source.get("media_type"), source.get("data")))
    return _text(block)


def _assistant(blocks: list[Any]) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "tool_use":
            block = only(block, _USE, "a tool use")
            given = block.get("input", {})
            if not isinstance(given, dict):
                raise wrong("input", "an object")
            arguments = orjson.dumps(given).decode()
            function = {"name": text_of(block.get("name"), "name"), "arguments": arguments}
            calls.append({"id": text_of(block.get("id"), "id"), "type": "function", "function": function})
        elif kind == "thinking":
            thoughts.append(text_of(only(block, _THINKING, "a thinking block").get("thinking"), "thinking"))
        else:
            texts.append(_text(block))
    message: dict[str, Any] = {"role": "assistant", "content": "\n".join(texts) if texts else None}
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _tools(body: dict[str, Any]) -> dict[str, Any]:
    """Tools that the caller itself runs; those of the vendor have another type."""
    shown: dict[str, Any] = {}
    tools = body.get("tools")
    if tools:
        shown["tools"] = [_tool(tool) for tool in list_of(tools, "tools")]
    choice = body.get("tool_choice")
    if choice is None:
        return shown
    only(choice, words("type name disable_parallel_tool_use"), "tool_choice")
    if flag(choice, "disable_parallel_tool_use"):
        shown["parallel_tool_calls"] = False
    kind = choice.get("type")
    known = {"auto": "auto", "any": "required", "none": "none"}
    if isinstance(kind, str) and kind in known:
        shown["tool_choice"] = known[kind]
    elif kind == "tool":
        shown["tool_choice"] = {"type": "function", "function": {"name": text_of(choice.get("name"), "name")}}
    else:
        raise wrong("tool_choice", "of type auto, any, none or tool")
    return shown


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, dict) or tool.get("type", "custom") not in ("custom", None):
        raise wrong("tools", "tools that the caller runs, of type custom")
    only(tool, _TOOL, "a tool")
    function: dict[str, Any] = {"name": text_of(tool.get("name"), "name")}
    if "description" in tool:
        function["description"] = text_of(tool["description"], "description")
    if "input_schema" in tool:
        function["parameters"] = tool["input_schema"]
    if tool.get("strict") is not None:
        function["strict"] = flag(tool, "strict")
    return {"type": "function", "function": function}


def _thinking(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    only(value, words("type budget_tokens"), "thinking")
    if value.get("type") == "disabled":
        return {}
    if value.get("type") != "enabled":
        raise wrong("thinking", "enabled with budget_tokens, or disabled")
    budget = count(value, "budget_tokens", MAX_TOKENS) or 0
    return {"reasoning_effort": next((name for most, name in _EFFORTS if budget <= most), "high")}
