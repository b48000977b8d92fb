"""The bill of materials of a model: CycloneDX ML-BOM from real metadata only. Pure.

What no file, no lineage and no report says is absent. The model is the component that the document is about;
its files, data sets and base models stand below it with their digests.

Follows the JSON schemas of CycloneDX 1.6 and 1.7 (https://cyclonedx.org/schema/), which differ in nothing
that is used here but the version.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from garrison.artifacts import provenance
from garrison.artifacts.licenses import spdx_id
from garrison.artifacts.lineage.base import Lineage, Material
from garrison.artifacts.model_facts import ModelFacts
from garrison.core.digest import Manifest, Ref, canonical_json
from garrison.core.event import format_time

CYCLONEDX = provenance.CYCLONEDX
VERSIONS = ("1.6", "1.7")
MAX_FILES_LISTED = 20_000  # a document stays under what a reader accepts; the release statement has them all
_NAMESPACE = uuid.UUID("6f1d3a3e-8d1b-5c55-9f0a-3f0e3f4f7a10")  # of serial numbers made here
_ALGORITHMS = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha512": "SHA-512"}

# What goes in and comes out follows from the task that a model card declares (Hugging Face pipeline tags).
_TASK_FORMATS = {
    "text-generation": ("text", "text"),
    "text2text-generation": ("text", "text"),
    "summarization": ("text", "text"),
    "translation": ("text", "text"),
    "question-answering": ("text", "text"),
    "fill-mask": ("text", "text"),
    "feature-extraction": ("text", "embedding"),
    "sentence-similarity": ("text", "embedding"),
    "text-classification": ("text", "label"),
    "token-classification": ("text", "label"),
    "tabular-classification": ("table", "label"),
    "tabular-regression": ("table", "number"),
    "image-classification": ("image", "label"),
    "object-detection": ("image", "box"),
    "image-segmentation": ("image", "mask"),
    "text-to-image": ("text", "image"),
    "image-to-text": ("image", "text"),
    "image-text-to-text": ("image, text", "text"),
    "automatic-speech-recognition": ("audio", "text"),
    "text-to-speech": ("text", "audio"),
}
# Headings of a model card, in the words of its common templates, and where the schema wants their text.
_USES = ("intended uses", "intended use", "uses", "direct use", "intended uses & limitations", "use cases")
_LIMITS = ("limitations", "limitations and bias", "out-of-scope use", "limitations and biases")
_ETHICS = ("bias, risks, and limitations", "ethical considerations", "bias and risks", "bias", "risks")


def cyclonedx(
    ref: Ref,
    manifest: Manifest,
    facts: ModelFacts,
    lineage: Lineage | None,
    evaluations: Sequence[Material],
    *,
    owner: str,
    publisher: str,
    tier: str,
    created: datetime,
    tool: str,
) -> dict[str, Any]:
    """The document, version 1.6. `created` is when it is made, `tool` the version of Garrison."""
    materials = (*(lineage.materials if lineage else ()), *evaluations)
    data = _data_components(facts, materials)
    own = {
        "garrison:digest": manifest.digest,
        "garrison:owner": owner,
        "garrison:publisher": publisher,
        "garrison:tier": tier,
    }
    model = _model(ref, manifest, facts, materials, data, own)
    sources = [*data, *_code_components(materials)]
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": format_time(created)[:19] + "Z",
            "tools": {"components": [{"type": "application", "name": "garrison", "version": tool}]},
            "component": model,
        },
        "components": sources,
        "services": [],
        "dependencies": [
            {"ref": str(ref), "dependsOn": [component["bom-ref"] for component in sources]},
            *({"ref": component["bom-ref"]} for component in sources),
        ],
    }
    if len(manifest.files) > MAX_FILES_LISTED:
        document["compositions"] = [{"aggregate": "incomplete", "assemblies": [str(ref)]}]
    serial = uuid.uuid5(_NAMESPACE, canonical_json(document).hex())
    return {**document, "serialNumber": f"urn:uuid:{serial}"}


def _model(
    ref: Ref,
    manifest: Manifest,
    facts: ModelFacts,
    materials: Sequence[Material],
    data: list[dict[str, Any]],
    own: dict[str, str],
) -> dict[str, Any]:
    """The component that the document is about, with its files below it."""
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": str(ref),
        "name": ref.name,
        "version": str(ref.version),
        "hashes": [_hash("sha256", manifest.digest.removeprefix("sha256:"))],
        "modelCard": _card(facts, materials, data),
        "components": [
            {
                "type": "file",
                "bom-ref": f"{ref}#{entry.path}",
                "name": entry.path,
                "hashes": [_hash("sha256", entry.digest.removeprefix("sha256:"))],
            }
            for entry in manifest.files[:MAX_FILES_LISTED]
        ],
        "properties": _properties(own, facts),
    }
    if licenses := _licenses(facts.licenses):
        model["licenses"] = licenses
    if tags := facts.tags:
        model["tags"] = tags
    if ancestors := _ancestors(facts, materials):
        model["pedigree"] = {"ancestors": ancestors}
    return model


def in_version(document: dict[str, Any], version: str) -> dict[str, Any]:
    """The same document in another version of the format."""
    return {
        **document,
        "$schema": f"http://cyclonedx.org/schema/bom-{version}.schema.json",
        "specVersion": version,
    }


def _card(facts: ModelFacts, materials: Sequence[Material], data: list[dict[str, Any]]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if facts.task:
        parameters["task"] = facts.task
    if facts.family:
        parameters["architectureFamily"] = facts.family
    if facts.architecture:
        parameters["modelArchitecture"] = facts.architecture
    if data:
        parameters["datasets"] = [{"ref": component["bom-ref"]} for component in data]
    known = _TASK_FORMATS.get(facts.task)
    if known:
        parameters["inputs"], parameters["outputs"] = [{"format": known[0]}], [{"format": known[1]}]
    elif facts.inputs or facts.outputs:
        parameters["inputs"] = [{"format": f"tensor {name}"} for name in facts.inputs]
        parameters["outputs"] = [{"format": f"tensor {name}"} for name in facts.outputs]
    card: dict[str, Any] = {}
    if parameters:
        card["modelParameters"] = parameters
    if metrics := list(_metrics(facts, materials)):
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    if considerations := _considerations(facts):
        card["considerations"] = considerations
    return card


def _metrics(facts: ModelFacts, materials: Sequence[Material]) -> Iterable[dict[str, str]]:
    for name, value, on in facts.metrics:
        yield {"type": name, "value": value, **({"slice": on} if on else {})}
    for material in materials:
        if material.kind == "evaluation":
            for name, fact in material.facts.items():
                if name.startswith("metrics.") and isinstance(fact, (int, float)):
                    yield {
                        "type": name.removeprefix("metrics."),
                        "value": repr(fact),
                        "slice": material.name,
                    }


def _considerations(facts: ModelFacts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if uses := [facts.sections[name] for name in _USES if name in facts.sections]:
        found["useCases"] = uses
    if limits := [facts.sections[name] for name in _LIMITS if name in facts.sections]:
        found["technicalLimitations"] = limits
    if ethics := [facts.sections[name] for name in _ETHICS if name in facts.sections]:
        found["ethicalConsiderations"] = [{"name": text} for text in ethics]
    return found


def _data_components(facts: ModelFacts, materials: Sequence[Material]) -> list[dict[str, Any]]:
    """Data sets: the ones of the lineage with their digests, then those that only the card names."""
    found = [_component("data", "data", number, one) for number, one in enumerate(_of(materials, "data"), 1)]
    for component in found:
        component["data"] = [{"type": "dataset", "name": component["name"]}]
    named = {component["name"] for component in found}
    found += [
        {
            "type": "data",
            "bom-ref": f"card-dataset:{name}",
            "name": name,
            "data": [{"type": "dataset", "name": name}],
            "properties": [{"name": "garrison:source", "value": "named by the model card, not hashed"}],
        }
        for name in dict.fromkeys(facts.datasets)
        if name not in named
    ]
    return found


def _code_components(materials: Sequence[Material]) -> list[dict[str, Any]]:
    chosen = [*_of(materials, "preprocessing"), *_of(materials, "code")]
    return [_component("file", one.kind, number, one) for number, one in enumerate(chosen, 1)]


def _ancestors(facts: ModelFacts, materials: Sequence[Material]) -> list[dict[str, Any]]:
    bases = _of(materials, "base_model")
    found = [_component("machine-learning-model", "base", number, one) for number, one in enumerate(bases, 1)]
    named = {component["name"] for component in found}
    found += [
        {"type": "machine-learning-model", "bom-ref": f"card-base:{name}", "name": name}
        for name in dict.fromkeys(facts.base_models)
        if name not in named
    ]
    return found


def _component(kind: str, prefix: str, number: int, material: Material) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": kind,
        "bom-ref": f"{prefix}-{number}:{material.name}",
        "name": material.name,
    }
    hashes = [_hash(name, value) for name, value in material.digests.items() if name in _ALGORITHMS]
    if hashes:
        component["hashes"] = hashes
    properties = [
        {"name": f"garrison:digest:{name}", "value": value}
        for name, value in material.digests.items()
        if name not in _ALGORITHMS
    ]
    properties += [{"name": f"garrison:{name}", "value": str(fact)} for name, fact in material.facts.items()]
    if material.uri:
        properties.append({"name": "garrison:uri", "value": material.uri})
    if properties:
        component["properties"] = properties
    return component


def _licenses(names: list[str]) -> list[dict[str, Any]]:
    return [{"license": {"id": spdx_id(name)} if spdx_id(name) else {"name": name}} for name in names]


def _properties(own: dict[str, str], facts: ModelFacts) -> list[dict[str, str]]:
    found = dict(own)
    if facts.formats:
        found["model:formats"] = ", ".join(facts.formats)
    if facts.parameters:
        found["model:parameters"] = str(facts.parameters)
    for dtype, count in sorted(facts.dtypes.items()):
        found[f"model:parameters:{dtype}"] = str(count)
    if facts.title:
        found["model:name"] = facts.title
    if facts.library:
        found["model:library"] = facts.library
    if facts.languages:
        found["model:languages"] = ", ".join(facts.languages)
    found |= {f"model:{name}": value for name, value in facts.properties.items() if value}
    return [{"name": name, "value": value} for name, value in found.items()]


def _of(materials: Sequence[Material], kind: str) -> list[Material]:
    return [material for material in materials if material.kind == kind]


def _hash(algorithm: str, value: str) -> dict[str, str]:
    return {"alg": _ALGORITHMS[algorithm], "content": value}
