"""Every vector gets its verdict, whatever it is called; mutants never crash a scanner or slip through."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.vectors.artifacts import formats, frameworks, make, packed

from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.judge import Judgement, judge
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.finding import Severity, Verdict

GROUPS = {"": make, "formats/": formats, "frameworks/": frameworks, "packed/": packed}


def _vectors(verdict: str) -> dict[str, bytes]:
    return {
        f"{group}{name}": data
        for group, module in GROUPS.items()
        for name, data in getattr(module, verdict, {}).items()
    }


REFUSED, INCOMPLETE, CLEAN = _vectors("REFUSED"), _vectors("INCOMPLETE"), _vectors("CLEAN")
EVERYTHING = {**REFUSED, **INCOMPLETE, **CLEAN, **_vectors("SAVED")}
SMALL = {name: data for name, data in EVERYTHING.items() if 0 < len(data) < 20_000}
PICKLES = [
    name for name in make.REFUSED if name.endswith((".pkl", ".pt", ".joblib", ".z", "pytorch_model.bin"))
]
TELLING = (".rds", ".mlmodel", ".ubj", ".cbm", ".skops", ".h5", ".keras", ".pb", ".tflite", ".7z", ".zst")


def _judge(name: str, data: bytes) -> Judgement:
    return judge(BytesSource(name, data), SCANNERS)


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_refused_with_advice(name: str) -> None:
    judged = _judge(name, REFUSED[name])
    assert judged.verdict is Verdict.REFUSED
    assert all(finding.fix and finding.message for finding in judged.findings)
    assert name in judged.findings[0].where


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", INCOMPLETE)
def test_a_file_that_is_not_understood_is_incomplete_with_a_reason(name: str) -> None:
    judged = _judge(name, INCOMPLETE[name])
    assert judged.verdict is Verdict.INCOMPLETE
    assert judged.findings


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", CLEAN)
def test_a_harmless_file_is_clean(name: str) -> None:
    judged = _judge(name, CLEAN[name])
    assert (judged.verdict, [each for each in judged.findings if each.severity is not Severity.INFO]) == (
        Verdict.CLEAN,
        [],
    )


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("ending", ["safetensors", "json", "md", "txt", "npy", "png", "gguf", "jinja", ""])
@pytest.mark.parametrize("name", PICKLES)
def test_no_extension_saves_a_pickle(name: str, ending: str) -> None:
    assert _judge(f"model.{ending}", make.REFUSED[name]).verdict is Verdict.REFUSED


@pytest.mark.row("A02", kind="R")
@pytest.mark.parametrize("name", [name for name in REFUSED if name.endswith(TELLING)])
def test_no_extension_saves_a_format_that_its_content_tells(name: str) -> None:
    for ending in ("safetensors", "bin", "md", "png"):
        assert _judge(f"model.{ending}", REFUSED[name]).verdict is Verdict.REFUSED


@given(st.sampled_from(sorted(SMALL)), st.data())
@settings(max_examples=2_000, deadline=None)
def test_no_mutation_crashes_a_scanner(name: str, draw: st.DataObject) -> None:
    data = SMALL[name]
    at = draw.draw(st.integers(0, len(data) - 1))
    length = draw.draw(st.integers(0, 8))
    mutant = data[:at] + draw.draw(st.binary(max_size=8)) + data[at + length :]
    judged = _judge(draw.draw(st.sampled_from([name, "mutant"])), mutant)
    assert not [finding for finding in judged.findings if finding.rule_id == "artifact.scanner.failed"]


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_no_bytes_crash_a_scanner(data: bytes) -> None:
    assert not [
        finding for finding in _judge("x", data).findings if finding.rule_id == "artifact.scanner.failed"
    ]


HARMLESS_OPCODES = st.lists(
    st.sampled_from(
        [b"N0", b"K\x010", b"]0", b")0", b"\x880", b"I1\n0", b"(1", b"\x8c\x01a0", b"}\x940", b"C\x02zz0"]
    ),
    max_size=40,
)


@given(HARMLESS_OPCODES, st.binary(max_size=40))
@settings(max_examples=200)
def test_a_payload_between_padding_and_a_broken_tail_is_refused(before: list[bytes], after: bytes) -> None:
    stream = b"\x80\x04" + b"".join(before) + make.SYSTEM[2:-1] + after
    assert _judge("weights.bin", stream).verdict is Verdict.REFUSED
