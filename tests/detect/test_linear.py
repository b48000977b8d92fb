"""No input makes the work explode: twice the text is about twice the time, whatever it is made of."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable

import pytest

from garrison.detect.base import Direction
from garrison.detect.inspect import Inspector

_RNG = random.Random(7)
SIZE = 25_000

HOSTILE: dict[str, Callable[[int], str]] = {
    "base64": lambda n: base64.b64encode(_RNG.randbytes(n)).decode()[:n],
    "base64 words": lambda n: "".join(
        base64.b64encode(_RNG.randbytes(24)).decode() + " " for _ in range(n // 33)
    ),
    "digits": lambda n: "1234567890" * (n // 10),
    "digit groups": lambda n: "1234 5678 " * (n // 10),
    "at signs": lambda n: "a@" * (n // 2),
    "ignore": lambda n: "ignore all previous " * (n // 20),
    "your": lambda n: "reveal your " * (n // 12),
    "begin": lambda n: "-----BEGIN PRIVATE KEY-----" * (n // 27),
    "jwt starts": lambda n: "eyJhbGciOiJI" * (n // 12),
    "percent": lambda n: "%41%" * (n // 4),
    "spaced": lambda n: "i g n o r e " * (n // 12),
    "brackets": lambda n: "[({<" * (n // 4),
    "passwords": lambda n: "password=" * (n // 9),
    "zero width": lambda n: "i\u200b" * (n // 2),
    "cyrillic": lambda n: "ignоrе " * (n // 7),
    "numbers like cards": lambda n: "4111 1111 1111 1112 " * (n // 20),
    "credentials": lambda n: "https://u:pw12345@host.example/ " * (n // 32),
    "a token without an end": lambda n: "eyJhbGciOiJI.eyJzdWIi." + "eyJhbGciOiJI" * (n // 12),
    "credentials in a run": lambda n: "https://a:b@" * (n // 12),
    "keys in a run": lambda n: "AKIAQ3EGRI7LPK2MWNZX," * (n // 21),
    "key value": lambda n: "secret_key: aaaaaaaa " * (n // 21),
}


@pytest.mark.row("C08", kind="R")
@pytest.mark.parametrize("name", list(HOSTILE))
@pytest.mark.parametrize("way", [Direction.INPUT, Direction.OUTPUT])
def test_time_grows_with_the_text_not_faster(inspector: Inspector, name: str, way: Direction) -> None:
    def cpu(size: int) -> float:
        text = HOSTILE[name](size)
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            inspector.inspect(text, way)
            best = min(best, time.process_time() - start)
        return best

    small, large = cpu(SIZE), cpu(4 * SIZE)
    # Quadratic work would be sixteen times as much; the constant forgives a busy machine.
    assert large <= 8 * small + 0.05
