"""What the files of a model say of themselves: headers, configurations and the model card. Weights are not read.

Only what is written there is returned; a file that cannot be read adds nothing. The files were scanned
before, and every reading is bounded all the same.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.artifacts.model_headers import Header, read_header
from garrison.artifacts.scanners import strict_json, strict_yaml
from garrison.artifacts.scanners.base import Malformed
from garrison.artifacts.scanners.yaml_values import BadYaml
from garrison.core.digest import Manifest

MAX_CARD = 512 * 1024  # bytes of a README; front matter stays under 64 kB
MAX_FRONT = 64 * 1024
MAX_CONFIG = 4 * 1024 * 1024
MAX_WEIGHT_FILES = 2_000  # shards of one model whose headers are read
MAX_LIST = 200  # data sets, licences, languages of one card
MAX_PARAGRAPH = 2_000  # characters of a section of the card
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_HEADING = re.compile(r"^(#{1,4})\s+(.+?)\s*#*\s*$", re.MULTILINE)
_WEIGHTS = (".safetensors", ".gguf", ".onnx", ".npy")
_NUMBERS = {
    "hidden_size": "hidden size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "attention heads",
    "vocab_size": "vocabulary",
    "max_position_embeddings": "context length",
}


@dataclass(slots=True)
class ModelFacts:
    """What was found. Empty means that no file says it."""

    architecture: str = ""
    family: str = ""
    task: str = ""
    title: str = ""
    library: str = ""
    parameters: int = 0
    dtypes: dict[str, int] = field(default_factory=dict)
    formats: list[str] = field(default_factory=list)
    licenses: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    base_models: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    metrics: list[tuple[str, str, str]] = field(default_factory=list)  # name, value, on what
    sections: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)


def read_facts(tree: Path, manifest: Manifest) -> ModelFacts:
    """Everything that the files at the top of `tree`, and the weights anywhere in it, say of the model."""
    facts = ModelFacts()
    paths = {entry.path for entry in manifest}
    _config(facts, _json(tree, paths, "config.json"))
    _weights(facts, tree, [entry.path for entry in manifest if entry.path.lower().endswith(_WEIGHTS)])
    if card := next((path for path in ("README.md", "readme.md", "MODEL_CARD.md") if path in paths), ""):
        _card(facts, _bytes(tree / card, MAX_CARD))
    return facts


def _config(facts: ModelFacts, config: dict[str, Any]) -> None:
    facts.architecture = next(iter(_texts(config.get("architectures"))), "")
    facts.family = _text(config.get("model_type"))
    if dtype := _text(config.get("torch_dtype")) or _text(config.get("dtype")):
        facts.properties["config.dtype"] = dtype
    if version := _text(config.get("transformers_version")):
        facts.properties["transformers"] = version
    for key, name in _NUMBERS.items():
        if type(config.get(key)) is int:
            facts.properties[name] = str(config[key])
    if isinstance(quantization := config.get("quantization_config"), dict):
        facts.properties["quantization"] = _text(quantization.get("quant_method"))


def _weights(facts: ModelFacts, tree: Path, paths: list[str]) -> None:
    for path in paths[:MAX_WEIGHT_FILES]:
        try:
            header = read_header(tree / path)
        except (OSError, EOFError, ValueError, KeyError, TypeError, struct.error, Malformed):
            continue  # its header says nothing that can be read, so nothing is said of it
        if header is not None:
            _add_header(facts, header)


def _add_header(facts: ModelFacts, header: Header) -> None:
    if header.format not in facts.formats:
        facts.formats.append(header.format)
    facts.parameters += header.parameters
    for dtype, count in header.dtypes.items():
        facts.dtypes[dtype] = facts.dtypes.get(dtype, 0) + count
    facts.architecture = facts.architecture or header.architecture
    facts.title = facts.title or header.name
    facts.licenses += [header.license] if header.license and header.license not in facts.licenses else []
    facts.inputs = facts.inputs or list(header.inputs)
    facts.outputs = facts.outputs or list(header.outputs)
    facts.properties |= header.properties


def _card(facts: ModelFacts, data: bytes) -> None:
    text = data.decode("utf-8", errors="replace")
    found = _FRONT.match(text)
    if found:
        _front_matter(facts, found.group(1).encode())
        text = text[found.end() :]
    headings = list(_HEADING.finditer(text))
    for place, heading in enumerate(headings):
        end = headings[place + 1].start() if place + 1 < len(headings) else len(text)
        body = text[heading.end() : end].strip()
        if body:
            facts.sections.setdefault(heading.group(2).strip().lower()[:200], body[:MAX_PARAGRAPH])


def _front_matter(facts: ModelFacts, data: bytes) -> None:
    if len(data) > MAX_FRONT:
        return
    try:
        documents, _tags = strict_yaml.parse(data)
    except (BadYaml, ValueError):
        return
    card = documents[0] if documents and isinstance(documents[0], dict) else {}
    facts.licenses = _texts(card.get("license")) or facts.licenses
    if facts.licenses == ["other"] and _text(card.get("license_name")):
        facts.licenses = [_text(card.get("license_name"))]
    facts.languages = _texts(card.get("language"))
    facts.tags = _texts(card.get("tags"))
    facts.datasets = _texts(card.get("datasets"))
    facts.base_models = _texts(card.get("base_model"))
    facts.task = _text(card.get("pipeline_tag"))
    facts.library = _text(card.get("library_name"))
    index = card.get("model-index")
    for model in index if isinstance(index, list) else []:
        facts.title = facts.title or _text(model.get("name") if isinstance(model, dict) else "")
        facts.metrics += list(_card_metrics(model))


def _card_metrics(model: Any) -> Iterable[tuple[str, str, str]]:
    """The results of a Hugging Face `model-index` entry."""
    results = model.get("results") if isinstance(model, dict) else None
    for result in (results if isinstance(results, list) else [])[:MAX_LIST]:
        dataset = result.get("dataset") if isinstance(result, dict) else None
        on = _text(dataset.get("name")) if isinstance(dataset, dict) else ""
        metrics = result.get("metrics") if isinstance(result, dict) else None
        for metric in (metrics if isinstance(metrics, list) else [])[:MAX_LIST]:
            value = metric.get("value") if isinstance(metric, dict) else None
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                yield _text(metric.get("type")) or "metric", str(value), on


def _json(tree: Path, paths: set[str], name: str) -> dict[str, Any]:
    if name not in paths:
        return {}
    try:
        value = strict_json.parse(_bytes(tree / name, MAX_CONFIG))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _bytes(path: Path, limit: int) -> bytes:
    """The first `limit` bytes of a file; nothing when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(limit)
    except OSError:
        return b""


def _text(value: Any) -> str:
    return value.strip()[:500] if isinstance(value, str) and value.strip().isprintable() else ""


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in (_text(one) for one in values[:MAX_LIST]) if text]
