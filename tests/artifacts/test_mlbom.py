"""The bill of materials: valid by the published schemas, filled from what the files say, bound to the digest."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.app.household import Household
from tests.artifacts.trained import Trained

from garrison.artifacts.bom_check import check_bom
from garrison.artifacts.lineage.base import Lineage, Material
from garrison.artifacts.mlbom import cyclonedx, in_version
from garrison.artifacts.model_facts import ModelFacts, read_facts
from garrison.artifacts.spdx import spdx
from garrison.core.digest import Manifest, Ref
from garrison.core.errors import Refused
from garrison.core.event import parse_time
from garrison.trust.tree import read_tree

FORMATS = ("cyclonedx", "cyclonedx-1.7", "spdx")


@pytest.mark.row("A29")
def test_every_format_is_valid_by_its_standard(home: Household, published: Path) -> None:
    judged = [
        check_bom(home.ask("model.bom", ref="fraud@1", format=form)["document"], form) for form in FORMATS
    ]
    assert judged == ["CycloneDX 1.6 JSON schema", "CycloneDX 1.7 JSON schema", "SPDX 3.0.1 model"]


@pytest.mark.row("A29")
def test_it_says_what_the_files_the_lineage_and_the_reports_say(
    home: Household, trained: Trained, published: Path
) -> None:
    document = home.ask("model.bom", ref="fraud@1")["document"]
    model = document["metadata"]["component"]
    card = model["modelCard"]
    properties = {row["name"]: row["value"] for row in model["properties"]}
    assert model["type"] == "machine-learning-model"
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert card["modelParameters"]["task"] == "tabular-classification"
    assert card["modelParameters"]["inputs"] == [{"format": "table"}]
    assert (properties["model:parameters"], properties["model:parameters:F32"]) == ("3", "3")
    assert card["considerations"]["technicalLimitations"][0].startswith("Two columns only")
    assert {"type": "accuracy", "value": repr(trained.accuracy), "slice": "evaluation.json"} in card[
        "quantitativeAnalysis"
    ]["performanceMetrics"]
    data = next(one for one in document["components"] if one["type"] == "data")
    assert data["hashes"] == [
        {"alg": "SHA-256", "content": hashlib.sha256(trained.data.read_bytes()).hexdigest()}
    ]
    assert card["modelParameters"]["datasets"] == [{"ref": data["bom-ref"]}]
    weights = next(one for one in model["components"] if one["name"] == "model.safetensors")
    assert (
        weights["hashes"][0]["content"]
        == hashlib.sha256((trained.model / "model.safetensors").read_bytes()).hexdigest()
    )


@pytest.mark.row("A29")
def test_it_is_signed_and_bound_to_the_digest(home: Household, published: Path) -> None:
    digest = home.ask("model.show", ref="fraud@1")["digest"]
    envelope = json.loads((published / "1.bom.json").read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["subject"] == [{"name": "fraud@1", "digest": {"sha256": digest.removeprefix("sha256:")}}]
    assert statement["predicateType"] == "https://cyclonedx.org/bom"
    assert statement["predicate"] == home.ask("model.bom", ref="fraud@1")["document"]


@pytest.mark.row("A29")
def test_a_real_embedding_model_is_described_from_its_own_files(minilm_dir: Path) -> None:
    manifest = read_tree(minilm_dir, allow_hard_links=True)
    facts = read_facts(minilm_dir, manifest)
    assert (facts.architecture, facts.family) == ("BertModel", "bert")
    assert facts.licenses == ["apache-2.0"]
    assert facts.parameters > 22_000_000
    assert "s2orc" in facts.datasets
    document = document_of(facts, manifest)
    for form in FORMATS:
        check_bom(as_format(document, form), form)
    assert len([one for one in document["components"] if one["type"] == "data"]) == len(set(facts.datasets))


@pytest.mark.row("A29")
def test_a_real_language_model_is_described_from_its_gguf_header(smollm2_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").symlink_to(smollm2_gguf)
    facts = read_facts(smollm2_gguf.parent, Manifest.of([]))
    assert facts == ModelFacts()  # nothing is said of what the manifest does not list
    manifest = read_tree_of(smollm2_gguf)
    facts = read_facts(smollm2_gguf.parent, manifest)
    assert facts.architecture == "llama"
    assert 130_000_000 < facts.parameters < 170_000_000
    assert "Q4_1" in facts.dtypes
    check_bom(document_of(facts, manifest), "cyclonedx")


def test_what_nobody_says_is_absent(tmp_path: Path) -> None:
    np.save(tmp_path / "weights.npy", np.zeros((3, 4), np.float32))
    manifest = read_tree(tmp_path)
    document = document_of(read_facts(tmp_path, manifest), manifest)
    model = document["metadata"]["component"]
    assert model["modelCard"] == {}
    assert "licenses" not in model
    assert document["components"] == document["services"] == []
    assert {"name": "model:parameters", "value": "12"} in model["properties"]
    check_bom(document, "cyclonedx")


def test_a_licence_that_is_no_spdx_identifier_stays_a_name(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: house-licence\n---\n# m\n")
    manifest = read_tree(tmp_path)
    document = document_of(read_facts(tmp_path, manifest), manifest)
    assert document["metadata"]["component"]["licenses"] == [{"license": {"name": "house-licence"}}]
    for form in FORMATS:
        check_bom(as_format(document, form), form)


@pytest.mark.row("A29")
@pytest.mark.parametrize("form", FORMATS)
def test_the_check_refuses_what_is_not_valid(form: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    manifest = read_tree(tmp_path)
    document = as_format(document_of(read_facts(tmp_path, manifest), manifest), form)
    if form == "spdx":
        document["@graph"][1]["profileConformance"] = ["imagined"]
    else:
        document["metadata"]["component"]["modelCard"]["invented"] = True
    with pytest.raises(Refused, match="BOM-SCHEMA"):
        check_bom(document, form)


@given(data=st.binary(max_size=400), name=st.sampled_from(["m.safetensors", "m.gguf", "m.onnx", "m.npy"]))
def test_any_bytes_under_a_weight_files_name_add_facts_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    place = tmp_path_factory.getbasetemp() / "headers"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    magic = {"m.gguf": b"GGUF\x03\x00\x00\x00", "m.npy": b"\x93NUMPY\x01\x00", "m.onnx": b"\x08\x07"}
    (place / name).write_bytes(magic.get(name, b"") + data)
    read_facts(place, read_tree(place))


@given(st.text(max_size=300))
def test_any_model_card_adds_facts_or_nothing(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    place = tmp_path_factory.getbasetemp() / "cards"
    place.mkdir(exist_ok=True)
    (place / "README.md").write_text(f"---\n{text}\n---\n{text}", encoding="utf-8", errors="replace")
    manifest = read_tree(place)
    document_of(read_facts(place, manifest), manifest)


def document_of(facts: ModelFacts, manifest: Manifest) -> dict[str, Any]:
    base = Material("base_model", "base@1", digests={"sha256": "a" * 64, "gitCommit": "b" * 40})
    return cyclonedx(
        Ref("m", 1),
        manifest,
        facts,
        Lineage("test", materials=(base,)),
        (),
        owner="dana",
        publisher="ci",
        tier="internal",
        created=parse_time("2026-11-20T09:00:00Z"),
        tool="1",
    )


def as_format(document: dict[str, Any], form: str) -> dict[str, Any]:
    if form == "spdx":
        return spdx(document)
    return document if form == "cyclonedx" else in_version(document, "1.7")


def read_tree_of(path: Path) -> Manifest:
    """The manifest of one file of a directory, as if it were alone there."""
    whole = read_tree(path.parent, allow_hard_links=True)
    return Manifest.of(entry for entry in whole if entry.path == path.name)
