"""One verdict and one text, whole or streamed, however the stream is cut: every door, every mode, every rule.

No server: an answer is made up, given whole and as a stream of bytes with random fragments, order and cuts to the
same code that serves both, and what a client reads is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.upstream import delta, event

from garrison.core.errors import Refused, Undecided
from garrison.detect.base import Direction
from garrison.detect.inspect import Inspector
from garrison.detect.rulepack import built_in_rules
from garrison.gateway.answers import read_answer
from garrison.gateway.doors import DOORS
from garrison.gateway.openai_out import Named
from garrison.gateway.redaction import Redaction
from garrison.gateway.rules import RouteRules
from garrison.gateway.sse import EventParser
from garrison.gateway.streams import Stream

KEY = "AKIAQYLPMN5HHHFPZAM2"
NAMED = Named("r-1", "m@1", 1)
SAMPLES = sorted(
    {
        rule.hit[0]
        for rule in built_in_rules()
        if rule.is_dlp and Direction.OUTPUT in rule.directions and rule.hit
    }
)
FRAGMENTS = st.sampled_from(
    [KEY, KEY[:9], " ", "\n", "é🦉", "日本", '"', "\\", "\\u0041", " words ", "data: ", *SAMPLES]
)
TEXT = st.lists(FRAGMENTS, max_size=4).map("".join)
MODES = [
    RouteRules(),
    RouteRules("buffer"),
    RouteRules("audit"),
    RouteRules(blocks=True),
    RouteRules("buffer", True),
]
FIELDS = ("content", "reasoning_content", "refusal")
ASK = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}], "n": 2},
    "/v1/completions": {"prompt": "a", "n": 2},
    "/v1/responses": {"input": "a"},
    "/v1/messages": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 9},
}

Texts = dict[tuple[int, str], str]


@dataclass
class Said:
    """What the model says in each choice: texts by field, and the JSON arguments of tool calls."""

    choices: list[tuple[dict[str, str], list[str]]]


@st.composite
def answers(draw: st.DrawFn, path: str) -> Said:
    choices = []
    for _ in range(2 if "completions" in path else 1):
        if path == "/v1/completions":
            choices.append(({"text": draw(TEXT)}, []))
            continue
        texts = {name: text for name in FIELDS if (text := draw(TEXT))}
        calls = [
            json.dumps({"x": text}, ensure_ascii=draw(st.booleans()))
            for text in draw(st.lists(TEXT, max_size=2))
        ]
        choices.append((texts, [call.replace("AKIA", "\\u0041KI\\u0041") for call in calls]))
    return Said(choices)


def whole_of(said: Said, path: str) -> dict[str, Any]:
    choices = []
    for index, (texts, calls) in enumerate(said.choices):
        finish = {"index": index, "finish_reason": "stop"}
        if path == "/v1/completions":
            choices.append({**finish, **texts})
            continue
        tools = [
            {"id": f"c{at}", "function": {"name": "f", "arguments": call}} for at, call in enumerate(calls)
        ]
        choices.append({**finish, "message": {"role": "assistant", **texts, "tool_calls": tools}})
    return {"choices": choices}


def stream_of(said: Said, path: str, draw: Any) -> bytes:
    """The same answer in pieces: fields one after the other in a choice, choices interleaved at random."""
    queues: list[list[dict[str, Any]]] = []
    for index, (texts, calls) in enumerate(said.choices):
        queue: list[dict[str, Any]] = []
        for name in ("reasoning_content", "content", "refusal", "text"):
            queue += [delta(index, **{name: piece}) for piece in pieces(texts.get(name, ""), draw)]
        for at, call in enumerate(calls):
            first = {"index": at, "id": f"c{at}", "function": {"name": "f", "arguments": ""}}
            queue.append(delta(index, tool_calls=[first]))
            queue += [
                delta(index, tool_calls=[{"index": at, "function": {"arguments": piece}}])
                for piece in pieces(call, draw)
            ]
        queue.append(delta(index, "stop"))
        queues.append(queue)
    events = []
    while any(queues):
        events.append(draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
    if path == "/v1/completions":
        for each in events:
            (choice,) = each["choices"]
            choice |= {"text": "", **choice.pop("delta")}
    wire = b"".join(map(event, events)) + event("[DONE]")
    return wire.replace(b"\n", b"\r\n") if draw(st.booleans()) else wire


def pieces(text: str, draw: Any) -> Iterator[str]:
    """`text` cut at random, also between the two halves of an escape."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return (text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True) if start < end)


def read_whole(path: str, body: dict[str, Any]) -> Texts:
    found: Texts = {}
    if path == "/v1/messages":
        for block in body["content"]:
            add(found, 0, block["type"], block.get(block["type"]) or json.dumps(block.get("input")))
    elif path == "/v1/responses":
        for item in body["output"]:
            for part in item.get("content", ()):
                add(found, 0, part["type"], part.get("text") or part.get("refusal"))
            add(found, 0, "tool", item.get("arguments"))
    else:
        for choice in body["choices"]:
            for name, value in (choice.get("message") or choice).items():
                if name == "tool_calls":
                    value = "".join(call["function"]["arguments"] for call in value)
                if name in ("content", "reasoning_content", "refusal", "text", "tool_calls"):
                    add(found, choice["index"], name, value)
    return found


def read_stream(path: str, out: bytes) -> Texts:
    events = [json.loads(data) for data in EventParser(1 << 22).feed(out) if data != b"[DONE]"]
    found: Texts = {}
    if path == "/v1/responses":
        return read_whole(path, events[-1]["response"])
    kinds: dict[int, str] = {}
    for each in events:
        if path == "/v1/messages":
            if each["type"] == "content_block_start":
                kinds[each["index"]] = each["content_block"]["type"]
            elif each["type"] == "content_block_delta":
                piece = each["delta"]
                text = piece.get("text") or piece.get("thinking") or ""
                if "partial_json" in piece:
                    text = json.dumps(json.loads(piece["partial_json"]))
                add(found, 0, kinds[each["index"]], text)
            continue
        for choice in each["choices"]:
            part = {"index": choice["index"], **(choice.get("delta") or {"text": choice.get("text")})}
            for key, value in read_whole("", {"choices": [part]}).items():
                add(found, *key, value)
    return found


def add(found: Texts, index: int, name: str, text: str | None) -> None:
    if text:
        found[index, name] = found.get((index, name), "") + text


def judged(redaction: Redaction) -> list[tuple[str, int]]:
    return sorted((finding.rule_id, finding.end - finding.start) for finding in redaction.close())


@pytest.mark.row("C13", kind="R")
@pytest.mark.parametrize(
    "rules", MODES, ids=lambda rules: f"{rules.stream}{'-block' if rules.blocks else ''}"
)
@pytest.mark.parametrize("path", ASK)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_verdict_and_text_are_the_same_under_any_chunking(
    inspector: Inspector, path: str, rules: RouteRules, data: st.DataObject
) -> None:
    said = data.draw(answers(path))
    door = DOORS[path]
    asked: dict[str, Any] = {"model": "m", **ASK[path], "stream": True}
    if path == "/v1/chat/completions" and data.draw(st.booleans()):
        asked["response_format"] = {"type": "json_object"}
    call = door.parse(json.dumps(asked).encode(), 32)

    before = Redaction(inspector, rules)
    whole: Texts | None = None
    blocked = ""
    try:
        choices, usage = read_answer(whole_of(said, path), call, before)
        whole = read_whole(path, json.loads(door.body(choices, usage, call, NAMED)))
    except Refused as error:
        blocked = error.code

    wire = stream_of(said, path, data.draw)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    after = Redaction(inspector, rules)
    events = Stream(call, after, EventParser(1 << 22), door.writer(call, NAMED))
    out = b""
    try:
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            out += events.feed(wire[start:end])
    except Refused as error:
        assert (whole, error.code, b"[DONE]" in out) == (None, blocked, False)  # noqa: PT017 - both ways are judged
        return
    assert not blocked
    assert events.done
    assert whole == read_stream(path, out)
    assert judged(before) == judged(after)
    assert before.scanned == after.scanned
    if not rules.is_audit:
        assert KEY.encode() not in out


@pytest.mark.row("C13", kind="R")
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_a_block_that_has_ended_does_not_go_on(inspector: Inspector, path: str) -> None:
    """Half of a key at the end of one block and half in the next of its kind would be joined by a reader."""
    call = DOORS[path].parse(json.dumps({"model": "m", **ASK[path], "stream": True}).encode(), 32)
    redaction = Redaction(inspector)
    events = Stream(call, redaction, EventParser(1 << 16), DOORS[path].writer(call, NAMED))
    assert KEY[:9].encode() in events.feed(event(delta(content=KEY[:9])) + event(delta(reasoning="hm. ")))
    with pytest.raises(Undecided, match="already ended"):
        events.feed(event(delta(content=KEY[9:])))
