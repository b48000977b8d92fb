"""Events that are recognised by their bytes say what a parser would have read in them."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from garrison.gateway.repeats import Shape, shape_of

TEXTS = st.text(max_size=8) | st.sampled_from(
    ['"', "\\", "\n", "content", "assistant", "é", "", '"}]}', "a\nb"]
)
PLAIN = {"choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": None}]}


def written(text: str, *, ascii_only: bool = True, extra: dict[str, Any] | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    value = {"id": "x", "model": "content", "choices": [choice], **(extra or {})}
    return json.dumps(value, ensure_ascii=ascii_only).encode()


def learnt(event: bytes) -> Shape | None:
    value = orjson.loads(event)
    return shape_of(event, value, value["choices"][0]["delta"], "content", 0, "content")


def parsed(event: bytes) -> str:
    text = orjson.loads(event)["choices"][0]["delta"]["content"]
    assert isinstance(text, str)
    return text


@given(TEXTS, st.lists(st.tuples(TEXTS, st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_what_is_taken_at_once_is_what_a_parser_reads(first: str, rest: list[tuple[str, bool, bool]]) -> None:
    shape = learnt(written(first))
    events = [
        written(text, ascii_only=plain, extra={"more": 1} if other else None) for text, plain, other in rest
    ]
    at, said = 0, ""
    while shape is not None and at < len(events):
        run = shape.run(events, at)
        if run is None:
            said += parsed(events[at])
            at += 1
        else:
            assert run.end > at
            assert run.pieces == sum(bool(parsed(event)) for event in events[at : run.end])
            assert run.text == "".join(map(parsed, events[at : run.end]))
            said, at = said + run.text, run.end
    assert shape is None or said == "".join(map(parsed, events))


def test_a_key_said_twice_or_a_text_that_stands_elsewhere_gives_no_shape_that_lies() -> None:
    twice = b'{"choices":[{"index":0,"delta":{"content":"word","content":"other"}}]}'
    value = orjson.loads(twice)
    kept = shape_of(twice, value, value["choices"][0]["delta"], "content", 0, "content")
    assert kept is not None, "the last one counts, and it is the one that may change"
    changed = twice.replace(b'"other"', b'"third"')
    assert (run := kept.run([changed], 0)) is not None
    assert run.text == "third"
    first = b'{"choices":[{"index":0,"delta":{"content":"other","content":"word"}}],"content":"word"}'
    value = orjson.loads(first)
    assert shape_of(first, value, value["choices"][0]["delta"], "content", 0, "content") is None


def test_events_that_only_begin_alike_are_left_to_the_parser() -> None:
    shape = learnt(orjson.dumps(PLAIN))
    assert shape is not None
    good = orjson.dumps(PLAIN)
    cases = [
        good[:-1],
        good + b" ",
        good.replace(b"null", b'"stop"'),
        good.replace(b"word", b'a"}}],"b":[{"c":{"d":"e'),
        good.replace(b"word", b"a\\u0022"),
        good.replace(b"word", b"a\tb"),
        good.replace(b"word", b"\xff"),
        b"[DONE]",
        b"",
    ]
    for event in cases:
        assert shape.run([event], 0) is None, event
        run = shape.run([good, event, good], 0)
        if b"\xff" in event:
            assert run is None, "all of them go to the parser, which says what is wrong"
        else:
            assert run is not None
            assert (run.end, run.text) == (1, "word"), event
    assert shape.run([{}], 0) is None
