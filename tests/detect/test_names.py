"""Names of people: found in prose and forms, not in headings and code, the same however a text is cut."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.app.cli.main import main
from garrison.core.errors import Refused, Undecided, Usage
from garrison.detect.base import Direction, Effect, Outcome
from garrison.detect.inspect import Inspector
from garrison.detect.names import Name, Names, NameStream, name_rule
from garrison.detect.own import Own, named, with_names
from garrison.detect.stream import StreamRedactor

LETTER = (
    "Dear Mr. Rangel,\n\nmy colleague Anna Schmidt met Jean-Luc Moreau and Maria de Souza in Paris on Monday. "
    "Ask Dr. Priya Nair about the card 4111 1111 1111 1111.\n\nKind regards\nGiovanna Farias\nHead of Sales"
)
SHOWN = (
    "Dear Mr. [REDACTED:pii.person],\n\nmy colleague [REDACTED:pii.person] met [REDACTED:pii.person] and "
    "[REDACTED:pii.person] in Paris on Monday. Ask Dr. [REDACTED:pii.person] about the card [REDACTED:pii.card]."
    "\n\nKind regards\n[REDACTED:pii.person]\nHead of Sales"
)
NOBODY = (
    "Release Notes\n\nWindows and Docker for New York, Table of Contents. Write a Python class UserModel that "
    "reads FooBar_x. The European Union and Wall Street fell on Monday in May. Dear Customer, thank you."
)


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    return Inspector(own=with_names(), score_all=False)


@pytest.mark.row("C10", kind="R")
def test_names_in_a_letter_are_redacted_and_what_only_looks_like_one_stays(inspector: Inspector) -> None:
    assert inspector.inspect(LETTER, Direction.OUTPUT).text == SHOWN
    assert inspector.inspect(NOBODY, Direction.OUTPUT).text == NOBODY
    asked = inspector.inspect(LETTER, Direction.INPUT)
    assert asked.text == LETTER, "in a request they are noted"
    assert sum(finding.kind == "pii.person" for finding in asked.findings) == 6
    assert inspector.is_clean([NOBODY], Direction.INPUT)
    for way in (Direction.INPUT, Direction.OUTPUT):
        assert not inspector.is_clean(["I met Anna Schmidt"], way)


@pytest.mark.row("C13", kind="R")
def test_every_cut_of_a_letter_gives_the_same_text(inspector: Inspector) -> None:
    for at in range(1, len(LETTER)):
        redactor = StreamRedactor(inspector)
        assert redactor.feed(LETTER[:at]) + redactor.feed(LETTER[at:]) + redactor.close() == SHOWN, at
    redactor = StreamRedactor(inspector)
    assert "".join(map(redactor.feed, LETTER)) + redactor.close() == SHOWN


PIECES = st.sampled_from(
    ["Anna", " ", "Schmidt", "van ", "de ", "Mr. ", "J.", "O'Neil", "-", "\n", "É", "é", "x", "Dr", "'s", ", ",
     "met ", "Kind regards\n", "@", "Ludwig", "  ", "\u00a0", "NASA", "\ud800", "Å", "İ", "ß", "4", "_", "McDonald"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=60).map("".join), st.randoms(use_true_random=False))
def test_names_are_a_function_of_the_text_however_it_is_cut(text: str, draw: random.Random) -> None:
    rule = name_rule(Effect.REDACT, list(Direction))
    whole = NameStream(MODEL, rule).feed(text, last=True)
    stream, found, at, told = NameStream(MODEL, rule), list[tuple[int, int]](), 0, 0
    while at < len(text):
        step = draw.choice((1, 1, 2, 3, 7, 40))
        for start, end, _ in stream.feed(text[at : at + step]):
            assert start >= told, "nothing is found in what was called safe"
            found.append((start, end))
        told, at = stream.safe, at + step
    found.extend((start, end) for start, end, _ in stream.feed("", last=True))
    assert found == [(start, end) for start, end, _ in whole] == [(n.start, n.end) for n in MODEL.find(text)]


MODEL = Names()


def test_a_long_stream_is_held_in_little_memory_and_little_is_held_back(inspector: Inspector) -> None:
    redactor, held = StreamRedactor(inspector), list[int]()
    for _ in range(40):
        for word in LETTER.split(" "):
            redactor.feed(f"{word} ")
            held.append(redactor.held)
    redactor.close()
    held.sort()
    assert held[len(held) * 95 // 100] <= 160


class Breaks(Names):
    """A recogniser that ends like one whose weights are damaged in memory."""

    def find(self, text: str) -> list[Name]:
        raise MemoryError

    judged = find  # type: ignore[assignment]  # both raise


@pytest.mark.row("S37", kind="R")
def test_a_recogniser_that_fails_has_not_said_that_there_is_no_name() -> None:
    rule = name_rule(Effect.REDACT, list(Direction))
    inspector = Inspector(own=Own(names=(Breaks(), rule)), score_all=False)
    with pytest.raises(Undecided, match="names"):
        inspector.inspect(LETTER, Direction.INPUT)
    others = inspector.inspect(LETTER, Direction.INPUT, tolerant=True)
    assert others.incomplete == ("names",)
    assert [finding.kind for finding in others.findings] == ["pii.card"]
    with pytest.raises(Undecided, match="names"):
        inspector.inspect(LETTER, Direction.OUTPUT)


def test_what_is_said_of_names_is_read_strictly() -> None:
    for facts in ({}, {"effect": "block", "directions": ["input"]}, {"effect": "note", "directions": []}):
        with pytest.raises(Usage, match="names"):
            named(facts)
    with pytest.raises(Refused, match="released"):
        Names(b"{}")


def test_the_commands_without_a_server_look_for_names_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = LETTER.index("Anna")
    span = {"start": start, "end": start + 12, "type": "person", "cls": "pii", "tier": "soft"}
    row = {"text": LETTER, "spans": [span]}
    (tmp_path / "set.jsonl").write_text(json.dumps(row) + "\n")
    command = ["dlp", "eval", "--set", str(tmp_path / "set.jsonl"), "--json", "--min-recall", "1"]
    assert main(command) == 1
    capsys.readouterr()
    assert main([*command, "--names"]) == 0
    assert json.loads(capsys.readouterr().out)["recall"]["rate"] == 1.0


def test_text_of_capitals_alone_costs_no_more_for_each_character(inspector: Inspector) -> None:
    for text in ("A" * 100_000, "Anna " * 20_000, "A.B." * 20_000, "Van de " * 15_000, "Éa'" * 30_000):
        assert inspector.inspect(text, Direction.OUTPUT).verdict in (Outcome.ALLOW, Outcome.REDACT)
