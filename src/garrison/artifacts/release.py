"""One artifact from a directory of files to an approved version. Read it top to bottom.

    ingest   bytes -> content-addressed objects -> manifest          artifact.ingest
    scan     scanners that recognise the content -> verdict          artifact.scan
    sign     a key in the token signs bundle and release statement   artifact.sign
    publish  name@version becomes immutable                          artifact.publish
    papers   provenance, bill of materials (papers.py)               artifact.attach
    approve  people, m of n, bound to the digest (approval.py)       artifact.approve
    pull     a verified copy in a directory (pull.py)                artifact.pull
    retire   the version will not load any more (at_rest.py)         artifact.retire

Each step takes the result of the one before, so a skipped check does not type-check. Bytes are written
first and named last: whatever is interrupted leaves objects that nothing refers to, never half a version,
and the next start (or the failure itself) gives their space back (`layout.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from garrison.artifacts import layout, papers, scan_policy, store
from garrison.artifacts import scan as scanning
from garrison.artifacts.at_rest import record_verified, verify
from garrison.artifacts.attachments import add_to
from garrison.artifacts.lineage.base import Lineage
from garrison.artifacts.registry import Registry, event_of, published, record
from garrison.artifacts.scan_report import ScanReport
from garrison.artifacts.scan_stored import noting, scan_stored, settled
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.decision import Subject, Tier
from garrison.core.digest import Manifest, Ref, canonical_json, sha256_bytes, short
from garrison.core.errors import GarrisonError, Refused, Undecided
from garrison.core.event import Outcome
from garrison.core.finding import Verdict
from garrison.evidence import store as events
from garrison.evidence.ledger import Transaction
from garrison.evidence.told import told
from garrison.storage.local import Stamp, remove_tree
from garrison.trust import oms
from garrison.trust import statement as statements
from garrison.trust.keyring import message_of
from garrison.trust.statement import ReleaseStatement
from garrison.trust.store import owner_of, set_owner
from garrison.trust.tree import Writer, read_tree
from garrison.trust.verify import verify_release

BARE = "bare files"  # marks the event of a signature over a directory that was not published

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ingested:
    """Every byte is in the store and hashed; `tree` holds the files under their real names."""

    manifest: Manifest
    tree: Path
    source: str
    is_bare: bool = False
    roots: Mapping[str, str] = field(default_factory=dict)
    stamps: Mapping[str, Stamp] | None = (
        None  # of the files that were written just now; None: nothing was stored
    )


@dataclass(frozen=True, slots=True)
class Scanned:
    """An ingested artifact that every scanner understood and none refused."""

    ingested: Ingested
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Signed:
    """A scanned artifact with both its signatures."""

    scanned: Scanned
    statement: ReleaseStatement
    bundle: bytes
    envelope: bytes
    audit_id: str


@dataclass(frozen=True, slots=True)
class Publication:
    """What a publisher asked for."""

    source: Path
    ref: Ref
    owner: str
    tier: Tier
    lineage: Lineage | None = None
    origin: str = ""
    """Where `source` was fetched from, when that is not where it lies."""


def publish(
    registry: Registry, wanted: Publication, subject: Subject, progress: Progress
) -> tuple[Release, bool, str]:
    """All steps to a published version. Returns the release, whether it is new, and the audit id.

    The same bytes again are a no-op (and mend damaged objects); other bytes are `Refused`
    ART-IMMUTABLE; a scan that is not clean is `Refused` ART-SCAN or `Undecided` ART-INCOMPLETE.
    """
    try:
        with registry.objects.in_use():
            return _published(registry, wanted, subject, progress)
    except BaseException:
        with contextlib.suppress(GarrisonError, OSError):  # the next start does it; the first error is told
            layout.collect(registry)
        raise


def _published(
    registry: Registry, wanted: Publication, subject: Subject, progress: Progress
) -> tuple[Release, bool, str]:
    ingested = _ingest(registry, wanted, subject, progress)
    try:
        with registry.database.read() as connection:
            known = store.find(connection, wanted.ref)
            first = published(connection, wanted.ref)[1]
        if first is not None and first.digest != ingested.manifest.digest:  # also when its row was removed
            raise _immutable(wanted.ref, first.digest, ingested.manifest.digest)
        if known is not None:
            return _same_bytes_or_refused(registry, known, ingested, subject)
        scanned = _scan(registry, ingested, wanted, subject, progress)
        signed = _sign(registry, scanned, wanted, subject)
        return _publish(registry, signed, wanted, subject)
    finally:
        if ingested.tree != wanted.source:
            remove_tree(ingested.tree)


def _ingest(registry: Registry, wanted: Publication, subject: Subject, progress: Progress) -> Ingested:
    """Copy into the store in one pass, hashing on the way; lay the files out under their names."""
    progress(f"copying {wanted.source}")
    tree = layout.staged(registry)
    roots: dict[str, str] = {}
    stamps: dict[str, Stamp] = {}

    def progressed(done: int, total: int) -> None:
        progress(f"copying {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

    def taken_in(path: str) -> Writer:
        layout.refuse_without_room(registry, wanted.source / path)
        return write(path)

    write = noting(registry.objects, stamps)
    try:
        manifest = read_tree(wanted.source, sink=taken_in, progress=progressed, roots=roots)
        layout.lay_out(registry, manifest, tree)
        stamps = settled(tree, stamps)
    except BaseException:
        remove_tree(tree)
        raise
    record(
        registry,
        subject,
        Action.ARTIFACT_INGEST,
        wanted.ref,
        manifest.digest,
        {"files": len(manifest.files), "bytes": manifest.size},
    )
    if not registry.objects.is_linkable:
        tree = wanted.source  # nothing plain is laid out
    return Ingested(manifest, tree, wanted.origin or str(wanted.source), roots=roots, stamps=stamps)


def _scan(
    registry: Registry, ingested: Ingested, wanted: Publication, subject: Subject, progress: Progress
) -> Scanned:
    """Judge the stored bytes, not the source: what is scanned is what is signed."""
    progress(f"scanning {len(ingested.manifest.files)} files")
    if ingested.stamps is None:
        scanned = scanning.scan_path([ingested.tree], options=scanning.Options(allow_hard_links=True))
    else:
        scanned = scan_stored(registry.objects, ingested.manifest, ingested.tree, ingested.stamps)
    result = _by_policy(registry, wanted, scanned)
    report = {**result.as_json(), "seen": result.seen()}
    outcome = {
        Verdict.CLEAN: Outcome.ALLOWED,
        Verdict.REFUSED: Outcome.DENIED,
        Verdict.INCOMPLETE: Outcome.UNKNOWN,
    }[result.verdict]
    findings = tuple(finding for file in result.files for finding in file.findings)[:50]
    code = {Verdict.REFUSED: "ART-SCAN", Verdict.INCOMPLETE: "ART-INCOMPLETE"}.get(result.verdict, "")
    audit_id = record(
        registry,
        subject,
        Action.ARTIFACT_SCAN,
        wanted.ref,
        ingested.manifest.digest,
        {"verdict": result.verdict.value, "report": sha256_bytes(canonical_json(report))},
        outcome=outcome,
        code=code,
        findings=findings,
    )
    if result.verdict is Verdict.CLEAN:
        _refuse_changed(wanted.source, ingested.manifest, report)
        return Scanned(ingested, report)
    kind = Refused if result.verdict is Verdict.REFUSED else Undecided
    worst = next((file for file in result.files if file.verdict is result.verdict), None)
    named = (
        f"{worst.path}: {worst.findings[0].message}" if worst and worst.findings else "nothing was understood"
    )
    error = kind(
        code,
        f"{wanted.ref} was not signed: {named}",
        findings=findings,
        evidence={"digest": ingested.manifest.digest, "verdict": result.verdict.value},
        fix=f"garrison scan {wanted.source} lists every finding and how to mend it",
    )
    error.audit_id = audit_id
    raise error


def _by_policy(registry: Registry, wanted: Publication, report: ScanReport) -> ScanReport:
    """What the data directory's `scan-policy.toml` makes of a scan; without one, the scan itself."""
    path = registry.models.parent / scan_policy.NAME
    if not path.exists():
        return report
    policy = scan_policy.load_policy(path)
    return scan_policy.apply(policy, report, today=registry.now().date(), tier=wanted.tier)


def _sign(registry: Registry, scanned: Scanned, wanted: Publication, subject: Subject) -> Signed:
    """Two signatures: a bundle that other tools verify, and a statement that binds name and version."""
    manifest = scanned.ingested.manifest
    _refuse_second_meaning(registry, wanted.ref, manifest)
    statement = ReleaseStatement(
        ref=wanted.ref,
        manifest=manifest,
        tier=wanted.tier,
        owner=wanted.owner,
        publisher=subject.name,
        created=registry.now(),
        verdict=str(scanned.report["verdict"]),
        scanner=scanning.RULESET,
        report=sha256_bytes(canonical_json(scanned.report)),
        source=scanned.ingested.source,
        roots=scanned.ingested.roots,
    )
    bundle = oms.bundle(manifest, str(wanted.ref), registry.signer)
    envelope = statements.sign(statement, registry.signer)
    facts: dict[str, Any] = {
        "key": registry.signer.key_id,
        "label": registry.signer.label,
        "signed": signed_messages(bundle, envelope),
    }
    if scanned.ingested.is_bare:
        facts["kept"] = BARE
    audit_id = record(registry, subject, Action.ARTIFACT_SIGN, wanted.ref, manifest.digest, facts)
    return Signed(scanned, statement, bundle, envelope, audit_id)


def signed_messages(bundle: bytes, statement: bytes) -> list[str]:
    """The digests of the two messages: should the key be revoked, they tell what was on record before."""
    return [message_of(bundle), message_of(statement)]


def scan_again(
    registry: Registry, stored: Ingested, wanted: Publication, subject: Subject, progress: Progress
) -> Scanned:
    """Judge a published version where it lies, by the rules of today. Raises as `publish`."""
    return _scan(registry, stored, wanted, subject, progress)


def sign_files(registry: Registry, wanted: Publication, subject: Subject, progress: Progress) -> Signed:
    """Scan and sign a directory where it lies, without publishing it. What is signed is what was scanned.

    Raises as `publish`, and `Refused` ART-CHANGED when the files changed in between.
    """
    progress(f"reading {wanted.source}")

    def progressed(done: int, total: int) -> None:
        progress(f"reading {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

    roots: dict[str, str] = {}
    manifest = read_tree(wanted.source, progress=progressed, roots=roots)
    _refuse_second_meaning(registry, wanted.ref, manifest)
    scanned = _scan(
        registry,
        Ingested(manifest, wanted.source, str(wanted.source), True, roots),
        wanted,
        subject,
        progress,
    )
    return _sign(registry, scanned, wanted, subject)


def _refuse_changed(source: Path, manifest: Manifest, report: dict[str, Any]) -> None:
    """What was judged has to be what was hashed."""
    judged = {file["path"]: f"sha256:{file['sha256']}" for file in report["files"]}
    if judged != {entry.path: entry.digest for entry in manifest}:
        raise Refused(
            "ART-CHANGED",
            f"{source} changed while it was being read",
            fix="stop whatever writes there (a download, a training job), then repeat the command",
        )


def _refuse_second_meaning(registry: Registry, ref: Ref, manifest: Manifest) -> None:
    """One name@version means one content, also among directories that were signed and never published."""
    with registry.database.read() as connection:
        release = store.find(connection, ref)
        signed = told(connection, events.Filter(action=Action.ARTIFACT_SIGN.value, model=ref.name))
        others = {
            found.event.digest
            for found in signed
            if found.event.resource == str(ref) and found.event.data.get("kept") == BARE
        }
    if release is not None:
        others.add(release.digest)
    if others - {manifest.digest}:
        raise _immutable(ref, min(others - {manifest.digest}), manifest.digest)


def _publish(
    registry: Registry, signed: Signed, wanted: Publication, subject: Subject
) -> tuple[Release, bool, str]:
    """Take the name@version, or learn that someone else was first. Only then do files get their place."""
    ingested = signed.scanned.ingested
    release = Release(
        ref=wanted.ref,
        digest=ingested.manifest.digest,
        tier=wanted.tier,
        owner=wanted.owner,
        publisher=subject.name,
        source=ingested.source,
        manifest=ingested.manifest,
        scan=signed.scanned.report,
        bundle=signed.bundle,
        statement=signed.envelope,
        created=signed.statement.created,
        retired=None,
        approved_counter=0,
        approved_entry=b"",
    )
    event = event_of(
        registry,
        subject,
        Action.ARTIFACT_PUBLISH,
        wanted.ref,
        release.digest,
        {"tier": wanted.tier.value, "owner": wanted.owner, "bytes": ingested.manifest.size},
    )
    written = papers.drafts(registry, release, ingested.tree, wanted.lineage, ())
    try:
        with registry.ledger.transaction() as transaction:
            taken = not store.insert(transaction.connection, release)
            audit_id = "" if taken else transaction.append(event)
            if not taken:
                added, _ = add_to(registry, transaction, release, written, subject)
                layout.place(registry, release, ingested.tree, added)
                _remember_owner(registry, transaction, release, subject)
    except BaseException:
        layout.displace(registry, wanted.ref)
        raise
    if taken:
        with registry.database.read() as connection:
            winner = store.find(connection, wanted.ref)
        if winner is None:
            raise Undecided(
                "DB-UNAVAILABLE", f"{wanted.ref} could not be written", fix="try the same command again"
            )
        return _same_bytes_or_refused(registry, winner, ingested, subject)
    proof = verify_release(
        manifest=release.manifest,
        bundle=release.bundle,
        statement=release.statement,
        keys=registry.keys,
        expect=release.ref,
    )
    record_verified(registry, subject, proof, "publish")
    return release, True, audit_id


def _remember_owner(registry: Registry, transaction: Transaction, release: Release, subject: Subject) -> None:
    """The first published version names the model's owner; later ones change it only by `owner set`."""
    name = release.ref.name
    if owner_of(transaction.connection, name) is None:
        set_owner(transaction.connection, name, release.owner, by=subject.actor, now=release.created)
        facts = {"owner": release.owner, "reason": "first version"}
        told = event_of(registry, subject, Action.OWNER_WRITE, release.ref, "", facts)
        transaction.append(replace(told, resource=name))


def _same_bytes_or_refused(
    registry: Registry, known: Release, ingested: Ingested, subject: Subject
) -> tuple[Release, bool, str]:
    if known.digest != ingested.manifest.digest:
        raise _immutable(known.ref, known.digest, ingested.manifest.digest, published_by=known.publisher)
    is_mended = False
    try:
        verify(registry, known.ref)
    except Refused:  # the store was damaged, and these are the right bytes
        is_mended = layout.materialise(registry, known, replace_tree=True)
    facts = {"unchanged": True, "mended": is_mended}
    return known, False, record(registry, subject, Action.ARTIFACT_PUBLISH, known.ref, known.digest, facts)


def _immutable(ref: Ref, taken: str, offered: str, **facts: str) -> Refused:
    return Refused(
        "ART-IMMUTABLE",
        f"{ref} is {short(taken)} and can't become {short(offered)}",
        evidence={"digest": taken, "offered": offered, **facts},
        fix=f"give these files the next version: --as {ref.name}@{ref.version + 1}",
    )
