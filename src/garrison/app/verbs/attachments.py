"""Verbs about what is signed beside a version: provenance, bill of materials, evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise
from garrison.app.verbs.versions import authorise_read
from garrison.artifacts import datasets, evaluations, foreign, mlbom, papers, provenance, store
from garrison.artifacts.attachments import Checked, check
from garrison.artifacts.lineage.base import Lineage, gaps
from garrison.artifacts.lineage.declared import Lookups, read_declared
from garrison.artifacts.registry import get
from garrison.artifacts.spdx import spdx
from garrison.core.actions import Action
from garrison.core.digest import Ref
from garrison.core.errors import Usage

FORMATS = ("cyclonedx", "cyclonedx-1.7", "spdx")


def declared(house: House, call: Call) -> Lineage | None:
    """The lineage file that a call names, read and hashed; None when it names none."""
    path = call.optional("lineage")
    if path is None:
        return None
    lookups = Lookups(
        dataset=lambda ref: datasets.digest_of(house.registry, ref),
        model=lambda ref: get(house.registry, ref).digest,
    )
    return read_declared(Path(path), lookups)


def attach(house: House, call: Call) -> dict[str, Any]:
    """Provenance of another builder, or a lineage that was not known at publication."""
    ref = Ref.parse(call.text("ref"))
    authorise(house, call.subject, Action.ARTIFACT_ATTACH, ref.name)
    if path := call.optional("provenance"):
        return foreign.attach_provenance(house.registry, ref, Path(path), call.subject)
    lineage = declared(house, call)
    if lineage is None:
        raise Usage(
            "ARG-MISSING", "there is nothing to attach", fix="give --provenance FILE or --lineage FILE"
        )
    audit_id = papers.renew(house.registry, ref, lineage, call.subject)
    release = get(house.registry, ref)
    return {"ref": str(ref), "digest": release.digest, "label": "provenance", "audit_id": audit_id}


def model_provenance(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    authorise_read(house, call, Action.ARTIFACT_READ, ref)
    release, own = papers.newest(house.registry, ref, provenance.SLSA)
    checked = check(house.registry, release)
    materials = papers.materials(house.registry, release)
    level, because = provenance.level_of(materials)
    return {
        "ref": str(ref),
        "digest": release.digest,
        "builder": provenance.builder_of(own.attestation),
        "level": level,
        "because": because,
        "gaps": list(gaps(materials)),
        "parts": provenance.tree(materials),
        "other_builders": [_foreign(one) for one in checked if _is_foreign(one)],
        "predicate": own.predicate,
        **own.as_json(),
    }


def model_bom(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    form = call.optional("format") or FORMATS[0]
    if form not in FORMATS:
        raise Usage("BOM-FORMAT", f"{form!r} is not a format", fix=f"choose one of {', '.join(FORMATS)}")
    authorise_read(house, call, Action.ARTIFACT_READ, ref)
    release, own = papers.newest(house.registry, ref, mlbom.CYCLONEDX)
    document = own.predicate
    if form == "spdx":
        document = spdx(document)
    elif form != FORMATS[0]:
        document = mlbom.in_version(document, "1.7")
    return {
        "ref": str(ref),
        "digest": release.digest,
        "format": form,
        "document": document,
        "signed": "this document"
        if form == FORMATS[0]
        else "the CycloneDX 1.6 one that this is derived from",
        **own.as_json(),
    }


def eval_attach(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    authorise(house, call.subject, Action.ARTIFACT_ATTACH, ref.name)
    path = Path(call.text("report"))
    return evaluations.attach_report(house.registry, ref, path, call.optional("suite"), call.subject)


def eval_list(house: House, call: Call) -> dict[str, Any]:
    """The reports of one version, or of every version of a name."""
    wanted = call.text("ref")
    refs = [Ref.parse(wanted)] if "@" in wanted else _versions(house, wanted)
    found = []
    for ref in refs:
        authorise_read(house, call, Action.ARTIFACT_READ, ref)
        found += [{"ref": str(ref), **row} for row in evaluations.reports(house.registry, ref)]
    return {"reports": found}


def eval_verify(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    authorise_read(house, call, Action.ARTIFACT_VERIFY, ref)
    copy = call.optional("copy")
    return evaluations.verify(house.registry, ref, Path(copy) if copy else None)


def summary(house: House, ref: Ref) -> list[dict[str, Any]]:
    """The attachments of a version as `model show` and `model verify` list them, checked."""
    return [one.as_json() for one in check(house.registry, get(house.registry, ref))]


def lineage_gaps(house: House, ref: Ref) -> tuple[str, ...]:
    """The parts of a version's making that nobody told, or told without a digest."""
    return gaps(papers.materials(house.registry, get(house.registry, ref)))


def check_builder(house: House, ref: Ref, wanted: str) -> str:
    """The builder's id, when provenance by it is attached. Raises PROV-BUILDER, PROV-NONE."""
    checked = check(house.registry, get(house.registry, ref))
    provenance.check_builder([one.attestation for one in checked], wanted, str(ref))
    return wanted


def _versions(house: House, name: str) -> list[Ref]:
    Ref.parse(f"{name}@1")
    with house.database.read() as connection:
        return [release.ref for release in store.releases(connection, name)]


def _is_foreign(checked: Checked) -> bool:
    return checked.attestation.predicate_type == provenance.FOREIGN


def _foreign(checked: Checked) -> dict[str, Any]:
    predicate = checked.predicate
    return {
        "label": checked.attachment.label,
        "builder": predicate["builder"],
        "key_id": predicate["keyId"],
        "predicate_type": predicate["predicateType"],
        "covered": len(predicate["covered"]),
    }


ATTACHMENT_VERBS = (
    Verb("model.attach", Action.ARTIFACT_ATTACH, attach),
    Verb("model.provenance", Action.ARTIFACT_READ, model_provenance),
    Verb("model.bom", Action.ARTIFACT_READ, model_bom),
    Verb("eval.attach", Action.ARTIFACT_ATTACH, eval_attach),
    Verb("eval.list", Action.ARTIFACT_READ, eval_list),
    Verb("eval.verify", Action.ARTIFACT_VERIFY, eval_verify),
)
