"""Every known way to make unpickling run something is refused, and the line says what would have run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.vectors.artifacts import pickles
from tests.vectors.artifacts.make import called, called_text, short

from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.judge import Judgement, judge
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.finding import Verdict


def _judge(data: bytes) -> Judgement:
    return judge(BytesSource("model.bin", data), SCANNERS)


def _messages(judged: Judgement) -> str:
    return "\n".join(finding.message for finding in judged.findings)


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("gadget", pickles.GADGETS)
def test_a_callable_that_reaches_out_is_refused_however_it_is_written(gadget: str) -> None:
    module, _, attribute = gadget.rpartition(".")
    renamed = module.replace("__builtin__", "builtins")
    for data in (called(module, attribute), called_text(module, attribute)):
        judged = _judge(data)
        assert judged.verdict is Verdict.REFUSED
        assert f"{renamed}.{attribute}('echo garrison-test')" in _messages(judged)


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("gadget", pickles.GADGETS)
def test_importing_it_is_refused_without_a_call(gadget: str) -> None:
    module, _, attribute = gadget.rpartition(".")
    data = b"\x80\x04" + short(module) + short(attribute) + b"\x93."
    assert _judge(data).verdict is Verdict.REFUSED


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("trick", pickles.TRICKS)
def test_a_trick_is_refused_with_a_line_that_says_what_would_happen(trick: str) -> None:
    data, said = pickles.TRICKS[trick]
    judged = _judge(data)
    assert judged.verdict is Verdict.REFUSED
    assert said in _messages(judged)
    assert all(finding.fix for finding in judged.findings)


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", pickles.HARMLESS)
def test_what_only_looks_like_a_trick_is_clean(name: str) -> None:
    judged = _judge(pickles.HARMLESS[name])
    assert (judged.verdict, _messages(judged)) == (Verdict.CLEAN, "")


NOISE = st.lists(
    st.sampled_from(
        [
            b"N0",
            b"I010\n0",
            b"I1\0x\n0",
            b"(1",
            b"(e",
            b"Nb",
            b"]0",
            b"\x95" + bytes(8),
            b"\x80\x04",
            b"\x980",
            b"}\x940",
        ]
    ),
    max_size=30,
)


@given(NOISE, st.sampled_from(sorted(pickles.GADGETS)))
@settings(max_examples=200)
def test_opcodes_without_effect_hide_nothing(before: list[bytes], gadget: str) -> None:
    module, _, attribute = gadget.rpartition(".")
    data = b"\x80\x04N" + b"".join(before).replace(b"\x980", b"\x98") + called(module, attribute)[2:]
    assert _judge(data).verdict is Verdict.REFUSED
