"""What a model's configuration may not ask its loader to do: run code, fetch, or read outside the directory.

Rules look at keys anywhere in the value, since loaders merge and nest configurations freely. They follow
what transformers, diffusers, peft, sentence-transformers, hydra, jsonpickle, keras and skops do with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from garrison.artifacts.scanners.base import Inner, Seen, high, shown
from garrison.artifacts.scanners.config_python import (
    hydra_target,
    is_known_class,
    mlflow_loader,
    monai_imports,
    plain_target,
    torchserve_handler,
)
from garrison.artifacts.scanners.embedded import look_into, named_code
from garrison.artifacts.scanners.keras_config import judge_object
from garrison.artifacts.scanners.oci import foreign_layer
from garrison.artifacts.scanners.paths import unsafe_path
from garrison.artifacts.scanners.skops import judge_node
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.finding import Finding, Severity

FIX = "ask the author for a model that needs no code of its own, or remove the entry after review"
FIX_PATH = "put the file into the model's directory and refer to it by its plain name"
_SENTENCE = re.compile(r"sentence_transformers(?:\.[a-z_]\w*)*\.[A-Z]\w*\Z")
WORDS = 8  # fewer numbers may be settings
_URL = re.compile(r"[a-z][a-z0-9+.-]+://|//|\\\\", re.IGNORECASE)
_LIBRARIES = frozenset({"diffusers", "transformers", "onnxruntime", "flax", "optimum", "peft", "k_diffusion"})
_PIPELINES = re.compile(
    r"(?:stable_diffusion|stable_diffusion_[a-z0-9_]{1,40}|kandinsky|deepfloyd_if|paint_by_example)\Z"
)


def judge_config(value: Any, name: str) -> Iterator[Seen]:
    """Findings and chat templates of one parsed JSON document."""
    base = name.rsplit("/", 1)[-1]
    if not isinstance(value, dict | list):
        return
    if isinstance(value, dict) and isinstance(value.get("_class_name"), str | list):
        yield from _pipeline(value)
    if isinstance(value, list) and base == "modules.json":
        yield from _modules(value)
    level: list[tuple[str, Any]] = [("", value)]
    while level:
        deeper: list[tuple[str, Any]] = []
        for path, item in level:
            if isinstance(item, dict):
                for key, child in () if _is_vocabulary(item) else item.items():
                    yield from _entry(path, key, child, item)
                    if isinstance(child, str) and key != "chat_template":
                        yield from look_into(child, ":" + shown(f"{path}.{key}" if path else key))
                    if isinstance(child, dict | list):
                        deeper.append((f"{path}.{key}" if path else key, child))
            else:
                for child in item:
                    if isinstance(child, str):
                        yield from look_into(child, ":" + shown(path))
                deeper.extend((path, child) for child in item if isinstance(child, dict | list))
        level = deeper


def _is_vocabulary(table: dict[str, Any]) -> bool:
    """Words and their numbers: every tokenizer of code knows `auto_map` as a word."""
    return len(table) >= WORDS and all(type(value) is int for value in table.values())


def _entry(path: str, key: str, value: Any, table: dict[str, Any]) -> Iterator[Seen]:
    where = ":" + shown(f"{path}.{key}" if path else key)
    if key == "chat_template":
        yield from _templates(where, value)
    rule = _RULES.get(key) or _RULES.get(_ANY_CASE.get(key.casefold(), ""))
    if rule is not None:
        message = rule(value, table)
        if message:
            yield high(f"artifact.config.{_IDS.get(key, key)}", message, where, FIX)
    elif key.startswith("py/"):
        yield high("artifact.config.object", f"{key} makes a Python object", where, FIX)
    elif isinstance(value, str) and (named := named_code(value)):
        yield high("artifact.config.code", named, where, FIX)
    elif isinstance(value, str) and (
        key.endswith("_file") or key in ("vocabulary", "weights_path", "filename")
    ):
        yield from _reference(where, value)


def _templates(where: str, value: Any) -> Iterator[Seen]:
    if isinstance(value, str):
        yield Inner(
            where, BytesSource("chat_template", value.encode("utf-8", "surrogatepass")), kind="jinja", glue=""
        )
    elif isinstance(value, dict):
        for name, text in value.items():
            if name in ("template", "name") or isinstance(text, str):
                yield from _templates(
                    where if name == "template" else f"{where}.{shown(name)}",
                    text if name != "name" else None,
                )
    elif isinstance(value, list):
        for entry in value:
            if isinstance(entry, dict):
                yield from _templates(f"{where}.{shown(entry.get('name', ''))}", entry.get("template"))
    elif value is not None:
        yield high("artifact.config.chat_template", "the chat template is not text", where, FIX)


def _reference(where: str, value: str) -> Iterator[Finding]:
    if _URL.match(value):
        yield high("artifact.config.reference", f"refers to {shown(value)}", where, FIX_PATH)
    elif unsafe_path(value) and value:
        if ".." in value.split("/"):
            yield high("artifact.config.reference", f"leaves the directory: {shown(value)}", where, FIX_PATH)
        else:  # caches of the author's machine stand in many published files; loaders do not follow them
            message = "an absolute path from the author's machine"
            yield Finding("artifact.config.absolute_path", Severity.LOW, message, where, FIX_PATH)


def _pipeline(value: dict[str, Any]) -> Iterator[Finding]:
    """diffusers `model_index.json`: every component is [library, class]; an unknown library is imported."""
    if isinstance(value["_class_name"], list):
        yield high(
            "artifact.config.pipeline",
            "the pipeline class comes from a module of its own",
            ":_class_name",
            FIX,
        )
    for key, entry in value.items():
        if key.startswith("_") or not isinstance(entry, list) or len(entry) != 2 or entry == [None, None]:
            continue
        library = entry[0]
        if not isinstance(entry[1], str | None) or not str(entry[1]).isidentifier():
            message = f"the component's class is {shown(entry[1])}"
            yield high("artifact.config.pipeline", message, ":" + shown(key), FIX)
        if isinstance(library, str) and library not in _LIBRARIES and not _PIPELINES.match(library):
            message = f"the component is imported from {shown(library)}"
            yield high("artifact.config.pipeline", message, ":" + shown(key), FIX)


def _modules(value: list[Any]) -> Iterator[Finding]:
    """sentence-transformers `modules.json`: `type` is imported, `path` is a sub-directory."""
    for entry in value:
        if not isinstance(entry, dict):
            continue
        kind, path = entry.get("type"), entry.get("path", "")
        if isinstance(kind, str) and not _SENTENCE.match(kind):
            yield high("artifact.config.module", f"the module is imported from {shown(kind)}", ":type", FIX)
        if isinstance(path, str) and path and unsafe_path(path):
            yield high(
                "artifact.config.reference", f"the module's path {unsafe_path(path)}", ":path", FIX_PATH
            )


def _present(what: str) -> Callable[[Any, dict[str, Any]], str]:
    return lambda value, _table: f"{what}: {shown(value)}" if value else ""


def _auto_mapping(value: Any, _table: dict[str, Any]) -> str:
    library = value.get("parent_library", "") if isinstance(value, dict) else ""
    known = str(library).split(".")[0] in (
        "",
        "transformers",
        "diffusers",
        "timm",
        "peft",
        "sentence_transformers",
    )
    return "" if known else f"the base model's class is imported from {shown(library)}"


def _imported(value: Any, _table: dict[str, Any]) -> str:
    """sentence-transformers imports a dotted name; a plain one is looked up in a table of its own."""
    known = not isinstance(value, str) or "." not in value or is_known_class(value)
    return "" if known else f"the loader would import {shown(value)}"


def _router(value: Any, _table: dict[str, Any]) -> str:
    """`router_config.json` of sentence-transformers: the classes of its parts."""
    names = value.values() if isinstance(value, dict) else ()
    for name in names:
        if isinstance(name, str) and "." in name and not _SENTENCE.match(name):
            return f"the loader would import {shown(name)}"
    return ""


def _base_model(value: Any, _table: dict[str, Any]) -> str:
    return (
        f"the base model is fetched from {shown(value)}"
        if isinstance(value, str) and _URL.match(value)
        else ""
    )


def _kernel(value: Any, _table: dict[str, Any]) -> str:
    return f"attention code is fetched from {shown(value)}" if isinstance(value, str) and "/" in value else ""


def _weight_map(value: Any, _table: dict[str, Any]) -> str:
    for path in value.values() if isinstance(value, dict) else ():
        if not isinstance(path, str) or unsafe_path(path):
            return f"a shard is outside the directory: {shown(path)}"
    return ""


def _keras_class(value: Any, table: dict[str, Any]) -> str:
    if not isinstance(value, str) or "config" not in table:
        return ""
    found = (seen for seen in judge_object(table, "", is_model=False) if isinstance(seen, Finding))
    return next((finding.message for finding in found), "")


def _package(value: Any, _table: dict[str, Any]) -> str:
    """The parts of an `.mlpackage` (its `Manifest.json`)."""
    for entry in value.values() if isinstance(value, dict) else ():
        path = entry.get("path") if isinstance(entry, dict) else None
        if isinstance(path, str) and unsafe_path(path):
            return f"a part of the package {unsafe_path(path)}: {shown(path)}"
    return ""


_IDS = {
    "custom_pipeline": "custom_pipelines",
    "_target_": "target",
    "class_path": "target",
    "imports": "target",
    "loader_module": "mlflow_code",
    "class_name": "keras",
    "__loader__": "skops",
    "urls": "reference",
    "itemInfoEntries": "reference",
}
_IDS |= {
    "activation_function": "module",
    "activation_fn": "module",
    "sbert_ce_default_activation_function": "module",
    "types": "module",
    "custom_generate": "custom_pipelines",
    "_attn_implementation": "kernel",
    "attn_implementation": "kernel",
    "base_model_name_or_path": "reference",
}
_ANY_CASE = {name: name for name in ("auto_map", "trust_remote_code", "custom_pipelines", "_target_")}
_RULES: dict[str, Callable[[Any, dict[str, Any]], str]] = {
    "auto_map": _present("code of the model's own is imported"),
    "trust_remote_code": _present("asks for remote code to be trusted"),
    "custom_pipelines": _present("a pipeline with code of its own"),
    "custom_pipeline": _present("a pipeline with code of its own"),
    "_target_": hydra_target,
    "class_path": hydra_target,
    "target": plain_target,
    "imports": monai_imports,
    "loader_module": mlflow_loader,
    "handler": torchserve_handler,
    "activation_function": _imported,
    "activation_fn": _imported,
    "sbert_ce_default_activation_function": _imported,
    "types": _router,
    "custom_generate": _present("generation by code of its own"),
    "auto_mapping": _auto_mapping,
    "base_model_name_or_path": _base_model,
    "attn_implementation": _kernel,
    "_attn_implementation": _kernel,
    "weight_map": _weight_map,
    "class_name": _keras_class,
    "__loader__": judge_node,
    "urls": foreign_layer,
    "itemInfoEntries": _package,
}
