"""Many values in one text: none leaves where a window ends, a crowd becomes one stretch, and cuts change nothing."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from garrison.detect.base import Direction
from garrison.detect.handling import Treatment, how
from garrison.detect.inspect import Inspector
from garrison.detect.redact import CROWD, STRETCH
from garrison.detect.stream import StreamRedactor

CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
LETTERS = CAPITALS + CAPITALS.lower() + "019"


def _rng() -> random.Random:
    return random.Random(20)


def _keys(count: int) -> list[str]:
    rng = _rng()
    return ["AKIA" + "".join(rng.choices(CAPITALS, k=16)) for _ in range(count)]


def _tokens(count: int) -> list[str]:
    rng = _rng()
    parts = ("eyJhbGciOiJI", "eyJ", "")
    return [".".join(part + "".join(rng.choices(LETTERS, k=20)) for part in parts) for _ in range(count)]


def _addresses(count: int) -> list[str]:
    return [f"w{number}x@mail.org" for number in range(count)]


def _streamed(inspector: Inspector, text: str, places: list[int]) -> tuple[str, int]:
    redactor = StreamRedactor(inspector)
    edges = [0, *sorted(places), len(text)]
    passed = "".join(redactor.feed(text[a:b]) for a, b in pairwise(edges)) + redactor.close()
    return passed, len(redactor.findings)


@pytest.mark.row("C11", kind="R")
@pytest.mark.parametrize("joint", [",", ";", "|"])
@pytest.mark.parametrize("values", [_keys(900), _tokens(300)], ids=["keys", "tokens"])
def test_no_key_of_a_long_list_without_white_space_leaves(
    inspector: Inspector, values: list[str], joint: str
) -> None:
    text = inspector.inspect(joint.join(values), Direction.OUTPUT).text
    assert not [value for value in values if value in text or value[-12:] in text]


@pytest.mark.row("C10", kind="R")
@pytest.mark.parametrize("joint", [" ", "\n", ", ", ","])
def test_a_crowd_of_values_becomes_one_stretch_however_it_is_cut(inspector: Inspector, joint: str) -> None:
    text = joint.join(_addresses(CROWD + 400)) + " and that was all of them. " + "It is quiet here. " * 500
    whole = inspector.inspect(text, Direction.OUTPUT)
    assert "@" not in whole.text
    assert CROWD <= len(whole.findings) < CROWD + 120
    assert whole.text.endswith("It is quiet here. " * 400)  # what stands far from the values is passed on
    rng = _rng()
    for count in (1, 40, 2_000):
        places = [rng.randrange(len(text)) for _ in range(count)]
        assert _streamed(inspector, text, places) == (whole.text, len(whole.findings))


@pytest.mark.row("C10", kind="R")
def test_values_below_a_crowd_are_replaced_one_by_one(inspector: Inspector) -> None:
    text = "".join(f"{address}; row\n" for address in _addresses(CROWD))
    assert inspector.inspect(text, Direction.OUTPUT).text == "[REDACTED:pii.email]; row\n" * CROWD


@pytest.mark.row("C10", kind="R")
def test_what_is_masked_or_noted_does_not_become_a_stretch(inspector: Inspector) -> None:
    addresses = _addresses(CROWD + 200)
    text = "\n".join(addresses)
    mask = how({"pii": Treatment.MASK})
    masked = inspector.inspect(text, Direction.OUTPUT, how=mask).text
    assert masked.count("@") == len(addresses)
    assert not set(masked.split("\n")) & set(addresses)
    noted = inspector.inspect(text, Direction.INPUT)
    assert noted.text == text
    assert sum(finding.kind == "pii.email" for finding in noted.findings) == CROWD
    assert len(text) > 10 * STRETCH
