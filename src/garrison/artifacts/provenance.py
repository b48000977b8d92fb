"""SLSA provenance v1 of a published version: what is known of its making, and what is not. Pure.

Garrison did not train the model, so it vouches for two things only: that it copied, hashed, scanned and
signed these bytes, and that its publisher declared this lineage, whose local files it hashed itself. The four
parts (data, preprocessing, runs, evaluations) that nobody told are listed as gaps.

Follows https://slsa.dev/provenance/v1; the build type is described in docs/provenance-buildtype.md. This
module needs no database, so that `garrison verify` reads provenance on bare files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from garrison.artifacts.lineage.base import KINDS, MAX_MATERIALS, PARTS, Lineage, Material, gaps
from garrison.core.digest import Ref
from garrison.core.errors import Refused, Undecided
from garrison.core.event import format_time, parse_time
from garrison.trust.attestation import Attestation

SLSA = "https://slsa.dev/provenance/v1"
SLSA_V0_2 = "https://slsa.dev/provenance/v0.2"  # what generators that were not renewed still write
BUILD_TYPE = "https://garrison.dev/buildtypes/publication/v1"
BUILDER = "https://garrison.dev/builders/publication/v1"
FOREIGN = "https://garrison.dev/attestation/foreign-provenance/v1"
CYCLONEDX = "https://cyclonedx.org/bom"  # the in-toto predicate type of a bill of materials
EVALUATION = "https://garrison.dev/attestation/evaluation/v1"
# What lies beside a version under labels that begin with these words.
PAPERS = {"provenance": SLSA, "provenance-foreign": FOREIGN, "bom": CYCLONEDX, "evaluation": EVALUATION}
MAX_SHOWN = 200  # materials of one part that a tree draws; --json has them all
MAX_ID = 2048  # a builder id is an address

_DEPENDENCIES = ("data", "preprocessing", "code", "base_model")


@dataclass(frozen=True, slots=True)
class Publication:
    """What Garrison itself knows of a publication, because it did it."""

    ref: Ref
    owner: str
    tier: str
    publisher: str
    source: str
    created: datetime
    verdict: str
    scanner: str
    report: str  # digest of the scan report
    version: str  # of Garrison


def predicate(
    publication: Publication, lineage: Lineage | None, evaluations: Sequence[Material]
) -> dict[str, Any]:
    """The SLSA predicate. Nothing in it is guessed: what is unknown is absent, or named as a gap."""
    materials = (*(lineage.materials if lineage else ()), *evaluations)
    level, because = level_of(materials)
    external: dict[str, Any] = {
        "model": str(publication.ref),
        "owner": publication.owner,
        "tier": publication.tier,
        "source": publication.source,
    }
    if lineage is not None:
        external["lineage"] = _declared(lineage)
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": external,
            "internalParameters": {
                "declaredBy": publication.publisher,
                "scanner": publication.scanner,
                "gaps": list(gaps(materials)),
                "level": {"slsaBuild": level, "because": because},
            },
            "resolvedDependencies": [_descriptor(one) for one in materials if one.kind in _DEPENDENCIES],
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"garrison": publication.version}},
            "metadata": _metadata(publication, lineage),
            "byproducts": [
                {
                    "name": "scan report",
                    "digest": {"sha256": publication.report.removeprefix("sha256:")},
                    "annotations": {"kind": "scan", "facts": {"verdict": publication.verdict}},
                },
                *(_descriptor(one) for one in materials if one.kind not in _DEPENDENCIES),
            ],
        },
    }


def level_of(materials: Sequence[Material]) -> tuple[int, str]:
    """The SLSA build level that this provenance supports for the training, and why not a higher one."""
    missing = gaps(tuple(materials))
    if missing:
        return (
            0,
            f"the making of the model is not described whole: {', '.join(missing)} missing or not hashed",
        )
    return 1, (
        "the publisher declared how the model was made, and Garrison hashed what it could read. Level 2 needs "
        "provenance that the training platform itself signed: garrison model attach --provenance"
    )


def lineage_of(found: Mapping[str, Any]) -> Lineage | None:
    """The lineage inside a predicate that `predicate` wrote, to write a newer one; None when it holds none.

    Raises ValueError, KeyError or TypeError for another shape.
    """
    definition, run = found["buildDefinition"], found["runDetails"]
    declared = definition["externalParameters"].get("lineage")
    if declared is None:
        return None
    rows = [*definition["resolvedDependencies"], *run["byproducts"]]
    materials = (_material(row) for row in rows)
    return Lineage(
        source=declared["source"],
        builder=declared.get("builder", ""),
        started=parse_time(declared["started"]) if "started" in declared else None,
        finished=parse_time(declared["finished"]) if "finished" in declared else None,
        parameters=declared.get("parameters", {}),
        metrics=declared.get("metrics", {}),
        # Attached evaluations are added anew each time from the attachments themselves.
        materials=tuple(m for m in materials if m is not None and "attachment" not in m.facts),
    )


def materials_of(found: Mapping[str, Any]) -> tuple[Material, ...]:
    """Every material of a predicate, ours or another tool's. What another tool does not classify is code."""
    definition = found.get("buildDefinition")
    if isinstance(definition, dict):
        rows = [
            *_rows(definition.get("resolvedDependencies")),
            *_rows((found.get("runDetails") or {}).get("byproducts")),
        ]
    else:
        rows = _rows(found.get("materials"))
    materials = []
    for row in rows[:MAX_MATERIALS]:
        try:
            material = _material(row)
        except (ValueError, KeyError, TypeError):
            continue  # foreign descriptors may name things that we have no word for
        if material is not None:
            materials.append(material)
    return tuple(materials)


def builder_of(attestation: Attestation) -> str:
    """The builder's id. Raises `Refused` PROV-SHAPE when the predicate has none."""
    check_shape(attestation.predicate_type, attestation.predicate)
    if attestation.predicate_type == SLSA_V0_2:
        return str(attestation.predicate["builder"]["id"])
    return str(attestation.predicate["runDetails"]["builder"]["id"])


def check_shape(predicate_type: str, found: Mapping[str, Any]) -> None:
    """Whether this is SLSA provenance as its specification requires. Raises `Refused` PROV-SHAPE."""
    try:
        if predicate_type == SLSA:
            definition, run = _object(found, "buildDefinition"), _object(found, "runDetails")
            _address(definition, "buildType")
            _object(definition, "externalParameters")
            _descriptors(definition, "resolvedDependencies")
            _address(_object(run, "builder"), "id")
            _descriptors(run, "byproducts")
        elif predicate_type == SLSA_V0_2:
            _address(_object(found, "builder"), "id")
            _address(found, "buildType")
            _descriptors(found, "materials")
        else:
            raise ValueError(f"it is a {predicate_type[:200]!a}, not SLSA provenance v1 or v0.2")
    except ValueError as error:
        raise Refused(
            "PROV-SHAPE",
            f"this is not SLSA provenance: {error}",
            fix="have the build platform write provenance as https://slsa.dev/provenance/v1 describes it",
        ) from error


def check_builder(found: Sequence[Attestation], wanted: str, about: str) -> Attestation:
    """The provenance made by the wanted builder, among attestations whose signatures hold.

    Raises `Undecided` PROV-NONE when there is no provenance at all, `Refused` PROV-BUILDER when there is
    only that of other builders.
    """
    builders: dict[str, Attestation] = {}
    for attestation in found:
        if attestation.predicate_type in (SLSA, SLSA_V0_2):
            builders.setdefault(builder_of(attestation), attestation)
        elif attestation.predicate_type == FOREIGN:
            builders.setdefault(str(attestation.predicate.get("builder")), attestation)
    if not builders:
        raise Undecided(
            "PROV-NONE",
            f"there is no provenance of {about} to judge a builder by",
            fix=f"garrison model pull {about} writes it beside the files, as DIR.provenance.json",
        )
    if wanted in builders:
        return builders[wanted]
    raise Refused(
        "PROV-BUILDER",
        f"{about} was not built by {wanted[:MAX_ID]!a}: its provenance is of {', '.join(sorted(builders))}",
        fix="ask for a version that this builder made, or attach that builder's own provenance: "
        f"garrison model attach {about} --provenance FILE",
        evidence={"expected": wanted[:MAX_ID], "found": sorted(builders)},
    )


def tree(materials: Sequence[Material]) -> list[dict[str, Any]]:
    """The four parts, then what else is known; each with its materials, and whether it is a gap."""
    missing = gaps(tuple(materials))
    parts: list[dict[str, Any]] = []
    for kind in (*PARTS, *(other for other in KINDS if other not in PARTS)):
        of_kind = [material.as_json() for material in materials if material.kind == kind]
        if of_kind or kind in PARTS:
            parts.append({"part": kind, "gap": kind in missing, "materials": of_kind})
    return parts


def _declared(lineage: Lineage) -> dict[str, Any]:
    declared: dict[str, Any] = {"source": lineage.source}
    if lineage.builder:
        declared["builder"] = lineage.builder
    if lineage.started:
        declared["started"] = format_time(lineage.started)
    if lineage.finished:
        declared["finished"] = format_time(lineage.finished)
    if lineage.parameters:
        declared["parameters"] = dict(lineage.parameters)
    if lineage.metrics:
        declared["metrics"] = dict(lineage.metrics)
    return declared


def _metadata(publication: Publication, lineage: Lineage | None) -> dict[str, str]:
    """When the build ran: the training if its lineage says so, else the publication that Garrison saw."""
    started = lineage.started if lineage and lineage.started else None
    finished = lineage.finished if lineage and lineage.finished else None
    found = {"finishedOn": _whole(finished or publication.created)}
    if started:
        found["startedOn"] = _whole(started)
    return found


def _whole(moment: datetime) -> str:
    """RFC 3339 as SLSA's Timestamp: UTC, to the second."""
    return format_time(moment)[:19] + "Z"


def _descriptor(material: Material) -> dict[str, Any]:
    """A ResourceDescriptor (in-toto v1). `uri` and `digest` are left out rather than left empty."""
    row: dict[str, Any] = {"name": material.name, "annotations": {"kind": material.kind}}
    if material.facts:
        row["annotations"]["facts"] = dict(material.facts)
    if material.uri:
        row["uri"] = material.uri
    if material.digests:
        row["digest"] = dict(material.digests)
    return row


def _material(row: Mapping[str, Any]) -> Material | None:
    annotations = row.get("annotations")
    kind = annotations.get("kind") if isinstance(annotations, dict) else "code"
    if kind not in KINDS:
        return None  # such as the scan report
    facts = annotations.get("facts", {}) if isinstance(annotations, dict) else {}
    name = row.get("name") or row.get("uri")
    return Material(
        kind=kind,
        name=str(name or ""),
        uri=str(row.get("uri", "")),
        digests=row.get("digest") or {},
        facts=facts,
    )


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _object(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = found.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{key} is not an object")
    return value


def _address(found: Mapping[str, Any], key: str) -> None:
    value = found.get(key)
    if not isinstance(value, str) or ":" not in value or len(value) > MAX_ID or not value.isprintable():
        raise ValueError(f"{key} is not an address")


def _descriptors(found: Mapping[str, Any], key: str) -> None:
    value = found.get(key, [])
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError(f"{key} is not a list of resource descriptors")
    for row in value:
        if not any(row.get(name) for name in ("uri", "digest", "content", "name")):
            raise ValueError(f"an entry of {key} has neither uri nor digest nor content")
        if not isinstance(row.get("digest", {}), dict):
            raise ValueError(f"an entry of {key} has a digest that is not an object")
