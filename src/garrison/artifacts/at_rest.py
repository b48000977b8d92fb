"""A published version where it lies: checked again, laid out again, withdrawn."""

from __future__ import annotations

from typing import Any

from garrison.artifacts import attachments, layout
from garrison.artifacts.registry import Registry, get, record
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.decision import Subject
from garrison.core.digest import Ref
from garrison.core.errors import Refused
from garrison.trust.hash_cache import HashCache, Recall
from garrison.trust.verify import Verified, verify_release

CACHE = "hashes"  # in the data directory; may be removed at any time


def verify(registry: Registry, ref: Ref, *, again: bool = False) -> Verified:
    """Hash the stored files of a version and check both signatures over them, then its attachments.

    `again` is for looking once more at what lies there: bytes that this machine has hashed by SHA-256 within
    the last month are recognised by a keyed hash of every byte. Whatever is about to be used goes without.
    Raises ART-TAMPER and kin, ART-ATTACHMENT.
    """
    release = get(registry, ref)
    found = layout.read_back(registry, release, recall=_recall(registry, release) if again else None)
    try:
        verified = verify_release(
            manifest=layout.with_modes_of(found, release.manifest),
            bundle=release.bundle,
            statement=release.statement,
            keys=registry.keys,
            expect=ref,
        )
    except Refused as error:
        if error.code == "ART-TAMPER":
            error.fix = (
                f"put the right bytes back: garrison model pull {ref} --repair, or, when their object is "
                f"damaged too, publish the same files as {ref} again"
            )
        raise
    attachments.check(registry, release)
    return verified


def _recall(registry: Registry, release: Release) -> Recall | None:
    cache = HashCache.open(registry.models.parent / CACHE)
    return None if cache is None else Recall(cache, {entry.path: entry.digest for entry in release.manifest})


def record_verified(registry: Registry, subject: Subject, verified: Verified, stage: str) -> str:
    """Leave the event that a version was checked and held; returns the audit id."""
    return record(
        registry,
        subject,
        Action.ARTIFACT_VERIFY,
        verified.ref,
        verified.digest,
        {"stage": stage, "key": verified.key_id},
    )


def repair(registry: Registry, ref: Ref, subject: Subject) -> dict[str, Any]:
    """Lay the version's files out again from the store. Damaged objects stay refused."""
    release = get(registry, ref)
    layout.materialise(registry, release, replace_tree=True)
    verified = verify(registry, ref)
    audit_id = record(
        registry, subject, Action.SYSTEM_REPAIR, ref, verified.digest, {"tree": "laid out again"}
    )
    return {
        "ref": str(ref),
        "digest": verified.digest,
        "path": str(layout.tree_of(registry, ref)),
        "audit_id": audit_id,
    }
