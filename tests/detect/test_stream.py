"""A stream and its whole text have one redaction: for every split, with every kind of value in it."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.detect.base import Direction, TextFinding
from garrison.detect.inspect import Inspector
from garrison.detect.redact import CONTEXT
from garrison.detect.rulepack import MAX_REACH, built_in_rules
from garrison.detect.stream import StreamRedactor

INSPECTOR = Inspector(directions=(Direction.OUTPUT,))
VALUES = [
    (rule.kind, example.replace("¦", ""))
    for rule in built_in_rules()
    if rule.is_dlp and Direction.OUTPUT in rule.directions
    for example in rule.hit
]
WORDS = [
    "The",
    "model",
    "says",
    "4",
    "I",
    "OK",
    "(see",
    "2024",
    "naïve",
    "日本語",
    "🙂",
    "\ud83d",
    "e.g.",
    "--",
    "A1 B2",
]
JOINTS = [" ", "\n", ", ", "", '"', "\u00a0", ". ", "  "]


def _stream(pieces: list[str]) -> tuple[str, tuple[TextFinding, ...], list[int]]:
    redactor, out, held = StreamRedactor(INSPECTOR), [], []
    for piece in pieces:
        out.append(redactor.feed(piece))
        held.append(redactor.held)
    out.append(redactor.close())
    return "".join(out), redactor.findings, held


def _cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


@st.composite
def _texts(draw: st.DrawFn) -> str:
    parts = draw(st.lists(st.sampled_from(WORDS) | st.sampled_from([v for _, v in VALUES]), max_size=9))
    return "".join(part + draw(st.sampled_from(JOINTS)) for part in parts)


@pytest.mark.row("C13", kind="R")
@settings(max_examples=250, deadline=None)
@given(text=_texts(), data=st.data())
def test_any_split_gives_what_the_whole_text_gives(text: str, data: st.DataObject) -> None:
    whole = INSPECTOR.inspect(text, Direction.OUTPUT)
    places = data.draw(st.lists(st.integers(0, max(len(text), 1)), max_size=40))
    for pieces in (_cut(text, places), list(text)):
        out, findings, _ = _stream(pieces)
        assert out == whole.text
        assert findings == whole.findings


@pytest.mark.row("C13", kind="R")
@pytest.mark.parametrize(("kind", "value"), VALUES, ids=[f"{k}-{i}" for i, (k, _) in enumerate(VALUES)])
def test_every_two_way_split_of_every_kind_of_value(kind: str, value: str) -> None:
    text = f"Here: {value}\nand {value} twice, then {value}"
    whole = INSPECTOR.inspect(text, Direction.OUTPUT)
    assert sum(finding.kind == kind for finding in whole.findings) >= 2
    for place in range(1, len(text)):
        assert _stream([text[:place], text[place:]])[0] == whole.text


@pytest.mark.row("C13", kind="R")
def test_no_part_of_a_key_leaves_before_its_end_is_known() -> None:
    key = "AKIA" + "QYLPMN5HHHFPZAM2"
    redactor, seen = StreamRedactor(INSPECTOR), ""
    for character in f"the key is {key}":
        seen += redactor.feed(character)
        assert "AKI" not in seen
    assert seen + redactor.close() == "the key is [REDACTED:aws-key]"


@pytest.mark.row("C13", kind="R")
def test_two_keys_without_anything_between_them_are_two_redactions() -> None:
    keys = "AKIA" + "Y34FZKBOKMUTVV7A" + "AKIA" + "QYLPMN5HHHFPZAM2"
    assert INSPECTOR.inspect(keys, Direction.OUTPUT).text == "[REDACTED:aws-key]" * 2


@pytest.mark.row("C13", kind="R")
@pytest.mark.parametrize("size", [100, 4_000, 5_000, 40_000])
@pytest.mark.parametrize("step", [1_000, 4_099, 100_000])
def test_a_value_longer_than_any_window_is_swallowed_whole(size: int, step: int) -> None:
    body = "".join(
        random.Random(size).choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=size)
    )
    text = f"token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{body} done"
    out, findings, _ = _stream([text[i : i + step] for i in range(0, len(text), step)])
    assert out == "token [REDACTED:jwt] done"
    assert findings[0].end == len(text) - len(" done")


@pytest.mark.row("C13", kind="R")
@pytest.mark.parametrize("lines", [3, 25, 100, 600])
@pytest.mark.parametrize("end", ["\n-----END PRIVATE KEY-----", ""])
def test_a_private_key_of_any_length_is_swallowed_whole(lines: int, end: str) -> None:
    rng = random.Random(lines)
    body = "\n".join(
        "".join(rng.choices("ABCDEFGHIJKLMNOPabcdefghijklmnop0123456789+/", k=64)) for _ in range(lines)
    )
    key = f"-----BEGIN PRIVATE KEY-----\n{body}{end}"
    whole = INSPECTOR.inspect(f"here:\n{key}", Direction.OUTPUT).text
    assert whole == "here:\n[REDACTED:private-key]"
    text = f"here:\n{key}"
    assert _stream([text[i : i + 7] for i in range(0, len(text), 7)])[0] == whole


@pytest.mark.row("C13", kind="R")
def test_ordinary_text_still_streams() -> None:
    prose = (
        "Certainly. The reaction of sodium with water releases hydrogen gas and heat, which is why it is "
        "kept under oil; in 1807 Humphry Davy isolated it by electrolysis. Three steps follow: weigh, "
        "cool and then add slowly.\n"
    ) * 20
    rng, pieces, at = random.Random(1), [], 0
    while at < len(prose):
        step = rng.randint(1, 8)
        pieces.append(prose[at : at + step])
        at += step
    out, findings, held = _stream(pieces)
    assert out == prose
    assert findings == ()
    held.sort()
    assert held[len(held) // 2] <= 16
    assert held[int(len(held) * 0.95)] <= 32


def test_memory_stays_bounded_when_nothing_can_be_passed_on() -> None:
    redactor = StreamRedactor(INSPECTOR)
    for _ in range(400):
        redactor.feed("A" * 997)
        assert redactor.held <= MAX_REACH + CONTEXT + 997
    assert redactor.close()


def test_closing_twice_and_feeding_nothing_are_harmless() -> None:
    redactor = StreamRedactor(INSPECTOR)
    assert redactor.feed("") == ""
    assert redactor.feed("hello") + redactor.close() + redactor.close() == "hello"
