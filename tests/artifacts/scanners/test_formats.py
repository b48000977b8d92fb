"""R, Core ML, XML, YAML, trees, programs and what is packed: the contract of each scanner, and what is its own."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.scanner import ScannerContract, named
from tests.vectors.artifacts import formats, packed

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
from garrison.artifacts.scanners.seven_zip import SevenZip
from garrison.artifacts.scanners.sources import BytesSource
from garrison.artifacts.scanners.xgboost import XgboostBinary, XgboostUbj
from garrison.artifacts.scanners.xml_models import Xml
from garrison.artifacts.scanners.yaml_data import Yaml
from garrison.artifacts.scanners.zstd import Zstd
from garrison.core.finding import Verdict


def _judge(name: str, data: bytes) -> Judgement:
    return judge(BytesSource(name, data), SCANNERS)


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
        name: data for name, data in named(formats.REFUSED, ".rds", ".rda").items() if "promise" not in name
    }


class TestCoreMl(ScannerContract):
    scanner = CoreMl()
    good: ClassVar = named(formats.CLEAN, ".mlmodel")
    bad: ClassVar = named(formats.REFUSED, ".mlmodel")


class TestCoreMlWeights(ScannerContract):
    scanner = CoreMlWeights()
    good: ClassVar = named(formats.CLEAN, "weight.bin")
    bad: ClassVar = named(formats.REFUSED, "weight.bin")


class TestXml(ScannerContract):
    scanner = Xml()
    good: ClassVar = named(formats.CLEAN, ".xml", ".pmml", ".svg")
    bad: ClassVar = named(formats.REFUSED, ".xml", ".pmml", ".svg")


class TestYaml(ScannerContract):
    scanner = Yaml()
    good: ClassVar = named(formats.CLEAN, ".yaml", "MLmodel")
    bad: ClassVar = named(formats.REFUSED, ".yaml", "MLmodel")


class TestXgboostUbj(ScannerContract):
    scanner = XgboostUbj()
    good: ClassVar = named(formats.CLEAN, ".ubj")
    bad: ClassVar = named(formats.REFUSED, ".ubj")


class TestXgboostBinary(ScannerContract):
    scanner = XgboostBinary()
    good: ClassVar = named(formats.CLEAN, ".deprecated")
    bad: ClassVar = named(formats.REFUSED, ".model")


class TestLightGbm(ScannerContract):
    scanner = LightGbm()
    good: ClassVar = {name: data for name, data in formats.CLEAN.items() if name.startswith("lgb_")}
    bad: ClassVar = named(formats.REFUSED, "_model.txt")


class TestCatBoost(ScannerContract):
    scanner = CatBoost()
    good: ClassVar = named(formats.CLEAN, ".cbm")
    bad: ClassVar = named(formats.REFUSED, ".cbm")


class TestExecutable(ScannerContract):
    scanner = Executable()
    good: ClassVar = {}
    bad: ClassVar = {
        name: formats.REFUSED[name] for name in ("program.so", "program.bin", "llamafile", "cached.bin")
    }


class TestImage(ScannerContract):
    scanner = Image()
    good: ClassVar = named(formats.CLEAN, ".png", ".gif", ".wav")
    bad: ClassVar = named(formats.REFUSED, ".png")


class TestLz4(ScannerContract):
    scanner = Lz4()
    good: ClassVar = {"empty.lz4": formats.lz4(b"")}
    bad: ClassVar = {"cut.lz4": formats.INCOMPLETE["cut.lz4"]}


class TestSevenZip(ScannerContract):
    scanner = SevenZip()
    good: ClassVar = {"empty.7z": b"7z\xbc\xaf\x27\x1c\0\4\x8d\x9b\xd5\x0f" + bytes(20)}
    bad: ClassVar = {
        name: data for name, data in named(packed.REFUSED, ".7z").items() if not name.endswith("pickle.7z")
    }


class TestZstd(ScannerContract):
    scanner = Zstd()
    good: ClassVar = {"empty.zst": packed.zstd(b"")}
    bad: ClassVar = {name: packed.REFUSED[name] for name in ("trailing.zst", "bomb.zst")}
