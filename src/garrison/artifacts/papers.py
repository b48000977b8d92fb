"""The papers of a version: provenance and bill of materials, made at publication and anew when more is known.

An attachment never changes, so papers that know more are further attachments; the newest one counts. They
are made from headers and from what is signed already: the weights are not read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from garrison import __version__
from garrison.artifacts import layout, mlbom, provenance
from garrison.artifacts.attachments import Checked, Draft, attach_all, check, latest
from garrison.artifacts.lineage.base import Lineage, Material
from garrison.artifacts.model_facts import read_facts
from garrison.artifacts.registry import Registry, get
from garrison.artifacts.store import Release
from garrison.core.decision import Subject
from garrison.core.digest import Ref, canonical_json, sha256_bytes
from garrison.core.errors import Undecided

EVALUATION = provenance.EVALUATION


def drafts(
    registry: Registry, release: Release, tree: Path, lineage: Lineage | None, evaluations: Sequence[Material]
) -> list[Draft]:
    """Provenance and bill of materials of a version as far as it is known now."""
    facts = read_facts(tree, release.manifest)
    known = provenance.Publication(
        ref=release.ref,
        owner=release.owner,
        tier=release.tier.value,
        publisher=release.publisher,
        source=release.source,
        created=release.created,
        verdict=str(release.scan["verdict"]),
        scanner=str(release.scan.get("ruleset", "")),
        report=sha256_bytes(canonical_json(release.scan)),
        version=__version__,
    )
    bom = mlbom.cyclonedx(
        release.ref,
        release.manifest,
        facts,
        lineage,
        evaluations,
        owner=release.owner,
        publisher=release.publisher,
        tier=release.tier.value,
        created=registry.now(),
        tool=__version__,
    )
    return [
        Draft("provenance", provenance.SLSA, provenance.predicate(known, lineage, evaluations)),
        Draft("bom", mlbom.CYCLONEDX, bom),
    ]


def renewed(
    registry: Registry,
    release: Release,
    present: Sequence[Checked],
    *,
    lineage: Lineage | None = None,
    more: Iterable[Draft] = (),
) -> list[Draft]:
    """Drafts that are added, and the papers that tell of them as well. A given lineage replaces the earlier one."""
    added = list(more)
    before = latest(present, provenance.SLSA)
    if lineage is None and before is not None:
        try:
            lineage = provenance.lineage_of(before.predicate)
        except (ValueError, KeyError, TypeError):
            lineage = None  # not written by this release of Garrison: then the new papers start without
    evaluations = [
        *(evaluation_material(one.attachment.label, one.predicate) for one in present if _is_report(one)),
        *(evaluation_material(one.label, one.predicate) for one in added if one.kind == "evaluation"),
    ]
    with layout.opened_tree(registry, release) as tree:
        return [*added, *drafts(registry, release, tree, lineage, evaluations)]


def renew(registry: Registry, ref: Ref, lineage: Lineage, subject: Subject) -> str:
    """Attach new papers to a published version that now has a lineage; returns the audit id."""
    release = get(registry, ref)
    _, audit_ids = attach_all(
        registry, ref, lambda present: renewed(registry, release, present, lineage=lineage), subject
    )
    return audit_ids[0]


def newest(registry: Registry, ref: Ref, predicate_type: str) -> tuple[Release, Checked]:
    """The newest attachment of a type, checked. Raises as `check`, and `Undecided` PROV-NONE when there is none."""
    release = get(registry, ref)
    found = latest(check(registry, release), predicate_type)
    if found is None:
        raise Undecided(
            "PROV-NONE",
            f"{ref} was published before Garrison wrote provenance and bills of materials",
            fix=f"write both now from what is known: garrison model attach {ref} --lineage lineage.toml",
        )
    return release, found


def materials(registry: Registry, release: Release) -> tuple[Material, ...]:
    """What the newest provenance names, and what provenance of other builders adds to it."""
    checked = check(registry, release)
    own = latest(checked, provenance.SLSA)
    found = list(provenance.materials_of(own.predicate)) if own else []
    for each in checked:
        if each.attestation.predicate_type == provenance.FOREIGN:
            found += provenance.materials_of(each.predicate["predicate"])
    return tuple(found)


def evaluation_material(label: str, predicate: dict[str, Any]) -> Material:
    """An attached report as something that provenance and bill of materials name."""
    metrics = {f"metrics.{row['name']}": row["value"] for row in predicate["metrics"]}
    return Material(
        kind="evaluation",
        name=str(predicate["suite"]),
        digests={"sha256": str(predicate["report"]["sha256"]).removeprefix("sha256:")},
        facts={"attachment": label, "format": str(predicate["format"]), **metrics},
    )


def _is_report(checked: Checked) -> bool:
    return checked.attestation.predicate_type == EVALUATION
