"""The doors of the gateway: every path with a body, how its requests are read and its answers written.

Behind every door is the same chat (or completion, or embedding): one shape is decided on, inspected and recorded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from garrison.core.errors import GarrisonError
from garrison.gateway.answers import Usage
from garrison.gateway.http_parse import Head
from garrison.gateway.inference_v2 import asked_of, tensors_body
from garrison.gateway.messages_in import MESSAGES, parse_messages
from garrison.gateway.messages_out import MessagesWriter, messages_body, messages_error
from garrison.gateway.openai_out import (
    ChatWriter,
    Named,
    TextWriter,
    Writer,
    chat_body,
    embeddings_body,
    text_body,
)
from garrison.gateway.openai_shapes import CHAT, COMPLETIONS, EMBEDDINGS, Call, Operation, parse_call
from garrison.gateway.replies import error_json
from garrison.gateway.responses_in import RESPONSES, parse_responses
from garrison.gateway.responses_out import ResponsesWriter, responses_body

MODELS = "/v1/models"
_ONE_MODEL = re.compile(r"/v1/models/([a-z0-9][a-z0-9._-]{0,127}(?:@[0-9]{1,9})?)\Z")


class Door(NamedTuple):
    """`parse` reads a request, `body` writes a whole answer, `writer` a streamed one."""

    operation: Operation
    parse: Callable[[bytes, int], Call]
    body: Callable[[list[dict[str, Any]], Usage | None, Call, Named], bytes]
    writer: Callable[[Call, Named], Writer]
    method: str = "POST"


DOORS = {
    door.operation.path: door
    for door in (
        Door(CHAT, partial(parse_call, CHAT), chat_body, ChatWriter),
        Door(COMPLETIONS, partial(parse_call, COMPLETIONS), text_body, TextWriter),
        Door(EMBEDDINGS, partial(parse_call, EMBEDDINGS), embeddings_body, ChatWriter),
        Door(RESPONSES, parse_responses, responses_body, ResponsesWriter),
        Door(MESSAGES, parse_messages, messages_body, MessagesWriter),
    )
}


def door_of(target: str) -> Door | None:
    """The door at exactly this path: no normalising, no prefix, no query."""
    door = DOORS.get(target)
    if door is None and (asked := asked_of(target)) is not None:
        return Door(asked.operation, asked.parse, _tensors, ChatWriter, asked.method)
    return door


def _tensors(rows: list[dict[str, Any]], _usage: Usage | None, call: Call, named: Named) -> bytes:
    return tensors_body(rows, call, named.request_id, named.served)


def model_asked(target: str) -> str | None:
    """The model that `GET /v1/models/NAME` asks about; None for any other path."""
    found = _ONE_MODEL.match(target)
    return found.group(1) if found else None


def error_text(head: Head | None, error: GarrisonError, request_id: str) -> bytes:
    """A refusal as the client that sent `head` knows refusals."""
    if head is not None and (head.target == MESSAGES.path or b"anthropic-version" in head.headers):
        return messages_error(error, request_id)
    return error_json(error, request_id)
