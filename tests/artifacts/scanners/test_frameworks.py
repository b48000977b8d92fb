"""Keras, HDF5, TensorFlow, TFLite and Flax: the contract of each scanner; no harm hides among harmless parts."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.scanner import ScannerContract, named
from tests.vectors.artifacts import frameworks, packed

from garrison.artifacts.scan import scan_path
from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.hdf5 import Hdf5
from garrison.artifacts.scanners.judge import Judgement, judge
from garrison.artifacts.scanners.msgpack_flax import MsgpackFlax
from garrison.artifacts.scanners.sources import BytesSource
from garrison.artifacts.scanners.tf_checkpoint import CheckpointIndex
from garrison.artifacts.scanners.tf_saved import (
    CheckpointState,
    Fingerprint,
    KerasMetadata,
    SavedModel,
    TensorflowGraph,
)
from garrison.artifacts.scanners.tf_text import TensorflowText
from garrison.artifacts.scanners.tflite import TfLite
from garrison.core.finding import Verdict

SAVED_MODEL = frameworks.SAVED["saved/saved_model.pb"]


def _judge(name: str, data: bytes) -> Judgement:
    return judge(BytesSource(name, data), SCANNERS)


@pytest.mark.row("A02", kind="R")
def test_a_saved_model_is_clean_as_a_whole_and_not_with_short_data(tmp_path: Path) -> None:
    for name, data in frameworks.SAVED.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert scan_path([tmp_path]).verdict is Verdict.CLEAN
    data_file = tmp_path / "saved/variables/variables.data-00000-of-00001"
    data_file.write_bytes(data_file.read_bytes()[:-1])
    report = scan_path([tmp_path])
    assert report.verdict is Verdict.REFUSED
    assert {"artifact.data.short"} <= {finding.rule_id for file in report.files for finding in file.findings}


HARMFUL_GRAPH = frameworks.saved(
    frameworks.graph(frameworks.node("x", "Placeholder"), frameworks.node("e", "WriteFile"))
)


@given(st.lists(st.sampled_from(["Relu", "Const", "NoOp", "MatMul", "f"]), max_size=12), st.integers(0, 12))
@settings(max_examples=100)
def test_a_harmful_operation_among_harmless_ones_is_refused(others: list[str], at: int) -> None:
    nodes = [frameworks.node(f"n{index}", name) for index, name in enumerate(others)]
    nodes.insert(at, frameworks.node("e", "ReadFile"))
    assert _judge("m", frameworks.saved(frameworks.graph(*nodes))).verdict is Verdict.REFUSED


@given(st.binary(min_size=1, max_size=64), st.integers(0, len(HARMFUL_GRAPH)))
@settings(max_examples=200)
def test_bytes_put_into_a_harmful_graph_never_make_it_clean(noise: bytes, at: int) -> None:
    mutant = HARMFUL_GRAPH[:at] + noise + HARMFUL_GRAPH[at:]
    if b"WriteFile" in mutant:
        assert _judge("saved_model.pb", mutant).verdict is not Verdict.CLEAN


@given(st.integers(0, 9), st.sampled_from(["config", "layers", "layer", "build_config", "compile_config"]))
@settings(max_examples=60)
def test_a_lambda_is_found_at_any_depth(depth: int, key: str) -> None:
    item: object = {"class_name": "Lambda", "config": {}}
    for _ in range(depth):
        item = {key: [item]}
    assert _judge("m.keras", frameworks.keras(frameworks.dense(extra=item))).verdict is Verdict.REFUSED


def test_a_shape_that_shares_its_bytes_a_thousand_times_ends_soon() -> None:
    data = frameworks.REAL["weights_latest.h5"]
    assert _judge("x", data + data).verdict is not Verdict.CLEAN


class TestHdf5(ScannerContract):
    scanner = Hdf5()
    good: ClassVar = named(frameworks.CLEAN, ".h5")
    bad: ClassVar = {
        name: data for name, data in named(frameworks.REFUSED, ".h5").items() if "pickle" not in name
    }


class TestSavedModel(ScannerContract):
    scanner = SavedModel()
    good: ClassVar = {**named(frameworks.CLEAN, "saved_model.pb"), "saved_model.pb": SAVED_MODEL}
    bad: ClassVar = named(frameworks.REFUSED, "saved_model.pb")


class TestTensorflowGraph(ScannerContract):
    scanner = TensorflowGraph()
    good: ClassVar = {name: frameworks.CLEAN[name] for name in ("plain.pb", "saver.pb", "functions.pb")}
    bad: ClassVar = {f"{name}.pb": frameworks.REFUSED[f"{name}.pb"] for name in frameworks.HARMFUL}


class TestKerasMetadata(ScannerContract):
    scanner = KerasMetadata()
    good: ClassVar = named(frameworks.CLEAN, "keras_metadata.pb")
    bad: ClassVar = named(frameworks.REFUSED, "keras_metadata.pb")


class TestFingerprint(ScannerContract):
    scanner = Fingerprint()
    good: ClassVar = named(frameworks.SAVED, "fingerprint.pb")


class TestCheckpointIndex(ScannerContract):
    scanner = CheckpointIndex()
    good: ClassVar = named(frameworks.SAVED, ".index")


class TestCheckpointState(ScannerContract):
    scanner = CheckpointState()
    good: ClassVar = named(frameworks.CLEAN, "/checkpoint")
    bad: ClassVar = named(frameworks.INCOMPLETE, "/checkpoint")


class TestTensorflowText(ScannerContract):
    scanner = TensorflowText()
    good: ClassVar = named(packed.CLEAN, ".pbtxt")
    bad: ClassVar = named(packed.REFUSED, ".pbtxt")


class TestTfLite(ScannerContract):
    scanner = TfLite()
    good: ClassVar = named(frameworks.CLEAN, ".tflite")
    bad: ClassVar = {
        name: data for name, data in named(frameworks.REFUSED, ".tflite").items() if "pickle" not in name
    }


class TestMsgpackFlax(ScannerContract):
    scanner = MsgpackFlax()
    good: ClassVar = {**named(frameworks.CLEAN, ".msgpack"), "weights.bin": frameworks.CLEAN["weights.bin"]}
    bad: ClassVar = {
        name: data for name, data in named(frameworks.REFUSED, ".msgpack").items() if "pickle" not in name
    }
