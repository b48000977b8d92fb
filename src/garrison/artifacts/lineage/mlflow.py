"""A registered version in MLflow, read over its REST API: version, aliases, run, inputs, and every file by SHA-256.

Files come through the tracking server (`model-versions/get-artifact`) and from nowhere else: what the
record says about their place (s3://, file://) is never followed by this program, so a record cannot send it
anywhere. MLflow 2.9 and later, 3.x with its logged models included.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from garrison.artifacts.lineage.base import Lineage, Material
from garrison.artifacts.lineage.files import MAX_FILES, Save, Tally
from garrison.artifacts.lineage.imported import Imported, Locator, State
from garrison.artifacts.lineage.remote import Remote, not_understood, too_much
from garrison.core.digest import canonical_json, sha256_bytes
from garrison.core.errors import Refused, Usage

API = "/api/2.0/mlflow"
MAX_DEPTH = 32  # directories; model folders have three or four
MAX_PAGES = 200  # of one listing
MAX_ITEMS = 900  # parameters, metrics or inputs of one run; base.py takes a thousand
MAX_TEXT = 2_000  # one parameter; MLflow allows 6,000, and provenance is read by people
_HEX = re.compile(r"[0-9a-f]{8,128}\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_URI = re.compile(r"models:/([^/@\x00-\x1f\x7f]{1,250})(?:/([0-9]{1,9})|@([A-Za-z0-9_-]{1,250}))\Z")


@dataclass(frozen=True, slots=True)
class Wanted:
    """`models:/NAME/VERSION` or `models:/NAME@ALIAS`."""

    name: str
    version: str = ""
    alias: str = ""

    @staticmethod
    def parse(text: str) -> Wanted:
        """Raises `Usage` LIN-SOURCE."""
        match = _URI.match(text)
        if match is None:
            raise Usage(
                "LIN-SOURCE",
                f"{text[:200]!a} does not name a version in MLflow",
                fix="use models:/NAME/VERSION, such as models:/fraud/1, or models:/NAME@ALIAS",
            )
        return Wanted(match[1], match[2] or "", match[3] or "")


def read(remote: Remote, wanted: Wanted, save: Save, known: Collection[str] = ()) -> Imported:
    """The version as it is now, with its files. Aliases are told when they name it, and those `known` always.

    Raises `Refused` LIN-GONE, LIN-DENIED, LIN-PLACE and `Undecided` LIN-UNREACHABLE, LIN-FORMAT, LIN-LIMIT.
    """
    try:
        return _read(remote, wanted, save, known)
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
    ) as error:  # other people's JSON may have any shape
        raise not_understood(remote.origin, "its answers are not shaped as MLflow's are") from error


def _read(remote: Remote, wanted: Wanted, save: Save, known: Collection[str]) -> Imported:
    version = _version(remote, wanted)
    number = _text(version, "version")
    run = _run(remote, str(version.get("run_id") or ""))
    facts = {
        "source.uri": str(version.get("source", ""))[:MAX_TEXT],
        "source.created": str(version.get("creation_timestamp", "")),
        "source.run": str(version.get("run_id", "")),
        **_aliases(remote, wanted.name, number, known),
        **_run_facts(run),
    }
    tally = Tally(save)
    for path, outside in _listed(remote, version, run):
        query = {"name": wanted.name, "version": number, "path": outside}
        with tally.file(path) as write:
            remote.fetch("/model-versions/get-artifact", query, write, tally.room)
    if not tally.files:
        raise Refused(
            "LIN-GONE", f"models:/{wanted.name}/{number} has no files", fix="check the version's artifacts"
        )
    place = {
        "uri": f"models:/{wanted.name}/{number}",
        "server": str(remote.origin),
        "name": wanted.name,
        "version": number,
    }
    lineage = _lineage(remote, version, run)
    return Imported(Locator("mlflow", place), State(tally.files, facts), lineage)


def set_tags(remote: Remote, name: str, version: str, tags: Mapping[str, str]) -> None:
    """Write tags on a version: what Garrison found, where the people who use MLflow look."""
    for key, value in tags.items():
        body = {"name": name, "version": version, "key": key, "value": value}
        remote.post(f"{API}/model-versions/set-tag", body)


def _version(remote: Remote, wanted: Wanted) -> dict[str, Any]:
    if wanted.alias:
        query = {"name": wanted.name, "alias": wanted.alias}
        answer = remote.get(f"{API}/registered-models/alias", query)
    else:
        query = {"name": wanted.name, "version": wanted.version}
        answer = remote.get(f"{API}/model-versions/get", query)
    return _object(remote, answer, "model_version")


def _aliases(remote: Remote, name: str, number: str, known: Collection[str]) -> dict[str, str]:
    model = _object(remote, remote.get(f"{API}/registered-models/get", {"name": name}), "registered_model")
    found = {_text(row, "alias"): str(row.get("version", "")) for row in _rows(model, "aliases")}
    return {
        f"alias.{alias}": version for alias, version in found.items() if version == number or alias in known
    }


def _run(remote: Remote, run_id: str) -> dict[str, Any]:
    """The run that made the version; nothing when the version names none."""
    return _object(remote, remote.get(f"{API}/runs/get", {"run_id": run_id}), "run") if run_id else {}


def _run_facts(run: Mapping[str, Any]) -> dict[str, str]:
    if not run:
        return {}
    facts = {f"run.{key}": str(run.get("info", {}).get(key, "")) for key in ("status", "lifecycle_stage")}
    facts |= {f"param.{key}": value for key, value in _pairs(run, "params").items()}
    facts |= {f"metric.{key}": value for key, value in _pairs(run, "metrics").items()}
    for row in _datasets(run):
        facts[f"data.{row.get('name', '')}"[:MAX_TEXT]] = str(row.get("digest", ""))[:MAX_TEXT]
    return facts


def _lineage(remote: Remote, version: Mapping[str, Any], run: Mapping[str, Any]) -> Lineage:
    if not run:
        return Lineage("mlflow", builder=str(remote.origin))
    info, parameters, metrics = run.get("info", {}), _pairs(run, "params"), _pairs(run, "metrics")
    numbers = {key: float(value) for key, value in metrics.items()}
    run_id = str(info.get("run_id", ""))
    record = sha256_bytes(canonical_json({"params": parameters, "metrics": metrics, "run": run_id}))
    tags = _pairs(run, "tags")
    materials = [
        Material(
            "run",
            run_id,
            f"{remote.origin}/#/experiments/{info.get('experiment_id', '0')}/runs/{run_id}"[:MAX_TEXT],
            {"sha256": record.removeprefix("sha256:")},
            {
                "digest_of": "the run's id, parameters and metrics as canonical JSON",
                "user": str(info.get("user_id", ""))[:MAX_TEXT],
                "registered_from": str(version.get("source", ""))[:MAX_TEXT],
            },
        ),
        *(_material(row) for row in _datasets(run) if row.get("name")),
    ]
    if numbers:
        # Nobody hashed an evaluation report: numbers alone stay a gap, and are shown.
        materials.append(Material("evaluation", f"metrics of run {run_id}", facts=numbers))
    if _COMMIT.match(tags.get("mlflow.source.git.commit", "")):
        source = tags.get("mlflow.source.name") or "source"
        materials.append(Material("code", source, digests={"sha1": tags["mlflow.source.git.commit"]}))
    return Lineage(
        source="mlflow",
        builder=str(remote.origin),
        started=_moment(info.get("start_time")),
        finished=_moment(info.get("end_time")),
        parameters=parameters,
        metrics=numbers,
        materials=tuple(materials),
    )


def _material(row: Mapping[str, Any]) -> Material:
    """A dataset that the run logged. MLflow's digest is a short one of its own: it tells change, not content."""
    digest = str(row.get("digest", ""))
    return Material(
        "data",
        str(row["name"])[:MAX_TEXT],
        digests={"mlflow": digest} if _HEX.match(digest) else {},
        facts={
            key: str(row.get(key, ""))[:MAX_TEXT]
            for key in ("source_type", "source", "context", "digest")
            if row.get(key)
        },
    )


def _listed(remote: Remote, version: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each file of the version: its path in the model, and its path for the server."""
    source = str(version.get("source", ""))
    root = str(run.get("info", {}).get("artifact_uri", "")).rstrip("/")
    logged = re.fullmatch(r"models:/(m-[0-9a-f]{32})/?", source)
    inside = ""
    if logged:
        path, query, key = (
            f"{API}/logged-models/{logged[1]}/artifacts/directories",
            {},
            "artifact_directory_path",
        )
    elif run and root and (source.rstrip("/") + "/").startswith(root + "/"):
        inside = source.rstrip("/")[len(root) + 1 :]
        path, query, key = f"{API}/artifacts/list", {"run_id": str(version["run_id"])}, "path"
    else:
        shown = re.sub(r"//[^/@]*@", "//", source)[:200]
        raise Refused(
            "LIN-PLACE",
            f"the files are at {shown!a}, which is neither below the version's run nor a logged model",
            fix="register the version from its run (runs:/RUN/model), or publish the directory by hand",
        )
    for found in _walk(remote, path, query, key, inside):
        if found != inside and not found.startswith(f"{inside}/" if inside else ""):
            raise not_understood(remote.origin, f"a listing of {inside!a} names {found[:200]!a}")
        relative = found[len(inside) + 1 :] if inside else found
        yield relative, relative


def _walk(remote: Remote, path: str, query: Mapping[str, str], key: str, inside: str) -> Iterator[str]:
    pending, count = [(inside, 0)], 0
    while pending:
        directory, depth = pending.pop()
        for row in _pages(remote, path, {**query, **({key: directory} if directory else {})}):
            count += 1
            if count > MAX_FILES or depth > MAX_DEPTH:
                raise too_much(f"more than {MAX_FILES:,} files, or directories deeper than {MAX_DEPTH}")
            name = _text(row, "path")
            if row.get("is_dir") is True:
                pending.append((name, depth + 1))
            else:
                yield name


def _pages(remote: Remote, path: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    token = ""
    for _page in range(MAX_PAGES):
        answer = remote.get(path, {**query, **({"page_token": token} if token else {})})
        yield from _rows(answer, "files")
        token = str(answer.get("next_page_token") or "")
        if not token:
            return
    raise too_much(f"a listing of more than {MAX_PAGES} pages")


def _object(remote: Remote, answer: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = answer.get(key)
    if not isinstance(value, dict):
        raise not_understood(remote.origin, f"the answer has no {key}")
    return value


def _rows(value: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    rows = value.get(key) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise not_understood("MLflow", f"{key} is not a list of objects")
    return rows


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise not_understood("MLflow", f"{key} is missing or no text")
    return value


def _pairs(run: Mapping[str, Any], key: str) -> dict[str, str]:
    """`[{"key", "value"}]` as a table; metrics have numbers, which are kept as Python writes them."""
    data = run.get("data", {})
    if not isinstance(data, dict):
        raise not_understood("MLflow", "the run has no data")
    rows = _rows(data, key)
    if len(rows) > MAX_ITEMS:
        raise too_much(f"a run with more than {MAX_ITEMS} {key}")
    return {_text(row, "key"): _value(row.get("value", ""), key) for row in rows}


def _value(value: Any, key: str) -> str:
    if key == "metrics":
        try:
            return repr(float(value))
        except (TypeError, ValueError) as error:
            raise not_understood("MLflow", "a metric is no number") from error
    return str(value)[:MAX_TEXT]


def _datasets(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The run's inputs: each dataset with the tag that says what it was used for."""
    inputs = _rows(run.get("inputs") or {}, "dataset_inputs")
    if len(inputs) > MAX_ITEMS:
        raise too_much(f"a run with more than {MAX_ITEMS} inputs")
    found = []
    for row in inputs:
        dataset = row.get("dataset")
        if isinstance(dataset, dict):
            tags = {str(tag.get("key")): tag.get("value") for tag in _rows(row, "tags")}
            found.append({**dataset, "context": tags.get("mlflow.data.context", "")})
    return found


def _moment(milliseconds: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None
