"""Sign a published version anew, with the key in force: for versions whose key was revoked or replaced.

The old signature counts for nothing here. What is signed again are the stored bytes, and only when they are
what the ledger recorded at their publication, before the moment from which the key is not believed. The
name, the digest and the publisher stay; the scan is made again and approval has to be given again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from garrison.artifacts import approval, attachments, layout, store
from garrison.artifacts import scan as scanning
from garrison.artifacts.at_rest import verify
from garrison.artifacts.registry import Registry, event_of, published, recorded, withdrawn
from garrison.artifacts.release import Ingested, Progress, Publication, scan_again, signed_messages
from garrison.artifacts.revocation import first_after
from garrison.core.actions import Action
from garrison.core.decision import Subject, Tier
from garrison.core.digest import Manifest, Ref, canonical_json, sha256_bytes, short
from garrison.core.errors import Refused
from garrison.core.event import Event
from garrison.trust import oms
from garrison.trust import statement as statements
from garrison.trust.keyring import signer_id
from garrison.trust.statement import ReleaseStatement
from garrison.trust.tree import read_tree


def resign(
    registry: Registry, ref: Ref, subject: Subject, progress: Progress, source: Path | None = None
) -> dict[str, Any]:
    """New bundle and statement for the same bytes.

    `source` is the publisher's own copy, for a version that was published after the moment from which its
    key is not believed. Raises `Refused` ART-UNKNOWN, ART-RETIRED, KEY-RESIGN, ART-TAMPER or ART-SCAN,
    `Undecided` ART-INCOMPLETE.
    """
    with registry.database.read() as connection:
        release = recorded(store.find(connection, ref), ref)
        told = _told(registry, connection, ref, signer_id(release.statement), source)
    if release.retired is not None:
        raise withdrawn(ref)
    progress(f"reading {ref}")
    attachments.check(
        registry, release
    )  # papers by the stolen key can't be signed again: refused before a change
    manifest = _as_recorded(registry, release.manifest, ref, told)
    wanted = Publication(
        layout.tree_of(registry, ref), ref, str(told.data["owner"]), Tier(str(told.data["tier"]))
    )
    scanned = scan_again(
        registry, Ingested(manifest, wanted.source, release.source), wanted, subject, progress
    )
    statement = ReleaseStatement(
        ref=ref,
        manifest=manifest,
        tier=wanted.tier,
        owner=wanted.owner,
        publisher=told.actor.partition(":")[2],
        created=registry.now(),
        verdict=str(scanned.report["verdict"]),
        scanner=scanning.RULESET,
        report=sha256_bytes(canonical_json(scanned.report)),
        source=release.source,
    )
    bundle = oms.bundle(manifest, str(ref), registry.signer)
    envelope = statements.sign(statement, registry.signer)
    is_withdrawn = _withdraw(registry, ref, subject)
    facts: dict[str, Any] = {
        "key": registry.signer.key_id,
        "label": registry.signer.label,
        "was": signer_id(release.statement),
        "signed": signed_messages(bundle, envelope),
        "published": told.digest,
    }
    with registry.ledger.transaction() as transaction:
        store.resign(transaction.connection, ref, bundle, envelope, scanned.report, statement.created)
        audit_id = transaction.append(
            event_of(registry, subject, Action.ARTIFACT_RESIGN, ref, manifest.digest, facts)
        )
        if not is_withdrawn:  # approvals that were given and not yet enough end here too
            ended = {
                "reason": "signed again",
                "environments": list(registry.approved.current().environments),
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
        "state": "pending",
        "next": f"another person approves it: garrison approve {ref}",
        "audit_id": audit_id,
    }


def _told(registry: Registry, connection: sa.Connection, ref: Ref, key_id: str, source: Path | None) -> Event:
    """The event of the publication, when it is older than the moment from which its key is not believed."""
    seq, event = published(connection, ref)
    key = next((key for key in registry.keys if key.key_id == key_id), None)
    is_late = (
        key is not None
        and key.revocation is not None
        and seq >= first_after(connection, key.revocation.since)
    )
    if event is not None and key is not None:
        if is_late and source is not None and read_tree(source).digest == event.digest:
            return event
        if not is_late:
            return event
    why = (
        "the ledger does not tell of its publication"
        if event is None
        else "it is signed by a key that was never in the keyring"
        if key is None
        else "it was published after the moment from which its key is not believed"
        if source is None
        else f"{source} is not what the ledger says was published"
    )
    raise Refused(
        "KEY-RESIGN",
        f"{ref} is not signed again: {why}",
        fix=f"give the publisher's own copy: garrison model resign {ref} --from DIR, or publish the right files "
        f"as {ref.name}@{ref.version + 1}",
        evidence={"key_id": key_id},
    )


def _as_recorded(registry: Registry, recorded_modes: Manifest, ref: Ref, told: Event) -> Manifest:
    tree = layout.tree_of(registry, ref)
    if not tree.is_dir():
        raise Refused(
            "OBJ-MISSING",
            f"the files of {ref} are not in {tree}",
            fix=f"put {tree} back from a backup; it is compared with the ledger",
        )
    found = layout.with_modes_of(read_tree(tree, allow_hard_links=True, list_empty=True), recorded_modes)
    if found.digest != told.digest:
        raise Refused(
            "ART-TAMPER",
            f"the stored files of {ref} are {short(found.digest)}, and {short(told.digest)} was published",
            fix=f"put the files of {ref} back from a backup; they are compared with the ledger",
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
