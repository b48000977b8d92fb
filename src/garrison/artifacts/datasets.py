"""Data sets as artifacts: hashed, scanned, signed under a name@version, linked to the models they made.

The bytes stay where they are; what is kept is the signed list of every file with its digest, and what stood
out in the rows. `verify` compares the files with that list and names what is missing, added, changed or
swapped.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from garrison.artifacts import dataset_store, papers, provenance, store
from garrison.artifacts import scan as scanning
from garrison.artifacts.attachments import check, latest
from garrison.artifacts.dataset_diff import add_rows, changes_between, tampered
from garrison.artifacts.dataset_files import format_of
from garrison.artifacts.dataset_judge import Before, Judged, judge, read_sketch
from garrison.artifacts.dataset_store import Dataset
from garrison.artifacts.lineage.base import Lineage, Material
from garrison.artifacts.registry import Registry, event_of, get, signed_facts
from garrison.core.actions import Action
from garrison.core.decision import Subject, Tier
from garrison.core.digest import FileEntry, Manifest, Ref, short
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Outcome, format_time
from garrison.core.finding import Finding, Verdict
from garrison.evidence import store as events
from garrison.evidence.told import told
from garrison.trust import attestation
from garrison.trust.attestation import Attestation
from garrison.trust.tree import read_tree

DATASET = "https://garrison.dev/attestation/dataset/v1"
_CHUNK = 1 << 20
# Tables that the model scanner has no word for, and that dataset_files.py reads instead.
_TABLES = frozenset({"csv", "tsv", "jsonl", "text", "parquet", "arrow"})


@dataclass(frozen=True, slots=True)
class Registration:
    """What somebody asked to register."""

    source: Path
    ref: Ref
    owner: str
    tier: Tier
    models: tuple[Ref, ...] = ()


def register(
    registry: Registry, wanted: Registration, subject: Subject, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Hash, scan, judge, sign and enter a data set; link it to models that were trained on it.

    Raises `Refused` DATA-TAKEN and DATA-SCAN, `Undecided` DATA-INCOMPLETE, `Usage` DATA-PATH.
    """
    progress(f"reading {wanted.source}")
    manifest = manifest_of(wanted.source)
    with registry.database.read() as connection:
        taken = dataset_store.find(connection, wanted.ref)
        before = dataset_store.previous(connection, wanted.ref)
    for model in wanted.models:
        get(registry, model)
    if taken is not None and taken.digest != manifest.digest:
        raise _taken(taken, manifest)
    if taken is None:
        progress(f"judging {len(manifest.files)} files")
        previous = None if before is None else _before(registry, before)
        # The gateway keeps its compiled patterns there too; the directory is private to the server's user.
        cache = registry.models.parent / "run" / "patterns"
        judged = judge(wanted.source, manifest, previous, cache)
        scanned = _scan(wanted, manifest, judged)
        audit_id = _enter(registry, wanted, manifest, judged, scanned, subject)
    else:
        audit_id = ""
    for model in wanted.models:
        audit_id = _link(registry, wanted.ref, manifest, model, subject)
    return {**show(registry, wanted.ref), "unchanged": taken is not None, "audit_id": audit_id}


def listed(registry: Registry) -> list[dict[str, Any]]:
    with registry.database.read() as connection:
        found = dataset_store.datasets(connection)
    return [
        {
            "ref": str(one.ref),
            "digest": one.digest,
            "owner": one.owner,
            "tier": one.tier,
            "created": format_time(one.created),
        }
        for one in found
    ]


def show(registry: Registry, ref: Ref) -> dict[str, Any]:
    """A data set as signed, and the models whose signed provenance names it."""
    dataset, signed = genuine(registry, ref)
    predicate = signed.predicate
    return {
        "ref": str(ref),
        "digest": dataset.digest,
        "owner": predicate["owner"],
        "tier": predicate["tier"],
        "publisher": predicate["publisher"],
        "created": predicate["created"],
        "source": predicate["source"],
        "files": predicate["manifest"],
        "report": predicate["report"],
        "models": _models(registry, dataset, Manifest.from_json(predicate["manifest"])),
        "key_id": signed.key_id,
    }


def verify(registry: Registry, ref: Ref, path: Path | None) -> dict[str, Any]:
    """Compare files with the signed list. Raises `Refused` DATA-TAMPER that names each that differs."""
    dataset, signed = genuine(registry, ref)
    place = path or Path(str(signed.predicate["source"]))
    wanted = Manifest.from_json(signed.predicate["manifest"])
    found = manifest_of(place)
    if len(wanted.files) == 1 == len(found.files) and not place.is_dir():
        only = found.files[0]  # a single file may have another name than when it was registered
        found = Manifest.of([FileEntry(wanted.files[0].path, only.size, only.mode, only.digest)])
    changes = changes_between(wanted, found)
    if changes:
        add_rows(changes, place, dataset)
        raise tampered(ref, place, changes, dataset)
    return {
        "ref": str(ref),
        "digest": dataset.digest,
        "path": str(place),
        "files": len(wanted.files),
        "size": wanted.size,
    }


def digest_of(registry: Registry, ref: Ref) -> str:
    """The digest of a registered data set, for a lineage that names it. Raises `Refused` DATA-UNKNOWN."""
    return genuine(registry, ref)[0].digest


def genuine(registry: Registry, ref: Ref) -> tuple[Dataset, Attestation]:
    """The data set when row, signature and event agree. Raises `Refused` DATA-UNKNOWN and DATA-TAMPER."""
    with registry.database.read() as connection:
        dataset = dataset_store.find(connection, ref)
        recorded = _told(connection, ref)
    if dataset is None:
        if recorded:
            raise _row(ref, "its row was removed from the database")
        raise Refused(
            "DATA-UNKNOWN", f"there is no data set {ref}", fix="garrison dataset list shows what there is"
        )
    try:
        signed = attestation.open_attestation(
            dataset.statement, registry.keys, DATASET, about=_about(ref), digest=dataset.digest
        )
        manifest = Manifest.from_json(signed.predicate["manifest"])
    except (ValueError, KeyError, TypeError) as error:
        raise _row(ref, "its statement lists no files") from error
    except Refused as error:
        if error.code != "ART-ATTACHMENT":
            raise
        raise _row(ref, error.what) from error
    row = (dataset.digest, dataset.owner, dataset.tier, dataset.source)
    said = (manifest.digest, *(signed.predicate.get(key) for key in ("owner", "tier", "source")))
    if row != said or dataset.sha256 not in recorded:
        raise _row(ref, "its row in the database is not what was signed and recorded")
    if hashlib.sha256(dataset.sketch).hexdigest() != signed.predicate["sketch"]:
        raise _row(ref, "its row sketch in the database is not what was signed")
    return dataset, signed


def manifest_of(path: Path) -> Manifest:
    """The files of a directory, or the one file. Raises `Usage` DATA-PATH and what `read_tree` refuses."""
    try:
        if path.is_dir():
            return read_tree(path)
        # Not blocking: a named pipe in the place of a file must not hang the command.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(0, "it is neither a file nor a directory")
            hasher, size = hashlib.sha256(), 0
            while chunk := stream.read(_CHUNK):
                hasher.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise Usage(
            "DATA-PATH",
            f"cannot read {path}: {error.strerror}",
            fix="give the file or the directory of the data set",
        ) from error
    return Manifest.of([FileEntry(path.name, size, 0o644, f"sha256:{hasher.hexdigest()}")])


def _scan(wanted: Registration, manifest: Manifest, judged: Judged) -> dict[str, Any]:
    """Files that can carry code have to be clean; tables that were read whole need no scanner's word."""
    report = scanning.scan_path([wanted.source], options=scanning.Options(allow_hard_links=True))
    found: dict[str, str] = {}
    for file in report.files:
        path = file.path if wanted.source.is_dir() else manifest.files[0].path
        found[path] = f"sha256:{file.sha256}"
        is_table = format_of(Path(path)) in _TABLES and path not in judged.bad
        if file.verdict is Verdict.REFUSED:
            raise _refused(wanted, path, file.findings, Refused, "DATA-SCAN")
        if path in judged.bad or (file.verdict is Verdict.INCOMPLETE and not is_table):
            error = _refused(wanted, path, file.findings, Undecided, "DATA-INCOMPLETE")
            error.what = f"{error.what} {judged.bad.get(path, '')}".strip()
            raise error
    if found != {entry.path: entry.digest for entry in manifest}:
        raise Refused(
            "ART-CHANGED",
            f"{wanted.source} changed while it was being read",
            fix="stop whatever writes there, then repeat the command",
        )
    return {"scanner": report.ruleset, "verdict": "clean"}


def _refused(
    wanted: Registration, path: str, findings: tuple[Finding, ...], kind: type[GarrisonError], code: str
) -> GarrisonError:
    first = f": {findings[0].message}" if findings else " is not understood."
    return kind(
        code,
        f"{wanted.ref} was not registered: {path}{first}",
        findings=findings[:20],
        fix=f"leave the file out or repair it; garrison scan {wanted.source} lists every finding",
        evidence={"path": path},
    )


def _enter(
    registry: Registry,
    wanted: Registration,
    manifest: Manifest,
    judged: Judged,
    scanned: dict[str, Any],
    subject: Subject,
) -> str:
    created, sketch = registry.now(), bytes(judged.sketch)
    predicate = {
        "name": wanted.ref.name,
        "version": wanted.ref.version,
        "manifest": manifest.as_json(),
        "owner": wanted.owner,
        "tier": wanted.tier.value,
        "publisher": subject.name,
        "created": format_time(created),
        "source": str(wanted.source),
        "scan": scanned,
        "report": judged.as_json(),
        "sketch": hashlib.sha256(sketch).hexdigest(),
    }
    statement = attestation.sign(_about(wanted.ref), manifest.digest, DATASET, predicate, registry.signer)
    dataset = Dataset(
        ref=wanted.ref,
        digest=manifest.digest,
        owner=wanted.owner,
        tier=wanted.tier.value,
        source=str(wanted.source),
        statement=statement,
        sketch=sketch,
        created=created,
    )
    facts = {
        "statement": dataset.sha256,
        "rows": judged.rows,
        "files": len(manifest.files),
        **signed_facts(registry.signer, statement),
    }
    event = event_of(registry, subject, Action.DATASET_REGISTER, wanted.ref, manifest.digest, facts)
    with registry.ledger.transaction() as transaction:
        try:
            with transaction.connection.begin_nested():  # PostgreSQL would end the whole transaction
                dataset_store.insert(transaction.connection, dataset)
        except sa.exc.IntegrityError:
            first = dataset_store.find(transaction.connection, wanted.ref)
            raise _taken(first or dataset, manifest) from None
        return transaction.append(event)


def _link(registry: Registry, ref: Ref, manifest: Manifest, model: Ref, subject: Subject) -> str:
    """New papers for a model, whose data now includes this data set."""
    release = get(registry, model)
    own = latest(check(registry, release), provenance.SLSA)
    known = provenance.lineage_of(own.predicate) if own else None
    hexadecimal = manifest.digest.removeprefix("sha256:")
    if known and any(one.digests.get("sha256") == hexadecimal for one in known.of("data")):
        return ""
    material = Material(
        kind="data",
        name=str(ref),
        uri=f"garrison:dataset/{ref}",
        digests={"sha256": hexadecimal},
        facts={"dataset": str(ref), "digest_of": "the manifest"},
    )
    if known is None:
        lineage = Lineage(source="garrison dataset register", materials=(material,))
    else:
        lineage = Lineage(
            source=known.source,
            builder=known.builder,
            started=known.started,
            finished=known.finished,
            parameters=known.parameters,
            metrics=known.metrics,
            materials=(*known.materials, material),
        )
    return papers.renew(registry, model, lineage, subject)


def _models(registry: Registry, dataset: Dataset, manifest: Manifest) -> list[dict[str, Any]]:
    """The index names them, their own signed provenance decides."""
    digests = {dataset.digest} | ({manifest.files[0].digest} if len(manifest.files) == 1 else set())
    with registry.database.read() as connection:
        named = dataset_store.models_of(connection, digests)
        releases = [store.find(connection, model) for model in named]
    found = []
    for release in releases:
        if release is None:
            continue
        try:
            materials = papers.materials(registry, release)
        except Refused as error:
            found.append({"ref": str(release.ref), "digest": release.digest, "problem": error.what})
            continue
        if digests & {f"sha256:{one.digests.get('sha256', '')}" for one in materials if one.kind == "data"}:
            found.append({"ref": str(release.ref), "digest": release.digest})
    return sorted(found, key=lambda row: row["ref"])


def _before(registry: Registry, dataset: Dataset) -> Before:
    _, signed = genuine(registry, dataset.ref)
    return Before(
        str(dataset.ref), Manifest.from_json(signed.predicate["manifest"]), read_sketch(dataset.sketch)
    )


def _row(ref: Ref, why: str) -> Refused:
    return Refused(
        "DATA-TAMPER",
        f"the data set {ref} can't be believed: {why}",
        fix="put the newest backup of the data directory back, then run garrison audit verify",
    )


def _taken(taken: Dataset, offered: Manifest) -> Refused:
    return Refused(
        "DATA-TAKEN",
        f"{taken.ref} is {short(taken.digest)} and can't become {short(offered.digest)}",
        evidence={"digest": taken.digest, "offered": offered.digest},
        fix=f"give these files the next version: --as {taken.ref.name}@{taken.ref.version + 1}",
    )


def _told(connection: sa.Connection, ref: Ref) -> set[str]:
    """The digests of the statements that the ledger says were registered under this name."""
    wanted = events.Filter(
        action=Action.DATASET_REGISTER.value, model=str(ref), outcome=Outcome.ALLOWED.value
    )
    return {str(record.event.data.get("statement")) for record in told(connection, wanted)}


def _about(ref: Ref) -> str:
    """The subject's name: a data set and a model of one name are two things."""
    return f"dataset/{ref}"
