"""Sign a published version anew, with the key in force: for versions whose key was revoked or replaced.

The old signature counts for nothing here. What is signed again are the stored bytes, and only when they are
what the ledger recorded at their publication. When that was after the moment from which the key is not
believed, somebody else than the publisher compares them with the publisher's own copy. The name, the digest
and the publisher stay; the scan is made again, the papers are signed again (`resign_papers.py`), and approval
has to be given again, by somebody who did not sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from garrison.artifacts import approval, attachments, layout, resign_papers, store
from garrison.artifacts import scan as scanning
from garrison.artifacts.at_rest import verify
from garrison.artifacts.registry import Registry, event_of, published, recorded, withdrawn
from garrison.artifacts.release import Ingested, Progress, Publication, scan_again, signed_messages
from garrison.artifacts.revocation import first_after
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.decision import Subject, Tier
from garrison.core.digest import Manifest, Ref, canonical_json, sha256_bytes, short
from garrison.core.errors import Refused
from garrison.core.event import Event
from garrison.trust import oms
from garrison.trust import statement as statements
from garrison.trust.keyring import signer_id
from garrison.trust.keys.public import PublicKey
from garrison.trust.people import is_one_person
from garrison.trust.statement import ReleaseStatement
from garrison.trust.tree import read_tree


def resign(
    registry: Registry,
    ref: Ref,
    subject: Subject,
    progress: Progress,
    human_of: Callable[[str], str],
    source: Path | None = None,
) -> dict[str, Any]:
    """New bundle, statement and papers for the same bytes.

    `source` is the publisher's own copy, for a version that was published after the moment from which its
    key is not believed. Raises `Refused` ART-UNKNOWN, ART-RETIRED, KEY-RESIGN, ART-TAMPER, ART-ATTACHMENT or
    ART-SCAN, `Undecided` ART-INCOMPLETE.
    """
    with registry.database.read() as connection:
        release = recorded(store.find(connection, ref), ref)
        told = _told(registry, connection, release, source)
        if told.is_late and is_one_person(subject.name, told.event.actor.partition(":")[2], human_of):
            why = f"{subject.name} published it, and another person has to look at it"
            raise _refused(ref, told.key.key_id, why)
        resign_papers.renew(registry, connection, release)  # refused before anything is changed
    if release.retired is not None:
        raise withdrawn(ref)
    progress(f"reading {ref}")
    roots: dict[str, str] = {}
    manifest = _as_recorded(registry, release, told.event, roots)
    owner, tier = str(told.event.data["owner"]), Tier(str(told.event.data["tier"]))
    with layout.opened_tree(registry, release) as tree:
        wanted = Publication(tree, ref, owner, tier)
        stored = Ingested(manifest, tree, release.source)
        report = scan_again(registry, stored, wanted, subject, progress).report
    statement = ReleaseStatement(
        ref=ref,
        manifest=manifest,
        tier=tier,
        owner=owner,
        publisher=told.event.actor.partition(":")[2],
        created=registry.now(),
        verdict=str(report["verdict"]),
        scanner=scanning.RULESET,
        report=sha256_bytes(canonical_json(report)),
        source=release.source,
        roots=roots,
    )
    bundle = oms.bundle(manifest, str(ref), registry.signer)
    envelope = statements.sign(statement, registry.signer)
    is_withdrawn = _withdraw(registry, ref, subject)
    facts: dict[str, Any] = {
        "key": registry.signer.key_id,
        "label": registry.signer.label,
        "was": told.key.key_id,
        "signed": signed_messages(bundle, envelope),
        "published": told.event.digest,
        "compared": "publisher's own copy" if told.is_late else "record of the publication",
    }
    # The list is asked before: its lock is taken before the ledger's, never inside a transaction.
    environments = list(registry.approved.current().environments)
    with registry.ledger.transaction() as transaction:
        connection = transaction.connection
        renewed = resign_papers.renew(registry, connection, release)
        store.resign(connection, ref, bundle, envelope, report, statement.created)
        facts["papers"] = resign_papers.put(connection, renewed)
        audit_id = transaction.append(
            event_of(registry, subject, Action.ARTIFACT_RESIGN, ref, manifest.digest, facts)
        )
        if told.key.revocation is not None:
            said = resign_papers.statement(registry, told.key, told.seq, renewed)
            attachments.add_to(registry, transaction, release, [said], subject)
        if not is_withdrawn:  # approvals that were given and not yet enough end here too
            ended = {
                "reason": "signed again",
                "environments": environments,
            }
            event = event_of(registry, subject, Action.ARTIFACT_UNAPPROVE, ref, manifest.digest, ended)
            transaction.append(event)
    with registry.database.read() as connection:
        layout.materialise(registry, recorded(store.find(connection, ref), ref))
    verified = verify(registry, ref)
    return {
        "ref": str(ref),
        "digest": verified.digest,
        "key": registry.signer.label,
        "key_id": verified.key_id,
        "papers": sorted(facts["papers"]),
        "state": "pending",
        "next": f"another person approves it: garrison approve {ref}",
        "audit_id": audit_id,
    }


@dataclass(frozen=True, slots=True)
class _Told:
    """The record of a publication, the key that signed it, and whether that was after its compromise."""

    seq: int
    event: Event
    key: PublicKey
    is_late: bool


def _told(registry: Registry, connection: sa.Connection, release: Release, source: Path | None) -> _Told:
    """What the ledger tells of the publication, when that may be signed again."""
    ref, key_id = release.ref, signer_id(release.statement)
    seq, event = published(connection, ref)
    key = next((key for key in registry.keys if key.key_id == key_id), None)
    if event is None:
        raise _refused(ref, key_id, "the ledger does not tell of its publication")
    if key is None:
        raise _refused(ref, key_id, "it is signed by a key that was never in the keyring")
    is_late = key.revocation is not None and seq >= first_after(connection, key.revocation.since)
    if is_late and source is None:
        raise _refused(ref, key_id, "it was published after the moment from which its key is not believed")
    if source is not None and read_tree(source).digest != event.digest:
        raise _refused(ref, key_id, f"{source} is not what the ledger says was published")
    return _Told(seq, event, key, is_late)


def _refused(ref: Ref, key_id: str, why: str) -> Refused:
    return Refused(
        "KEY-RESIGN",
        f"{ref} is not signed again: {why}",
        fix=f"an administrator compares it with the publisher's own copy: garrison --as ADMIN model resign {ref} "
        f"--from DIR, or publish the right files as {ref.name}@{ref.version + 1}",
        evidence={"key_id": key_id},
    )


def _as_recorded(registry: Registry, release: Release, told: Event, roots: dict[str, str]) -> Manifest:
    """Every stored byte, hashed, whatever store it lies in; the digest has to be the ledger's. Fills `roots`."""
    found = layout.with_modes_of(layout.read_back(registry, release, roots=roots), release.manifest)
    if found.digest != told.digest:
        raise Refused(
            "ART-TAMPER",
            f"the stored files of {release.ref} are {short(found.digest)}, and {short(told.digest)} was published",
            fix=f"put the files of {release.ref} back from a backup; they are compared with the ledger",
            evidence={"digest": told.digest, "found": found.digest, "record": "publication"},
        )
    return found


def _withdraw(registry: Registry, ref: Ref, subject: Subject) -> bool:
    """Take the version off every approved list; False when it stood on none."""
    try:
        approval.unapprove(registry, ref, subject, "signed again")
    except Refused as error:
        if error.code != "ART-NOT-APPROVED":
            raise
        return False
    return True
