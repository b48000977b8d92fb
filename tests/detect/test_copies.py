"""Eight words of a registered document are found, whole or streamed, and the store holds no word of it."""

from __future__ import annotations

import hashlib
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.core.errors import Refused, Usage
from garrison.detect.base import Direction, Effect, Outcome
from garrison.detect.copies import Copies, CopySet, copy_rule, open_set, packed, shingles
from garrison.detect.custom import check, parse_pattern, word_pattern
from garrison.detect.inspect import Inspector
from garrison.detect.own import Own
from garrison.detect.stream import StreamRedactor

KEY = b"k" * 32
WORDS = re.findall(
    r"\w+",
    "amber basket candle dolphin engine forest garden harbour island jacket kettle lantern meadow needle "
    "orchard pepper quarry ribbon saddle tunnel umbrella velvet window yellow zebra anchor bridge copper",
)


def _document(seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(60)) + "."


DOCUMENTS = [_document(seed) for seed in range(100)]


def _registered(folder: Path, effect: Effect = Effect.REDACT) -> CopySet:
    data = packed(value for text in DOCUMENTS for value in shingles(text, KEY))
    (folder / "set").write_bytes(data)
    rule = copy_rule("handbook", effect, list(Direction))
    return open_set(folder / "set", hashlib.sha256(data).hexdigest(), rule)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    rules = (
        parse_pattern({"name": "bird", "regex": word_pattern("Project Bluebird"), "ignore_case": True}),
        parse_pattern({"name": "ticket", "regex": "ACME-[0-9]{4,8}"}),
        parse_pattern({"name": "vault", "regex": "vlt_[a-z0-9]{12}", "effect": "block"}),
    )
    return Inspector(own=Own(rules, (_registered(tmp_path_factory.mktemp("copies")),), KEY))


@pytest.mark.row("C12", kind="R")
def test_eight_words_of_any_of_100_documents_are_found_and_seven_are_not(guarded: Inspector) -> None:
    for number, document in enumerate(DOCUMENTS):
        words = document.rstrip(".").split()
        at = number % 50
        copied = f"It says:\n{' '.join(words[at : at + 8]).upper()}, and so on."
        found = guarded.inspect(copied, Direction.OUTPUT)
        assert found.verdict is Outcome.REDACT, number
        assert found.text == "It says:\n[REDACTED:proprietary], and so on."
        (finding,) = found.findings
        assert (finding.rule_id, finding.kind) == ("dlp.copy.handbook", "proprietary")
        seven = f"so {' '.join(words[at : at + 7])} so"
        assert guarded.inspect(seven, Direction.OUTPUT).findings == ()


@pytest.mark.row("C12", kind="R")
def test_layout_case_and_hidden_characters_do_not_hide_a_copy(guarded: Inspector) -> None:
    words = DOCUMENTS[3].split()[10:22]
    for text in (
        " - ".join(words),
        "\n* ".join(words),
        " ".join("\u200b".join(word) for word in words),
        " ".join(words).translate({code: code + 0xFEE0 for code in range(97, 123)}),
    ):
        for way in Direction:
            assert [
                finding.rule_id
                for finding in guarded.inspect(text, way).findings
                if finding.kind == "proprietary"
            ]


def test_the_store_holds_hashes_that_another_key_does_not_give(tmp_path: Path) -> None:
    found = _registered(tmp_path)
    data = (tmp_path / "set").read_bytes()
    assert not any(word.encode() in data for word in WORDS)
    other = Copies((found,), b"x" * 32)
    assert other.find(DOCUMENTS[0]) == []
    assert Copies((found,), KEY).find(DOCUMENTS[0])


def test_a_changed_or_missing_file_is_refused(tmp_path: Path) -> None:
    _registered(tmp_path)
    data = bytearray((tmp_path / "set").read_bytes())
    digest = hashlib.sha256(data).hexdigest()
    data[-1] ^= 1
    (tmp_path / "set").write_bytes(data)
    rule = copy_rule("x", Effect.REDACT, list(Direction))
    for path in (tmp_path / "set", tmp_path / "none"):
        with pytest.raises(Refused) as caught:
            open_set(path, digest, rule)
        assert caught.value.code == "DLP-COPIES"


PIECES = st.lists(
    st.sampled_from(
        [
            *(" ".join(DOCUMENTS[0].split()[at : at + 5]) for at in range(0, 20, 5)),
            "amber", "basket ", "Project", "Bluebird", "project bluebird", "ACME-", "ACME-1234567", "\n", " ", ", ",
            "AKIA" + "QYLPMN5HHHFPZAM2", "\u200b", "é", "漢字", "x" * 70, "-" * 70, "[email protected]",
        ]
    ),
    max_size=14,
)  # fmt: skip


@pytest.mark.row("C12", kind="R")
@settings(max_examples=50, deadline=None)
@given(pieces=PIECES, cuts=st.lists(st.integers(0, 400), max_size=6), glue=st.sampled_from(["", " "]))
def test_a_streamed_answer_equals_the_redaction_of_the_whole(
    guarded: Inspector, pieces: list[str], cuts: list[int], glue: str
) -> None:
    text = glue.join(pieces)
    whole = guarded.inspect(text, Direction.OUTPUT)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    split = [text[start:end] for start, end in pairwise(places)]
    for parts in (split, list(text)):
        redactor = StreamRedactor(guarded)
        shown = "".join(redactor.feed(part) for part in parts) + redactor.close()
        assert (shown, redactor.findings) == (whole.text, whole.findings)


@pytest.mark.row("C12", kind="R")
def test_code_names_and_patterns_of_a_customer_are_redacted_or_block(guarded: Inspector) -> None:
    text = "PROJECT \n bluebird has ACME-123456, xProject Bluebird and ACME-12."
    shown = guarded.inspect(text, Direction.OUTPUT).text
    assert shown == "[REDACTED:proprietary] has [REDACTED:proprietary], xProject Bluebird and ACME-12."
    assert guarded.inspect("see vlt_abcdefabcdef", Direction.INPUT).verdict is Outcome.BLOCK
    assert guarded.inspect("see vlt_abc", Direction.INPUT).verdict is Outcome.ALLOW


@pytest.mark.parametrize(
    "expression",
    [
        "(a+)+b", "abcd*", "(?:abcd){2,3}", "ab.cd", "[^a]bcd", r"\Wabcd", r"\w{1,64}-\w{1,64}", "(?=abcd)abcd",
        "^abcd", "abcd$", "abc", "(?i)abcd", "a{1,300}bcd", r"(abcd)\1", "[éa]bcde", r"[\b]abcd", "abcd(", "",
        "(" * 300,
    ],
)  # fmt: skip
def test_a_pattern_that_could_take_long_or_means_two_things_is_refused(expression: str) -> None:
    with pytest.raises(Usage) as caught:
        parse_pattern({"name": "x", "regex": expression})
    assert caught.value.code == "DLP-PATTERN"


@given(st.text(alphabet="ab1-[]{}()|?,2\\dwb:*+.", max_size=24))
@settings(max_examples=150, deadline=None)
def test_any_expression_is_refused_or_bounded(expression: str) -> None:
    try:
        width = check(expression)
    except Usage:
        return
    rule = parse_pattern({"name": "x", "regex": expression})
    found = rule.pattern.search("ab1-2" * 200)
    assert found is None or len(found.group()) <= width
