"""Fuzz targets of the data plane: what callers and model servers send, under any bytes and any cuts.

Each says more than "it does not crash": what is accepted means the same to another reader, and the same whole or in
pieces.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import httptools

from garrison.core.errors import GarrisonError, Undecided, Usage
from garrison.gateway.config import HttpLimits
from garrison.gateway.doors import DOORS
from garrison.gateway.http_parse import HEAD_END, ChunkedBody, parse_head
from garrison.gateway.sse import EventParser
from garrison.gateway.strict_json import parse_object
from garrison.gateway.upstreams.event_frames import FrameParser
from garrison.gateway.upstreams.kinds import KINDS, decoded

LIMITS = HttpLimits()
LIMIT = 1 << 16
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
CHAT = b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a\\u00e9"}]}],"n":2,"stream":true}'
MESSAGE = (
    b'{"model":"m","max_tokens":5,"system":"s","messages":[{"role":"user","content":[{"type":"tool_result",'
    b'"tool_use_id":"t","content":"x"}]},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f",'
    b'"input":{"a":1}}]}],"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"tool","name":"f"}}'
)
RESPONSE = (
    b'{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call",'
    b'"call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"x"}],'
    b'"tools":[{"type":"function","name":"f"}],"text":{"format":{"type":"json_object"}},"reasoning":{"effort":"low"}}'
)


class _Reader:
    """What httptools makes of a request."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value


def head(data: bytes) -> None:
    """Whatever is accepted is read alike by another parser."""
    raw = data.partition(HEAD_END)[0] + HEAD_END
    try:
        ours = parse_head(raw, LIMITS)
    except Usage:
        return
    reader: Any = _Reader()
    with contextlib.suppress(httptools.HttpParserUpgrade):
        httptools.HttpRequestParser(reader).feed_data(raw)
    assert reader.url.decode() == ours.target
    assert {name: value.strip() for name, value in reader.headers.items()} == ours.headers


def chunks(data: bytes) -> None:
    def read(pieces: list[bytes]) -> tuple[bytes, bytes] | str:
        decoder, left = ChunkedBody(4_096), b""
        try:
            for piece in pieces:
                if decoder.done:
                    left += piece
                else:
                    decoder.feed(piece)
        except Usage as error:
            return error.code
        return (decoder.body, decoder.rest + left) if decoder.done else "unfinished"

    assert read([data]) == read([data[at : at + 1] for at in range(len(data))])


def _alike(parser: Callable[[], Any], data: bytes) -> None:
    """The same events whole and one byte at a time, or a refusal both times."""

    def read(pieces: list[bytes]) -> list[Any] | None:
        made, found = parser(), []
        try:
            for piece in pieces:
                found += made.feed(piece)
        except Undecided:
            return None
        return found

    whole, cut = read([data]), read([data[at : at + 1] for at in range(len(data))])
    assert whole is None or cut is None or whole == cut


def strict_json(data: bytes) -> None:
    """Whatever is accepted is what Python's own parser reads, with every key once."""
    try:
        ours = parse_object(data, 32)
    except Usage:
        return

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    theirs = json.loads(data, object_pairs_hook=once)
    assert ours.keys() == theirs.keys()


def doors(data: bytes) -> None:
    """A request is understood or refused; never anything else."""
    for door in DOORS.values():
        with contextlib.suppress(Usage):
            call = door.parse(data, 32)
            assert call.body["model"] == call.model
            for kind in KINDS.values():
                if door.operation.asked in kind.doors:
                    with contextlib.suppress(Usage):
                        kind.encode(call.body, "m")


def answers(data: bytes) -> None:
    """A model server's answer is understood or malformed, in every vendor's shape."""
    with contextlib.suppress(ValueError):
        value = json.loads(data)
        for kind in KINDS.values():
            with contextlib.suppress(Undecided):
                decoded(kind, value)
    for kind in KINDS.values():
        with contextlib.suppress(GarrisonError):
            kind.source(LIMIT).feed(data)


PLANE: dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]] = {
    "http-head": (head, (HEAD, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
    "http-chunks": (chunks, (b"2\r\n{}\r\n0\r\n\r\nrest", b"a\r\n0123456789\r\n0\r\n\r\n")),
    "sse": (
        lambda data: _alike(lambda: EventParser(LIMIT), data),
        (b'data: {"a":1}\n\nevent: x\r\ndata: y\r\n\r\n: ping\n\ndata: [DONE]\n\n', b"data:a\rdata: b\r\r"),
    ),
    "event-frames": (
        lambda data: _alike(lambda: FrameParser(LIMIT), data),
        (b"\0\0\0\x10\0\0\0\0\x05\xc2\x48\xeb",),
    ),
    "strict-json": (strict_json, (CHAT, b'{"a":1,"a":2}', b'{"a":[[[]]],"b":1e400}')),
    "request-doors": (
        doors,
        (CHAT, MESSAGE, RESPONSE, b'{"model":"m","prompt":["a"]}', b'{"model":"m","input":"a"}'),
    ),
    "model-answers": (
        answers,
        (
            b'{"content":[{"type":"text","text":"a"},{"type":"tool_use","id":"t","name":"f","input":{}}],"usage":{}}',
            b'{"output":{"message":{"content":[{"text":"a"},{"toolUse":{"input":{}}}]}},"usage":{}}',
            b'{"candidates":[{"content":{"parts":[{"text":"a"},{"functionCall":{"name":"f"}}]},"finishReason":"STOP"}]}',
            b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}\n\n',
            b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}\n\n',
        ),
    ),
}
