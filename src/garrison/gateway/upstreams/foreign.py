"""What the shapes of other vendors' models share: which fields they know, roles in turn, tool arguments, images.

The chat body that comes in was inspected. A field without a counterpart at the vendor is refused, because leaving it
out would change the answer without saying so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from garrison.gateway.fields import wrong

_ALWAYS = frozenset({"model", "messages", "stream", "stream_options", "n"})


def check(body: dict[str, Any], known: frozenset[str], vendor: str, most: int = 1) -> None:
    """Raises `Usage` GW-FIELD for a field that `vendor` has no word for."""
    for name, value in body.items():
        if name not in known and name not in _ALWAYS and value is not None:
            raise wrong(name, f"left out: {vendor} has nothing like it")
    if (body.get("n") or 1) > most:
        raise wrong("n", f"{most} at most for {vendor}")


def system_of(body: dict[str, Any]) -> str:
    said = [message for message in body["messages"] if message["role"] in ("system", "developer")]
    return "\n\n".join(message["content"] for message in said if message.get("content"))


def maximum_of(body: dict[str, Any]) -> int | None:
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    return most if isinstance(most, int) else None


def stops_of(body: dict[str, Any]) -> list[str]:
    stop = body.get("stop")
    return [stop] if isinstance(stop, str) else list(stop or ())


def in_turn(
    body: dict[str, Any], parts: Callable[[dict[str, Any]], list[dict[str, Any]]], model: str
) -> list[tuple[str, list[dict[str, Any]]]]:
    """The messages as (role, parts) with roles taking turns; a tool's result is said by the user."""
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for message in body["messages"]:
        role = message["role"]
        if role in ("system", "developer"):
            continue
        speaker = model if role == "assistant" else "user"
        said = parts(message)
        if turns and turns[-1][0] == speaker:
            turns[-1][1].extend(said)
        elif said:
            turns.append((speaker, said))
    return turns


def content_parts(
    message: dict[str, Any],
    text: Callable[[str], dict[str, Any]],
    image: Callable[[str, str], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Text and images of a message; `image` is given the kind, such as `image/png`, and the base64."""
    content = message.get("content")
    if not content:
        return []
    if isinstance(content, str):
        return [text(content)]
    shown = []
    for part in content:
        if part["type"] == "text":
            shown.append(text(part["text"]))
        else:
            head, _, encoded = str(part["image_url"]["url"]).partition(",")
            shown.append(image(head[5:-7], encoded))
    return shown


def calls_of(message: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """(id, name, arguments) of each tool call. Raises `Usage` GW-FIELD when arguments are not an object."""
    found = []
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise wrong("tool_calls", "calls of functions")
        try:
            arguments = orjson.loads(function.get("arguments") or "{}")
        except (orjson.JSONDecodeError, TypeError):
            arguments = None
        if not isinstance(arguments, dict):
            raise wrong("arguments", "a JSON object")
        found.append((str(call.get("id", "")), str(function.get("name", "")), arguments))
    return found


def tools_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The functions of the tools: name, description, parameters."""
    functions = []
    for tool in body.get("tools") or ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise wrong("tools", "a list of functions")
        functions.append(function)
    return functions


def choice_of(body: dict[str, Any]) -> tuple[str, str]:
    """(`auto`, `none`, `required`, `function` or empty, the name of the function)."""
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        function = choice.get("function")
        return "function", str(function.get("name", "")) if isinstance(function, dict) else ""
    return (choice, "") if choice in ("auto", "none", "required") else ("", "")


def chat_answer(
    texts: list[str], thoughts: list[str], calls: list[tuple[str, str, Any]], finish: str
) -> dict[str, Any]:
    """One choice of a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = [
            {
                "id": call,
                "type": "function",
                "function": {"name": name, "arguments": orjson.dumps(given).decode()},
            }
            for call, name, given in calls
        ]
    return {"index": 0, "message": message, "finish_reason": finish}


def usage(prompt: Any, completion: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion}


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    """One event of a chat stream."""
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def call_begins(at: int, identifier: Any, name: Any) -> dict[str, Any]:
    return chunk(
        {"tool_calls": [{"index": at, "id": identifier, "function": {"name": name, "arguments": ""}}]}
    )


def call_goes_on(at: int, text: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": at, "function": {"arguments": text}}]})
