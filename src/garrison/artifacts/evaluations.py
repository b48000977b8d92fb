"""Evaluation reports as signed attachments of a version: which scores it had, fixed when they were attached.

Any JSON with numbers is understood; the results of lm-evaluation-harness and of MLflow evaluation are known
by their shape, so that their scores keep the names that people know. The report itself is kept word for word.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from garrison.artifacts import attachments, layout, papers, store
from garrison.artifacts.attachment_store import Attachment
from garrison.artifacts.attachments import Checked, Draft, attach_all, attachments_of
from garrison.artifacts.registry import Registry, get
from garrison.core.decision import Subject
from garrison.core.digest import Ref, sha256_bytes, short
from garrison.core.errors import Refused, Undecided, Usage
from garrison.trust import dsse, strict_json

MAX_REPORT = 4 * 1024 * 1024  # results without the samples; harnesses write those to files of their own
MAX_METRICS = 500  # scores of one report
MAX_DEPTH = 6  # tables of a report that are looked into
MAX_NAME = 200
KIND = "evaluation"
_SLUG = re.compile(r"[^a-z0-9]+")


def attach_report(
    registry: Registry, ref: Ref, path: Path, suite: str | None, subject: Subject
) -> dict[str, Any]:
    """Sign a report, attach it, and renew provenance and bill of materials in the same transaction.

    Raises `Usage` EVAL-REPORT and what `attach_all` raises.
    """
    predicate = read_report(path, suite)
    draft = Draft(KIND, papers.EVALUATION, predicate, f"{KIND}-{_slug(predicate['suite'])}")
    release = get(registry, ref)
    added, audit_ids = attach_all(
        registry, ref, lambda present: papers.renewed(registry, release, present, more=[draft]), subject
    )
    return {
        "ref": str(ref),
        "digest": release.digest,
        **_summary(added[0].label, predicate),
        "renewed": [attachment.label for attachment in added[1:]],
        "audit_id": audit_ids[0],
    }


def reports(registry: Registry, ref: Ref) -> list[dict[str, Any]]:
    """The attached reports of a version, checked. Raises as `attachments.check`."""
    checked = attachments.check(registry, get(registry, ref))
    return [_summary(one.attachment.label, one.predicate) for one in _of(checked)]


def verify(registry: Registry, ref: Ref, copy: Path | None) -> dict[str, Any]:
    """Whether every report is what was signed, and a copy of one as well when it is given.

    Raises `Refused` EVAL-TAMPER that names the score that differs, `Undecided` EVAL-NONE.
    """
    release = get(registry, ref)
    try:
        found = _of(attachments.check(registry, release))
    except Refused as error:
        label = str(error.evidence.get("attachment", ""))
        if error.code != "ART-ATTACHMENT" or not label.startswith(KIND):
            raise
        raise _tampered(
            ref, label, _difference_at_rest(registry, ref, label) or error.what, error.fix
        ) from error
    if not found:
        raise Undecided(
            "EVAL-NONE",
            f"{ref} has no evaluation to verify",
            fix=f"attach one: garrison eval attach {ref} REPORT.json",
        )
    if copy is not None:
        _check_copy(ref, copy, found)
    return {
        "ref": str(ref),
        "digest": release.digest,
        "reports": [_summary(one.attachment.label, one.predicate) for one in found],
    }


def read_report(path: Path, suite: str | None) -> dict[str, Any]:
    """The predicate of a report file: its scores, its digest and its text. Raises `Usage` EVAL-REPORT."""
    data = _bytes(path)
    try:
        document = strict_json.loads(data, MAX_REPORT)
    except ValueError as error:
        raise _unreadable(path, str(error)) from error
    form, rows = _scores(document)
    metrics = [{"name": name, "value": value} for name, value in rows]
    if not metrics:
        raise _unreadable(path, "there is no score in it: no name with a number")
    if len(metrics) > MAX_METRICS:
        raise _unreadable(path, f"it has more than {MAX_METRICS} scores")
    named = suite or path.stem
    if not named.isprintable() or len(named) > MAX_NAME:
        raise _unreadable(path, "the name of the suite is not one line of text")
    return {
        "suite": named,
        "format": form,
        "metrics": metrics,
        "report": {"name": path.name[:MAX_NAME], "sha256": sha256_bytes(data), "text": data.decode()},
    }


def _scores(document: Any) -> tuple[str, list[tuple[str, float]]]:
    """The form of a report and its scores, by name."""
    if isinstance(document, dict) and _is_harness(document):
        rows = [
            (f"{task}/{name.removesuffix(',none')}", value)
            for task, values in document["results"].items()
            if isinstance(values, dict)
            for name, value in values.items()
            if _is_score(value)
        ]
        return "lm-evaluation-harness", _unique(rows)
    if isinstance(document, dict) and isinstance(document.get("metrics"), dict):
        form = "mlflow-evaluate" if "artifacts" in document or "tables" in document else "metrics"
        return form, _unique(_flat(document["metrics"], "", 0))
    if isinstance(document, dict) and any(re.search(r"/v\d+(/|\Z)", name) for name in document):
        return "mlflow-evaluate", _unique(_flat(document, "", 0))
    return "metrics", _unique(_flat(document, "", 0))


def _is_harness(document: dict[str, Any]) -> bool:
    results = document.get("results")
    return isinstance(results, dict) and any(
        isinstance(values, dict) and any("," in name for name in values) for values in results.values()
    )


def _flat(value: Any, prefix: str, depth: int) -> Iterator[tuple[str, float]]:
    """Every number of nested tables by its dotted name; a list of {name, value} rows as well."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, dict):
        if isinstance(value.get("name"), str) and _is_score(value.get("value")):
            yield f"{prefix}{value['name']}"[:MAX_NAME], value["value"]
            return
        for name, inner in value.items():
            if _is_score(inner):
                yield f"{prefix}{name}"[:MAX_NAME], inner
            else:
                yield from _flat(inner, f"{prefix}{name}.", depth + 1)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                yield from _flat(inner, prefix, depth + 1)


def _unique(rows: Any) -> list[tuple[str, float]]:
    """Rows of one name are told apart by a number, so that none of them is lost."""
    seen: dict[str, int] = {}
    found = []
    for name, value in rows:
        seen[name] = seen.get(name, 0) + 1
        found.append((name if seen[name] == 1 else f"{name}#{seen[name]}", value))
        if len(found) > MAX_METRICS:
            break
    return found


def _is_score(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _of(checked: Sequence[Checked]) -> list[Checked]:
    return [one for one in checked if one.attestation.predicate_type == papers.EVALUATION]


def _summary(label: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": label,
        "suite": predicate["suite"],
        "format": predicate["format"],
        "report": predicate["report"]["sha256"],
        "metrics": predicate["metrics"],
    }


def _check_copy(ref: Ref, copy: Path, found: Sequence[Checked]) -> None:
    """Raises EVAL-TAMPER when no attached report is this file."""
    data = _bytes(copy)
    digest = sha256_bytes(data)
    if any(one.predicate["report"]["sha256"] == digest for one in found):
        return
    named = [one for one in found if one.predicate["report"]["name"] == copy.name] or list(found)
    try:
        _, rows = _scores(strict_json.loads(data, MAX_REPORT))
    except ValueError:
        rows = []
    newest = named[-1]
    said = {row["name"]: row["value"] for row in newest.predicate["metrics"]}
    why = _first_difference(said, dict(rows)) or (
        f"{copy.name} is {short(digest)}, and {short(newest.predicate['report']['sha256'])} was attached"
    )
    raise _tampered(
        ref,
        newest.attachment.label,
        why,
        f"attach it as a report of its own if it is one: garrison eval attach {ref} {copy}",
    )


def _difference_at_rest(registry: Registry, ref: Ref, label: str) -> str:
    """Which score the row and the file beside the version do not agree on; empty when that cannot be told."""
    with registry.database.read() as connection:
        row = next((one for one in attachments_of(connection, ref) if one.label == label), None)
        release = store.find(connection, ref)
    if row is None or release is None:
        return ""
    stored, beside = _metrics_in(row.envelope), _metrics_in(_beside(registry, row))
    return _first_difference(stored, beside)


def _beside(registry: Registry, attachment: Attachment) -> bytes:
    try:
        with layout.attachment_path(registry, attachment).open("rb") as stream:
            return stream.read(dsse.MAX_ENVELOPE_BYTES)
    except OSError:
        return b""


def _metrics_in(envelope: bytes) -> dict[str, float]:
    """The scores in an envelope that nobody has verified; to name a difference, never to believe it."""
    try:
        outer = strict_json.loads(envelope, dsse.MAX_ENVELOPE_BYTES)
        inner = strict_json.loads(base64.b64decode(outer["payload"], validate=True), dsse.MAX_ENVELOPE_BYTES)
        return {str(row["name"]): row["value"] for row in inner["predicate"]["metrics"]}
    except (ValueError, KeyError, TypeError):
        return {}


def _first_difference(one: Mapping[str, float], other: Mapping[str, float]) -> str:
    for name in one:
        if name in other and one[name] != other[name]:
            return f"the score {ascii(name)[1:-1]} is {other[name]!r} in one place and {one[name]!r} in the other"
    if one and other and one.keys() != other.keys():
        return f"the score {ascii(min(one.keys() ^ other.keys()))[1:-1]} is in one place and not in the other"
    return ""


def _tampered(ref: Ref, label: str, why: str, fix: str) -> Refused:
    return Refused(
        "EVAL-TAMPER",
        f"the evaluation {label} of {ref} is not what was signed: {why}",
        fix=fix,
        evidence={"attachment": label},
    )


def _slug(suite: str) -> str:
    return _SLUG.sub("-", suite.lower()).strip("-")[:40] or "report"


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_REPORT + 1)
    except OSError as error:
        raise _unreadable(path, error.strerror or "cannot be read") from error


def _unreadable(path: Path, why: str) -> Usage:
    return Usage(
        "EVAL-REPORT",
        f"{path} is not a report that can be attached: {why}",
        fix='give a JSON file with scores, such as {"metrics": {"accuracy": 0.94}}',
    )
