"""A Weights & Biases run as its client leaves it on disk offline: configuration, summary, artifacts used and logged.

Read from the run's binary log. The field numbers are those of `wandb_internal.proto`; fields that are not
named here are passed over. Files of artifacts are known by MD5 there; the model that is published is hashed
again with SHA-256 and has to agree with the artifact that the run logged.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from garrison.artifacts.lineage.base import Fact, Kind, Lineage, Material
from garrison.artifacts.lineage.files import Save, Tally
from garrison.artifacts.lineage.imported import Imported, Locator, State
from garrison.artifacts.lineage.local import copied, folder, small
from garrison.artifacts.lineage.remote import not_understood, too_much
from garrison.artifacts.lineage.wandb_log import MAX_LOG_BYTES, message, records
from garrison.core.digest import canonical_json, sha256_bytes
from garrison.core.errors import Refused

MAX_ITEMS = 900  # settings, figures or artifacts of one run; base.py takes a thousand
MAX_TEXT = 2_000
_SUMMARY, _CONFIG, _ARTIFACT, _RUN, _USED, _ENVIRONMENT = 3, 5, 8, 17, 25, 26

Fields = Mapping[int, list[int | bytes]]


@dataclass(slots=True)
class _Run:
    """What the records said so far; later ones replace earlier ones, as the client means them."""

    run_id: str = ""
    project: str = ""
    entity: str = ""
    commit: str = ""
    program: str = ""
    started: datetime | None = None
    config: dict[str, str] = field(default_factory=dict)
    summary: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, _Artifact] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Artifact:
    name: str
    kind: str
    digest: str
    files: Mapping[str, str]  # path -> MD5 in hexadecimal


def read(path: Path, model: str, save: Save) -> Imported:
    """The run in `path`; `model` is the directory that is published, if one is.

    Raises `Usage` LIN-SOURCE, `Refused` LIN-DIGEST, `Undecided` LIN-FORMAT, LIN-LIMIT.
    """
    root = folder(
        path,
        "the directory of a run (wandb/offline-run-…)",
        "ls wandb shows the runs that are here; WANDB_MODE=offline makes one",
    )
    logs = sorted(root.glob("run-*.wandb"))
    if len(logs) != 1:
        raise not_understood(str(root), f"it has {len(logs)} files run-*.wandb, not one")
    run = _Run()
    for record in records(small(root, logs[0].name, MAX_LOG_BYTES), logs[0].name):
        _take(run, message(record, logs[0].name), logs[0].name)
    if not run.run_id:
        raise not_understood(str(root), "its log names no run")
    tally = Tally(save)
    if model:
        _check_logged(run, copied(Path(model), "", tally))
    metrics = {key: value for key, value in run.summary.items() if _number(value) is not None}
    facts = {"run.id": run.run_id}
    facts |= {f"param.{key}": value for key, value in run.config.items()}
    facts |= {f"metric.{key}": value for key, value in run.summary.items()}
    facts |= {f"data.{item.name}": item.digest for item in run.artifacts.values()}
    place = {"path": str(root), "uri": f"wandb:{root}", **({"model": model} if model else {})}
    return Imported(Locator("wandb", place), State(tally.files, facts), _lineage(run, metrics))


def _take(run: _Run, record: Fields, name: str) -> None:
    for number, values in record.items():
        for value in values:
            if not isinstance(value, bytes):
                continue
            if number == _RUN:
                _take_run(run, message(value, name), name)
            elif number == _CONFIG:
                _update(run.config, message(value, name), name)
            elif number == _SUMMARY:
                _update(run.summary, message(value, name), name)
            elif number == _ARTIFACT:
                artifact = _artifact(message(value, name), name)
                run.artifacts[artifact.name] = artifact
            elif number == _USED:
                used = message(value, name)
                run.used[_text(used, 3)] = _text(used, 2)
            elif number == _ENVIRONMENT:
                environment = message(value, name)
                run.program = _text(environment, 7) or run.program
                for git in environment.get(9, []):
                    if isinstance(git, bytes):
                        run.commit = _text(message(git, name), 2) or run.commit
    if max(len(run.config), len(run.summary), len(run.artifacts), len(run.used)) > MAX_ITEMS:
        raise too_much(f"{name} has more than {MAX_ITEMS} settings, figures or artifacts")


def _take_run(run: _Run, fields: Fields, name: str) -> None:
    run.run_id, run.entity, run.project = _text(fields, 1), _text(fields, 2), _text(fields, 3)
    for inner in (*fields.get(4, []),):
        if isinstance(inner, bytes):
            _update(run.config, message(inner, name), name)
    for moment in fields.get(17, []):
        if isinstance(moment, bytes):
            seconds = message(moment, name).get(1, [0])[0]
            if isinstance(seconds, int) and seconds < 1 << 33:
                run.started = datetime.fromtimestamp(seconds, UTC)


def _update(table: dict[str, str], fields: Fields, name: str) -> None:
    """`ConfigRecord` and `SummaryRecord`: items to set (1) and to remove (2), a key or a path of keys each."""
    for number in (1, 2):
        for value in fields.get(number, []):
            item = message(value, name) if isinstance(value, bytes) else {}
            key = _text(item, 1) or ".".join(
                part.decode("utf-8", "replace") for part in item.get(2, []) if isinstance(part, bytes)
            )
            key = key[:MAX_TEXT]
            if not key or key.startswith("_"):
                continue  # the client's own book-keeping: clock, step, versions
            if number == 1:
                table[key] = _json(_text(item, 16), name)[:MAX_TEXT]
            else:
                table.pop(key, None)


def _artifact(fields: Fields, name: str) -> _Artifact:
    files = {}
    for manifest in fields.get(12, []):
        for entry in message(manifest, name).get(4, []) if isinstance(manifest, bytes) else []:
            row = message(entry, name) if isinstance(entry, bytes) else {}
            files[_text(row, 1)[:MAX_TEXT]] = _md5(_text(row, 2), name)
    return _Artifact(_text(fields, 5)[:MAX_TEXT], _text(fields, 4)[:MAX_TEXT], _text(fields, 6), files)


def _check_logged(run: _Run, found: Mapping[str, str]) -> None:
    """The model's files are those of an artifact that this run logged, if it logged models at all."""
    models = [artifact for artifact in run.artifacts.values() if artifact.kind == "model"]
    if not models or any(dict(artifact.files) == dict(found) for artifact in models):
        return
    nearest = models[-1]
    path = min(
        path for path in found.keys() | nearest.files.keys() if found.get(path) != nearest.files.get(path)
    )
    raise Refused(
        "LIN-DIGEST",
        f"{path} is not what the run logged as {nearest.name}: expected MD5 "
        f"{nearest.files.get(path, 'nothing')}, found {found.get(path, 'nothing')}",
        evidence={
            "path": path,
            "expected": nearest.files.get(path, ""),
            "found": found.get(path, ""),
            "artifact": nearest.name,
        },
        fix="name the directory that the run logged with --model DIR",
    )


def _lineage(run: _Run, metrics: Mapping[str, str]) -> Lineage:
    record = sha256_bytes(canonical_json({"run": run.run_id, "config": run.config, "summary": run.summary}))
    where = "/".join(part for part in (run.entity, run.project, run.run_id) if part)
    materials = [
        Material(
            "run",
            where,
            digests={"sha256": record.removeprefix("sha256:")},
            facts={"digest_of": "the run's id, configuration and summary as canonical JSON"},
        )
    ]
    for artifact in run.artifacts.values():
        if artifact.kind != "model" and artifact.name:
            digests = {"wandb-manifest-md5": artifact.digest} if _is_hex(artifact.digest) else {}
            told: dict[str, Fact] = {
                "type": artifact.kind,
                "files": len(artifact.files),
                "direction": "logged",
            }
            materials.append(Material("data", artifact.name, digests=digests, facts=told))
    for name, kind in run.used.items():
        if name:
            base: Kind = "base_model" if kind == "model" else "data"
            materials.append(Material(base, name[:MAX_TEXT], facts={"type": kind[:200], "direction": "used"}))
    numbers = {key: float(value) for key, value in metrics.items()}
    if numbers:
        materials.append(Material("evaluation", f"summary of {where}", facts=numbers))
    if _is_hex(run.commit):
        materials.append(Material("code", run.program or "source", digests={"sha1": run.commit}))
    return Lineage(
        "wandb",
        started=run.started,
        parameters=run.config,
        metrics=numbers,
        materials=tuple(materials),
    )


def _text(fields: Fields, number: int) -> str:
    value = (fields.get(number) or [b""])[-1]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _json(text: str, name: str) -> str:
    """One value as text: strings bare, everything else as JSON."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise not_understood(name, "a value is no JSON") from error
    return value if isinstance(value, str) else text


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _md5(text: str, name: str) -> str:
    try:
        return base64.b64decode(text, validate=True).hex() if text else ""
    except (binascii.Error, ValueError) as error:
        raise not_understood(name, "the digest of a file is no base64") from error


def _is_hex(text: str) -> bool:
    return 8 <= len(text) <= 128 and all(character in "0123456789abcdef" for character in text)
