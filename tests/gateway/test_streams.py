"""No secret leaves a stream however it is cut, and a model server that misbehaves is bounded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.upstream import (
    CLOSE,
    HANG,
    STREAM_HEAD,
    chunk,
    completion,
    delta,
    event,
    whole,
    words,
)
from tests.gateway.rig import Rig, chat

from garrison.core.errors import Undecided
from garrison.detect.inspect import Inspector
from garrison.gateway.config import UpstreamLimits
from garrison.gateway.openai_out import ChatWriter, Named
from garrison.gateway.openai_shapes import CHAT, Call, parse_call
from garrison.gateway.redaction import Redaction
from garrison.gateway.sse import EventParser
from garrison.gateway.streams import Stream

KEY = "AKIAQYLPMN5HHHFPZAM2"
TEXT = f"The key is {KEY} and the mail is anna.smith@corp.example.org today."
SHOWN = "The key is [REDACTED:aws-key] and the mail is [REDACTED:pii.email] today."


def call_of(**fields: Any) -> Call:
    return parse_call(CHAT, json.dumps(chat(stream=True, **fields)).encode(), 32)


def run(
    inspector: Inspector, pieces: Iterable[bytes], **fields: Any
) -> tuple[dict[int, dict[str, str]], bytes]:
    """What a client assembles from a stream fed in `pieces`: {choice: {field: text}}, and the raw bytes."""
    redaction = Redaction(inspector)
    call = call_of(**fields)
    events = Stream(call, redaction, EventParser(1 << 16), ChatWriter(call, Named("r-1", "smollm2@1", 1)))
    out = b"".join(events.feed(piece) for piece in pieces)
    redaction.close()
    return assembled(out), out


def assembled(out: bytes) -> dict[int, dict[str, str]]:
    texts: dict[int, dict[str, str]] = {}
    for data in EventParser(1 << 20).feed(out):
        if data == b"[DONE]":
            continue
        for choice in json.loads(data)["choices"]:
            text = texts.setdefault(choice["index"], {})
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    value = "".join(call["function"]["arguments"] for call in value)
                if isinstance(value, str):
                    text[name] = text.get(name, "") + value
    return texts


def sse(deltas: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(map(event, deltas)) + event("[DONE]")


@pytest.mark.row("C13", kind="R")
@pytest.mark.parametrize("name", ["content", "reasoning_content", "refusal"])
def test_a_secret_split_at_every_offset_never_leaves(inspector: Inspector, name: str) -> None:
    for cut in range(len(TEXT) + 1):
        deltas = [delta(**{name: TEXT[:cut]}), delta(**{name: TEXT[cut:]}), delta(finish="stop")]
        texts, raw = run(inspector, [sse(deltas)])
        assert texts[0][name] == SHOWN, cut
        assert KEY.encode() not in raw


@pytest.mark.row("C13", kind="R")
def test_a_secret_split_at_every_offset_of_tool_arguments_never_leaves(inspector: Inspector) -> None:
    for spelled in (json.dumps({"to": TEXT}), json.dumps({"to": TEXT}).replace("AK", "\\u0041K")):
        for cut in range(len(spelled) + 1):
            calls = [
                [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": spelled[:cut]}}],
                [{"index": 0, "function": {"arguments": spelled[cut:]}}],
            ]
            deltas = [*(delta(tool_calls=call) for call in calls), delta(finish="tool_calls")]
            texts, raw = run(inspector, [sse(deltas)])
            assert json.loads(texts[0]["tool_calls"]) == {"to": SHOWN}
            assert KEY.encode() not in raw


@pytest.mark.row("C13", kind="R")
def test_two_interleaved_choices_one_character_a_chunk_leak_nothing(inspector: Inspector) -> None:
    deltas = [delta(index=index, content=char) for char in TEXT for index in (0, 1)]
    deltas += [delta(index=0, finish="stop"), delta(index=1, finish="stop")]
    texts, raw = run(inspector, [sse(deltas)], n=2)
    assert texts[0]["content"] == texts[1]["content"] == SHOWN
    assert KEY.encode() not in raw


@pytest.mark.row("C13", kind="R")
def test_a_secret_streamed_one_character_at_a_time_does_not_reach_a_client(rig: Rig) -> None:
    rig.upstream.answer = lambda asked: words(TEXT)
    answer = rig.ask(chat(stream=True))
    assert assembled(answer.body)[0]["content"] == SHOWN
    assert answer.body.endswith(b"data: [DONE]\n\n")
    found = rig.event_of(answer)
    assert found["data"]["redacted"] is True
    assert "dlp.aws-key" in {finding["rule_id"] for finding in found["findings"]}


@pytest.mark.row("C13", kind="R")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cut_of_the_bytes_gives_the_text_of_the_whole_answer(
    inspector: Inspector, data: st.DataObject
) -> None:
    """Inside UTF-8, inside JSON escapes, inside SSE lines: the client reads the same."""
    text = data.draw(
        st.lists(st.sampled_from([TEXT, "é🦉", "\\n", KEY[:9], " ", "4111 1111 1111 1111 "]), max_size=5)
    )
    spoken = "".join(text)
    wire = sse([*(delta(content=char) for char in spoken), delta(finish="stop")])
    if data.draw(st.booleans()):
        wire = b": ping\n\n" + wire.replace(b"\n", b"\r\n")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    texts, _ = run(inspector, pieces)
    redaction = Redaction(inspector)
    assert texts[0].get("content", "") == redaction.whole(spoken)


def test_what_is_not_announced_by_the_request_is_refused(inspector: Inspector) -> None:
    for bad in (
        [delta(index=1, content="a")],
        [delta(index=-1, content="a")],
        [delta(tool_calls=[{"index": 9_999}])],
        [delta(tool_calls="x")],
        [{"choices": "x"}],
        [{"choices": ["x"]}],
        [{"nothing": 1}],
        [{"choices": [{"index": 0, "delta": "x"}]}],
        [{"error": {"message": "out of memory"}}],
    ):
        with pytest.raises(Undecided):
            run(inspector, [sse(bad)])
    with pytest.raises(Undecided):
        run(inspector, [b"data: {not json}\n\n"])


def test_tool_calls_are_held_only_up_to_a_limit(inspector: Inspector) -> None:
    many = [delta(tool_calls=[{"index": 0, "function": {"arguments": "x" * 60_000}}]) for _ in range(20)]
    with pytest.raises(Undecided, match="tool calls"):
        run(inspector, [sse(many)])


SHORT = UpstreamLimits(
    first_byte_seconds=0.2, idle_seconds=0.2, total_seconds=0.6, answer_bytes=100_000, event_bytes=20_000
)
SEEN = chunk(event(delta(content="some words that are shown at once ")))


def _for_ever() -> Iterable[bytes]:
    yield STREAM_HEAD
    while True:
        yield chunk(event(delta(content="x" * 400 + " ")))


BAD_STREAMS: dict[str, Callable[[], Iterable[bytes]]] = {
    "half an event": lambda: [STREAM_HEAD, SEEN, chunk(b'data: {"choi'), b"0\r\n\r\n"],
    "no end": lambda: [STREAM_HEAD, SEEN, b"0\r\n\r\n"],
    "a dropped connection": lambda: [STREAM_HEAD, SEEN, CLOSE],
    "silence": lambda: [STREAM_HEAD, SEEN, HANG],
    "a gigabyte": _for_ever,
    "one endless event": lambda: [STREAM_HEAD, SEEN, *[chunk(b"data: " + b"x" * 5_000)] * 8],
    "a bad chunk": lambda: [STREAM_HEAD, SEEN, b"zz\r\n"],
    "an error event": lambda: [STREAM_HEAD, SEEN, chunk(event({"error": {"message": "CUDA"}}))],
}


@pytest.mark.row("S38", kind="R")
@pytest.mark.parametrize("name", BAD_STREAMS)
def test_a_stream_that_goes_wrong_is_cut_with_a_typed_error(make_rig: Callable[..., Rig], name: str) -> None:
    rig = make_rig(upstream_limits=SHORT)
    rig.upstream.answer = lambda asked: BAD_STREAMS[name]()
    answer = rig.ask(chat(stream=True))
    assert answer.status == 200
    *_, last = EventParser(1 << 20).feed(answer.body)
    assert json.loads(last)["error"]["code"] in {"GW-ANSWER", "GW-UPSTREAM", "GW-TIMEOUT"}
    assert b"[DONE]" not in answer.body
    assert b"CUDA" not in answer.body
    assert rig.event_of(answer)["data"]["ended"] == "cut"
    rig.until(lambda: not rig.plane.active)


BAD_ANSWERS: dict[str, tuple[int, str, Callable[[], Iterable[bytes]]]] = {
    "wrong content type": (502, "GW-ANSWER", lambda: whole(b"<html>", kind="text/html")),
    "not JSON": (502, "GW-ANSWER", lambda: whole(b"{")),
    "no choices": (502, "GW-ANSWER", lambda: whole({"choices": []})),
    "too many choices": (502, "GW-ANSWER", lambda: whole({"choices": [{"message": {"content": "a"}}] * 3})),
    "too large": (502, "GW-ANSWER", lambda: whole(b'{"x": "' + b"y" * 200_000 + b'"}')),
    "not HTTP": (502, "GW-ANSWER", lambda: [b"SSH-2.0-x\r\n\r\n"]),
    "a giant head": (502, "GW-ANSWER", lambda: [b"HTTP/1.1 200 OK\r\nx: " + b"y" * 50_000 + b"\r\n\r\n"]),
    "closed at once": (502, "GW-UPSTREAM", lambda: [CLOSE]),
    "closed half-way": (502, "GW-UPSTREAM", lambda: [completion("x")[0][:-9], CLOSE]),
    "silence": (504, "GW-TIMEOUT", lambda: [HANG]),
    "500": (502, "GW-UPSTREAM", lambda: whole({"error": {"message": "secret stack trace"}}, status=500)),
    "404": (502, "GW-UPSTREAM", lambda: whole(b"no", status=404, kind="text/plain")),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_answer_that_is_not_one_is_a_clean_error(make_rig: Callable[..., Rig], name: str) -> None:
    rig = make_rig(upstream_limits=SHORT)
    status, code, parts = BAD_ANSWERS[name]
    rig.upstream.answer = lambda asked: parts()
    answer = rig.ask(chat())
    assert (answer.status, answer.code) == (status, code)
    assert b"stack trace" not in answer.body
    assert rig.event_of(answer)["outcome"] == "error"


def test_why_a_model_server_refuses_is_told_inspected(rig: Rig) -> None:
    said = {"error": {"message": f"context of 2048 tokens exceeded near {KEY} \u001b[31m", "code": 400}}
    rig.upstream.answer = lambda asked: whole(said, status=400)
    answer = rig.ask(chat())
    assert (answer.status, answer.code) == (400, "GW-REJECTED")
    assert "context of 2048 tokens exceeded near [REDACTED:aws-key]" in answer.json["error"]["message"]
    assert b"\x1b" not in answer.body
    assert b"u001b" not in answer.body


def test_a_model_server_that_is_not_there_is_502_and_comes_back_by_itself(rig: Rig) -> None:
    gone = [{**rig.routes[0], "address": "unix:/nowhere/s.sock"}, *rig.routes[1:]]
    rig.published(routes=gone)
    assert rig.ask(chat()).code == "GW-UPSTREAM"
    rig.published()
    assert rig.ask(chat()).status == 200


def test_a_kept_connection_that_the_server_has_closed_is_not_an_error(rig: Rig) -> None:
    rig.upstream.answer = lambda asked: [*completion("hello"), CLOSE]
    for _ in range(3):
        assert rig.ask(chat()).status == 200


def test_a_model_behind_an_http_address_is_served_alike(rig: Rig) -> None:
    address = rig.run(rig.upstream.start_http())
    rig.published(routes=[{**rig.routes[0], "address": address}])
    assert rig.ask(chat()).json["choices"][0]["message"]["content"] == "hello"
    assert rig.upstream.asked[0].headers["host"] == address.removeprefix("http://")
