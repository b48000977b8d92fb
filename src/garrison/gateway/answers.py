"""A model server's whole answer, rebuilt from a closed list of fields, every text inspected.

Nothing is copied that is not named here: what a model server adds - timings, prompts, internal ids - stays
behind, and no text can leave by a field that nobody looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from garrison.core.errors import Undecided
from garrison.gateway.inference_v2 import TASK as INFER_TASK
from garrison.gateway.inference_v2 import read_tensors
from garrison.gateway.openai_shapes import MAX_INPUTS, Call
from garrison.gateway.redaction import Redaction
from garrison.gateway.upstreams.connection import malformed

MAX_TOOL_CALLS = 64
MAX_COUNT = 1 << 32  # tokens: more is no count
# The texts of a chat answer in the order of their meaning, and the names they leave by: reasoning has two.
TEXT_FIELDS = {
    "reasoning_content": "reasoning_content",
    "reasoning": "reasoning_content",
    "content": "content",
    "refusal": "refusal",
}
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}\Z")
FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


class Usage(NamedTuple):
    """Tokens, as the model server counted them."""

    prompt: int
    completion: int

    def as_json(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


def usage_of(value: Any) -> Usage | None:
    """The usage object of an answer, or None when it has none that counts."""
    if not isinstance(value, dict):
        return None
    prompt, completion = value.get("prompt_tokens", 0), value.get("completion_tokens", 0)
    if type(prompt) is not int or type(completion) is not int:
        return None
    return Usage(prompt, completion) if 0 <= prompt < MAX_COUNT and 0 <= completion < MAX_COUNT else None


def read_answer(value: Any, call: Call, redaction: Redaction) -> tuple[list[dict[str, Any]], Usage | None]:
    """The choices of an answer (or its embeddings), inspected, and its usage. Raises `Undecided` GW-ANSWER."""
    if not isinstance(value, dict):
        raise malformed("an answer that is not a JSON object")
    if call.operation.task == INFER_TASK:
        return read_tensors(value, call, redaction), None
    usage = usage_of(value.get("usage"))
    if call.operation.task == "embeddings":
        return _embeddings(value), usage
    choice = _text_choice if call.operation.task == "completions" else _chat_choice
    return _choices(value, call, redaction, choice), usage


def parse_answer(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise malformed("an answer that is not JSON") from None


def _choices(
    value: dict[str, Any],
    call: Call,
    redaction: Redaction,
    rebuilt: Callable[[dict[str, Any], Redaction, bool], dict[str, Any]],
) -> list[dict[str, Any]]:
    choices = value.get("choices")
    most = call.choices * (len(call.body["prompt"]) if isinstance(call.body.get("prompt"), list) else 1)
    if not isinstance(choices, list) or not 0 < len(choices) <= most:
        raise malformed("an answer without the choices that were asked for")
    logprobs = bool(call.body.get("logprobs"))
    shown = []
    for number, choice in enumerate(choices):
        if not isinstance(choice, dict):
            raise malformed("a choice that is not an object")
        before = len(redaction.findings) if logprobs else 0
        one = {
            "index": number,
            **rebuilt(choice, redaction, call.is_json),
            "finish_reason": finish_of(choice),
        }
        # Log probabilities spell the text again, token by token: they go when any of it was replaced.
        if logprobs and isinstance(choice.get("logprobs"), dict):
            one["logprobs"] = choice["logprobs"] if len(redaction.findings) == before else None
        shown.append(one)
    return shown


def finish_of(choice: dict[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    if reason is None:
        return None
    return reason if isinstance(reason, str) and reason in FINISHES else "stop"


def _chat_choice(choice: dict[str, Any], redaction: Redaction, is_json: bool) -> dict[str, Any]:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise malformed("a choice without a message")
    shown: dict[str, Any] = {"role": "assistant", "content": None}
    for name, shown_as in TEXT_FIELDS.items():
        text = message.get(name)
        if isinstance(text, str) and not shown.get(shown_as):  # some servers say reasoning by both its names
            as_json = is_json and name == "content"
            shown[shown_as] = redaction.arguments(text) if as_json else redaction.whole(text)
    calls = message.get("tool_calls")
    if calls:
        if not isinstance(calls, list) or len(calls) > MAX_TOOL_CALLS:
            raise malformed("tool calls that are not a short list")
        shown["tool_calls"] = [tool_call(number, item, redaction) for number, item in enumerate(calls)]
    return {"message": shown}


def tool_call(number: int, item: Any, redaction: Redaction) -> dict[str, Any]:
    """One complete tool call, its name and arguments inspected."""
    function = item.get("function") if isinstance(item, dict) else None
    if not isinstance(function, dict):
        raise malformed("a tool call without a function")
    name, arguments = function.get("name"), function.get("arguments", "")
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise malformed("a tool call whose name or arguments are not text")
    identifier = item.get("id")
    known = isinstance(identifier, str) and _IDENTIFIER.match(identifier)
    return {
        "id": redaction.whole(identifier) if known else f"call_{number}",
        "type": "function",
        "function": {"name": redaction.whole(name), "arguments": redaction.arguments(arguments)},
    }


def _text_choice(choice: dict[str, Any], redaction: Redaction, _is_json: bool) -> dict[str, Any]:
    text = choice.get("text")
    if not isinstance(text, str):
        raise malformed("a choice without text")
    return {"text": redaction.whole(text)}


def _embeddings(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Numbers only: a list of numbers, or their base64, per input."""
    rows = value.get("data")
    if not isinstance(rows, list) or len(rows) > MAX_INPUTS:
        raise malformed("an answer without embeddings")
    data = []
    for number, row in enumerate(rows):
        vector = row.get("embedding") if isinstance(row, dict) else None
        if isinstance(vector, list):
            if not all(type(item) in (float, int) for item in vector):
                raise malformed("an embedding that is not numbers")
        elif not isinstance(vector, str) or not _BASE64.match(vector):
            raise malformed("an embedding that is neither numbers nor base64")
        data.append({"object": "embedding", "index": number, "embedding": vector})
    return data


def upstream_error(status: int, raw: bytes, redaction: Redaction) -> Undecided:
    """What to say of an answer with an error status. Some explain the caller's own request; they are inspected.

    What a provider says of its key (401, 403) is for nobody but the operator.
    """
    message = ""
    if status == 429:
        return Undecided(
            "GW-BUSY",
            "the model server has too much to do",
            fix="try again in a few seconds",
            retry_after=5,
        )
    if status in (400, 413, 422) and len(raw) <= 65_536:
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError:
            value = None
        error = value.get("error") if isinstance(value, dict) else None
        text = error.get("message") if isinstance(error, dict) else None
        if isinstance(text, str):
            message = "".join(char if char.isprintable() else " " for char in redaction.whole(text))[:300]
    if message:
        return Undecided(
            "GW-REJECTED",
            f"the model server did not take this request: {message}",
            fix="change the request: a shorter prompt, or only options that this model supports",
        )
    return Undecided(
        "GW-UPSTREAM",
        f"the model server answered with status {status}",
        fix="try again in a moment; if it stays so, ask an operator to look at garrison posture",
        retry_after=2,
    )
