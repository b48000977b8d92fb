"""A DVC repository: stages, dependencies, outputs and parameters of `dvc.lock` and the `.dvc` files.

DVC knows content by MD5, which is enough to notice accidents and not enough to stop anybody. Every file
that is on disk is hashed again with SHA-256, and its MD5 has to be the one that DVC recorded; what is not
on disk is named with DVC's hash alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.artifacts.lineage.base import Kind, Lineage, Material
from garrison.artifacts.lineage.files import Save, Tally
from garrison.artifacts.lineage.imported import Imported, Locator, State
from garrison.artifacts.lineage.local import Hashed, copied, folder, hashed, listed, small
from garrison.artifacts.lineage.remote import not_understood, too_much
from garrison.artifacts.scanners import strict_yaml
from garrison.artifacts.scanners.yaml_values import AliasBomb, BadYaml
from garrison.core.digest import canonical_json, sha256_bytes
from garrison.core.errors import Refused
from garrison.trust.paths import check_path

MAX_FILE_BYTES = 4 << 20  # a lock of thousands of stages
MAX_STAGES = 500  # pipelines have tens
MAX_ITEMS = 5_000  # dependencies and outputs of all stages
MAX_TEXT = 2_000
_SKIPPED = frozenset({".git", ".dvc", ".venv", "node_modules", "__pycache__"})
_MD5 = re.compile(r"([0-9a-f]{32})(\.dir)?\Z")
_REPORT = re.compile(r"(metric|eval|report|score)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Item:
    """A dependency or an output: its path in the repository and what DVC recorded of it."""

    stage: str
    path: str
    md5: str
    is_out: bool


def read(root: Path, model: str, save: Save) -> Imported:
    """Everything that DVC's files tell. `model` is the path that is published, if one is.

    Raises `Usage` LIN-SOURCE, `Refused` LIN-DIGEST when disk and DVC disagree, LIN-PLACE for links, and
    `Undecided` LIN-FORMAT, LIN-LIMIT.
    """
    root = folder(root, "a directory with dvc.lock or .dvc files", "name the root of the DVC project")
    stages = _stages(root)
    items = [*(item for name, stage in stages.items() for item in _items(root, name, stage)), *_added(root)]
    if not items:
        raise not_understood(str(root), "it has neither dvc.lock nor a .dvc file")
    if len(items) > MAX_ITEMS:
        raise too_much(f"more than {MAX_ITEMS:,} dependencies and outputs")
    facts, materials, seen = dict[str, str](), list[Material](), dict[str, Hashed | None]()
    tally = Tally(save)
    if model:
        copied(root, check_path(model), tally)
    for item in items:
        if item.path not in seen:
            seen[item.path] = _on_disk(root, item)
        facts[f"data.{item.path}"] = item.md5
    parameters = dict[str, str]()
    for name, stage in stages.items():
        facts[f"stage.{name}"] = sha256_bytes(canonical_json(_plain(stage)))
        parameters |= _parameters(name, stage)
        materials.append(_stage_material(name, stage, facts[f"stage.{name}"]))
    made = {item.path for item in items if item.is_out and item.stage}
    for item in {item.path: item for item in items}.values():
        if model and (item.path == model or item.path.startswith(f"{model}/")):
            continue  # the model itself is what all this is about
        materials.append(_material(item, seen[item.path], made))
    place = {"path": str(root), "uri": f"dvc:{root}", **({"model": model} if model else {})}
    facts |= {f"param.{key}": value for key, value in parameters.items()}
    lineage = Lineage("dvc", parameters=dict(list(parameters.items())[:900]), materials=tuple(materials))
    return Imported(Locator("dvc", place), State(tally.files, facts), lineage)


def _stages(root: Path) -> dict[str, Any]:
    if not (root / "dvc.lock").is_file():
        return {}
    document = _yaml(root, "dvc.lock")
    stages = document.get("stages")
    if str(document.get("schema")) != "2.0" or not isinstance(stages, dict):
        raise not_understood(str(root / "dvc.lock"), "it is not a lock of schema 2.0")
    if len(stages) > MAX_STAGES:
        raise too_much(f"dvc.lock has more than {MAX_STAGES} stages")
    if not all(isinstance(stage, dict) for stage in stages.values()):
        raise not_understood(str(root / "dvc.lock"), "a stage is no table")
    return {str(name)[:200]: stage for name, stage in stages.items()}


def _items(root: Path, name: str, stage: Mapping[str, Any]) -> Iterator[Item]:
    for key in ("deps", "outs"):
        for row in _rows(root / "dvc.lock", stage, key):
            yield _item(root / "dvc.lock", name, row, key == "outs", "")


def _added(root: Path) -> Iterator[Item]:
    """What `dvc add` and `dvc import` put under control: one small file beside each."""
    for path in listed(root, "", _SKIPPED.__contains__):
        if not path.endswith(".dvc"):
            continue
        beside = path.rpartition("/")[0]
        for row in _rows(root / path, _yaml(root, path), "outs"):
            yield _item(root / path, "", row, True, beside)


def _item(file: Path, stage: str, row: Mapping[str, Any], is_out: bool, beside: str) -> Item:
    path, md5 = row.get("path"), row.get("md5", "")
    if not isinstance(path, str) or not path or not isinstance(md5, str):
        raise not_understood(str(file), "an entry has no path")
    if md5 and not _MD5.match(md5):
        raise not_understood(str(file), f"the hash of {path[:200]!a} is no MD5")
    full = f"{beside}/{path}" if beside else path
    is_remote = "://" in full or full.startswith(("/", "../"))
    return Item(stage, full[:MAX_TEXT] if is_remote else check_path(full), md5, is_out)


def _on_disk(root: Path, item: Item) -> Hashed | None:
    """The re-hashed content; None when it is not here. Raises `Refused` LIN-DIGEST when it is another."""
    if "://" in item.path or item.path.startswith(("/", "../")) or not (root / item.path).exists():
        return None
    found = hashed(root, item.path)
    md5 = _directory_md5(found) if found.is_directory else next(iter(found.files.values()))[0]
    if item.md5 and md5 != item.md5:
        raise Refused(
            "LIN-DIGEST",
            f"{item.path} is not what DVC recorded: expected MD5 {item.md5}, found {md5}",
            evidence={"path": item.path, "expected": item.md5, "found": md5},
            fix="dvc status shows it; dvc checkout puts the recorded content back, dvc repro records the new",
        )
    return found


def _directory_md5(found: Hashed) -> str:
    """DVC's hash of a directory: the MD5 of its listing, with `.dir` behind it."""
    rows = [{"md5": md5, "relpath": path} for path, (md5, _sha256, _size) in found.files.items()]
    rows.sort(key=lambda row: tuple(row["relpath"].split("/")))
    listing = json.dumps(rows, sort_keys=True).encode()
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"


def _material(item: Item, found: Hashed | None, made: set[str]) -> Material:
    digests = {}
    if match := _MD5.match(item.md5):
        digests["md5" if not match[2] else "dvc-dir-md5"] = match[1]
    facts: dict[str, str | int | float | bool] = {"on_disk": found is not None}
    if item.stage:
        facts["stage"] = item.stage
    if found is not None:
        digests["sha256"] = _sha256(found)
        facts |= {"files": len(found.files), "bytes": sum(size for _m, _s, size in found.files.values())}
    return Material(_kind(item, made), item.path, digests=digests, facts=facts)


def _kind(item: Item, made: set[str]) -> Kind:
    """Programs are code, reports of a stage are evaluation, and everything else is data."""
    if item.path.endswith((".py", ".sh", ".R", ".ipynb", ".jl")):
        return "code"
    is_report = item.path in made and item.path.endswith((".json", ".yaml", ".csv"))
    return "evaluation" if is_report and _REPORT.search(item.path) else "data"


def _sha256(found: Hashed) -> str:
    """Of a file its SHA-256; of a directory that of the canonical JSON of its files by path."""
    if not found.is_directory:
        return next(iter(found.files.values()))[1]
    return sha256_bytes(canonical_json({path: row[1] for path, row in found.files.items()})).removeprefix(
        "sha256:"
    )


def _stage_material(name: str, stage: Mapping[str, Any], digest: str) -> Material:
    is_training = "train" in name.lower() or "fit" in name.lower()
    is_evaluation = "eval" in name.lower() or "test" in name.lower()
    kind: Kind = "run" if is_training else "evaluation" if is_evaluation else "preprocessing"
    command = stage.get("cmd", "")
    shown = command if isinstance(command, str) else " && ".join(str(part) for part in command or ())
    facts = {"cmd": shown[:MAX_TEXT], "digest_of": "the stage in dvc.lock as canonical JSON"}
    return Material(kind, f"stage {name}", digests={"sha256": digest.removeprefix("sha256:")}, facts=facts)


def _parameters(name: str, stage: Mapping[str, Any]) -> dict[str, str]:
    params = stage.get("params") or {}
    tables = params.values() if isinstance(params, dict) else ()
    return {
        f"{name}.{key}"[:MAX_TEXT]: str(value)[:MAX_TEXT]
        for table in tables
        if isinstance(table, dict)
        for key, value in table.items()
    }


def _rows(file: Path, table: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    rows = table.get(key) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise not_understood(str(file), f"{key} is not a list of tables")
    return rows


def _yaml(root: Path, path: str) -> dict[str, Any]:
    try:
        documents, tags = strict_yaml.parse(small(root, path, MAX_FILE_BYTES))
    except (BadYaml, AliasBomb) as error:
        raise not_understood(str(root / path), f"{error}") from error
    if tags or len(documents) != 1 or not isinstance(documents[0], dict):
        raise not_understood(str(root / path), "it is not one plain table")
    return documents[0]


def _plain(value: Any) -> Any:
    """Text for whatever canonical JSON has no one spelling of (keys that are numbers, floats)."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, bool)) or value is None else repr(value)
