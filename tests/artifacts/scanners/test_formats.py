"""The other formats: every vector gets its verdict; mutants crash nothing and slip nothing through."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.scanner import ScannerContract
from tests.vectors.artifacts import formats

from garrison.artifacts.scan import scan_path
from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.catboost import CatBoost
from garrison.artifacts.scanners.coreml import CoreMl, CoreMlWeights
from garrison.artifacts.scanners.executables import Executable
from garrison.artifacts.scanners.images import Image
from garrison.artifacts.scanners.judge import Judgement, judge
from garrison.artifacts.scanners.lightgbm import LightGbm
from garrison.artifacts.scanners.lz4 import Lz4
from garrison.artifacts.scanners.rdata import RData
from garrison.artifacts.scanners.sources import BytesSource
from garrison.artifacts.scanners.xgboost import XgboostBinary, XgboostUbj
from garrison.artifacts.scanners.xml_models import Xml
from garrison.artifacts.scanners.yaml_data import Yaml
from garrison.core.finding import Verdict

ALL = {**formats.REFUSED, **formats.INCOMPLETE, **formats.CLEAN}


def _judge(name: str, data: bytes) -> Judgement:
    return judge(BytesSource(name, data), SCANNERS)


def _named(files: dict[str, bytes], *endings: str) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.endswith(endings)}


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", formats.REFUSED)
def test_a_hostile_file_is_refused_with_advice(name: str) -> None:
    judged = _judge(name, formats.REFUSED[name])
    assert (judged.verdict, [finding.message for finding in judged.findings if not finding.fix]) == (
        Verdict.REFUSED,
        [],
    )


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", formats.INCOMPLETE)
def test_a_file_that_is_not_understood_is_incomplete(name: str) -> None:
    assert _judge(name, formats.INCOMPLETE[name]).verdict is Verdict.INCOMPLETE


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", formats.CLEAN)
def test_a_harmless_file_is_clean(name: str) -> None:
    judged = _judge(name, formats.CLEAN[name])
    assert (judged.verdict, judged.findings) == (Verdict.CLEAN, ())


@pytest.mark.row("A02", kind="R")
@pytest.mark.parametrize(
    "name",
    [name for name in formats.REFUSED if name.endswith((".rds", ".mlmodel", ".ubj", ".cbm", ".skops"))],
)
def test_no_extension_saves_it(name: str) -> None:
    for ending in ("safetensors", "bin", "md", "png"):
        assert _judge(f"model.{ending}", formats.REFUSED[name]).verdict is Verdict.REFUSED


@given(st.sampled_from([name for name in ALL if len(ALL[name]) < 20_000]), st.data())
@settings(max_examples=300, deadline=None)
def test_no_mutation_crashes_a_scanner(name: str, draw: st.DataObject) -> None:
    data = ALL[name]
    at = draw.draw(st.integers(0, len(data) - 1))
    length = draw.draw(st.integers(0, 8))
    mutant = data[:at] + draw.draw(st.binary(max_size=8)) + data[at + length :]
    assert "artifact.scanner.failed" not in {finding.rule_id for finding in _judge(name, mutant).findings}


@given(st.text(st.sampled_from("ab:-_ \n\t'\"[]{}&*!#|>?,%\\0."), max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_text_crashes_the_reader_of_yaml(text: str) -> None:
    assert "artifact.scanner.failed" not in {
        finding.rule_id for finding in _judge("x.yaml", text.encode()).findings
    }


@given(st.integers(0, 6), st.sampled_from(["  ", "    "]), st.sampled_from(["- ", ""]))
@settings(max_examples=50, deadline=None)
def test_a_target_is_found_at_every_depth(depth: int, indent: str, item: str) -> None:
    rows = [indent * level + f"k{level}:" for level in range(depth)]
    rows.append(indent * depth + item + "_target_: os.system")
    assert _judge("config.yaml", "\n".join(rows).encode()).verdict is Verdict.REFUSED


def test_a_blob_of_an_image_layout_that_was_changed_is_refused(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / ("0" * 64)).write_bytes(b'{"schemaVersion": 2}')
    assert scan_path([tmp_path]).verdict is Verdict.REFUSED


class TestRData(ScannerContract):
    scanner = RData()
    good: ClassVar = {
        name: formats.CLEAN[name] for name in ("vector.rds", "ascii.rds", "formula.rds", "sequence.rds")
    }
    bad: ClassVar = {
        name: data for name, data in _named(formats.REFUSED, ".rds", ".rda").items() if "promise" not in name
    }


class TestCoreMl(ScannerContract):
    scanner = CoreMl()
    good: ClassVar = _named(formats.CLEAN, ".mlmodel")
    bad: ClassVar = _named(formats.REFUSED, ".mlmodel")


class TestCoreMlWeights(ScannerContract):
    scanner = CoreMlWeights()
    good: ClassVar = _named(formats.CLEAN, "weight.bin")
    bad: ClassVar = _named(formats.REFUSED, "weight.bin")


class TestXml(ScannerContract):
    scanner = Xml()
    good: ClassVar = _named(formats.CLEAN, ".xml", ".pmml", ".svg")
    bad: ClassVar = _named(formats.REFUSED, ".xml", ".pmml", ".svg")


class TestYaml(ScannerContract):
    scanner = Yaml()
    good: ClassVar = _named(formats.CLEAN, ".yaml", "MLmodel")
    bad: ClassVar = _named(formats.REFUSED, ".yaml", "MLmodel")


class TestXgboostUbj(ScannerContract):
    scanner = XgboostUbj()
    good: ClassVar = _named(formats.CLEAN, ".ubj")
    bad: ClassVar = _named(formats.REFUSED, ".ubj")


class TestXgboostBinary(ScannerContract):
    scanner = XgboostBinary()
    good: ClassVar = _named(formats.CLEAN, ".deprecated")
    bad: ClassVar = _named(formats.REFUSED, ".model")


class TestLightGbm(ScannerContract):
    scanner = LightGbm()
    good: ClassVar = {name: data for name, data in formats.CLEAN.items() if name.startswith("lgb_")}
    bad: ClassVar = _named(formats.REFUSED, "_model.txt")


class TestCatBoost(ScannerContract):
    scanner = CatBoost()
    good: ClassVar = _named(formats.CLEAN, ".cbm")
    bad: ClassVar = _named(formats.REFUSED, ".cbm")


class TestExecutable(ScannerContract):
    scanner = Executable()
    good: ClassVar = {}
    bad: ClassVar = {
        name: formats.REFUSED[name] for name in ("program.so", "program.bin", "llamafile", "cached.bin")
    }


class TestImage(ScannerContract):
    scanner = Image()
    good: ClassVar = _named(formats.CLEAN, ".png", ".gif", ".wav")
    bad: ClassVar = _named(formats.REFUSED, ".png")


class TestLz4(ScannerContract):
    scanner = Lz4()
    good: ClassVar = {"empty.lz4": formats.lz4(b"")}
    bad: ClassVar = {"cut.lz4": formats.INCOMPLETE["cut.lz4"]}
