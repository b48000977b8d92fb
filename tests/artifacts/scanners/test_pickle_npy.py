"""Arrays of old writers and several in one file are clean; what follows an array is judged."""

from __future__ import annotations

import pytest
from tests.vectors.artifacts.make import SYSTEM, npy

from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.judge import judge
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.finding import Verdict


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (npy(shape="(2L,)"), Verdict.CLEAN),
        (npy() + npy() + npy("'<i8'", "()"), Verdict.CLEAN),
        (npy() + npy("'|O'", "(1,)", SYSTEM), Verdict.REFUSED),
        (npy() + SYSTEM, Verdict.REFUSED),
        (npy() + b"\0", Verdict.REFUSED),
        (npy(shape="(2**63,)"), Verdict.REFUSED),
        (npy("[('a', '|O')]", "(1,)", SYSTEM), Verdict.REFUSED),
    ],
)
def test_every_array_of_a_file_is_judged(data: bytes, verdict: Verdict) -> None:
    assert judge(BytesSource("a.npy", data), SCANNERS).verdict is verdict
