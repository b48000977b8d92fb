"""The papers of a version whose key was revoked, signed anew: what each says stays, word for word.

A paper is believed here because the ledger holds the digest of its envelope from when it was attached, and the
holder of a release key alone cannot write there. So the record, the row and the old signature have to agree;
then the same statement is signed by the key in force, under the same label. A further attachment, `resigned`,
says which papers that were, by which key, and the number of the record that tells of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from garrison.artifacts import attachment_store, attachments
from garrison.artifacts.attachment_store import Attachment
from garrison.artifacts.attachments import Draft
from garrison.artifacts.registry import Registry
from garrison.artifacts.store import Release
from garrison.core.event import format_time
from garrison.trust import attestation
from garrison.trust.attestation import broken
from garrison.trust.keyring import message_of, signer_id
from garrison.trust.keys.public import PublicKey

RESIGNED = "https://garrison.dev/attestation/resigned/v1"
KIND = "resigned"


@dataclass(frozen=True, slots=True)
class Renewed:
    """A paper with its new envelope, and the number of the record that told of the old one."""

    before: Attachment
    after: Attachment
    record: int


def is_lost(envelope: bytes, key: PublicKey) -> bool:
    """Whether this document is by that revoked key and not among what its revocation keeps."""
    if key.revocation is None or signer_id(envelope) != key.key_id:
        return False
    return message_of(envelope) not in key.revocation.kept


def renew(registry: Registry, connection: sa.Connection, release: Release) -> list[Renewed]:
    """Every paper that no longer counts, signed again. Raises `Refused` ART-ATTACHMENT for one that is not
    what was attached: nothing is signed of a version that has such a one."""
    told = attachments.told_of(connection, release)
    rows = attachment_store.attachments_of(connection, release.ref)
    for label in told.keys() - {row.label for row in rows}:
        raise broken(
            label, str(release.ref), "its row was removed from the database", fix=attachments.RESTORE
        )
    return [renewed for row in rows for renewed in _renewed(registry, release, row, told)]


def put(connection: sa.Connection, renewed: Sequence[Renewed]) -> dict[str, str]:
    """Write them in the place of the old ones; returns what the event tells: label and digest."""
    for each in renewed:
        attachment_store.resign(connection, each.after)
    return {each.after.label: each.after.sha256 for each in renewed}


def statement(registry: Registry, was: PublicKey, published: int, renewed: Sequence[Renewed]) -> Draft:
    """What is said of it, for who reads the version later."""
    revocation = was.revocation
    predicate: dict[str, Any] = {
        "key": {"id": was.key_id, "label": was.label},
        "revoked": None
        if revocation is None
        else {"reason": revocation.reason, "since": format_time(revocation.since)},
        "by": {"id": registry.signer.key_id, "label": registry.signer.label},
        "published": {"record": published},
        "papers": [
            {
                "label": each.before.label,
                "predicateType": each.before.predicate_type,
                "was": each.before.sha256,
                "record": each.record,
                "now": each.after.sha256,
            }
            for each in renewed
        ],
    }
    return Draft(KIND, RESIGNED, predicate)


def _renewed(
    registry: Registry, release: Release, row: Attachment, told: dict[str, tuple[int, str]]
) -> Iterator[Renewed]:
    number, sha256 = told.get(row.label, (0, "nothing"))
    if sha256 != row.sha256 or not attestation.is_label(row.label):
        raise broken(
            ascii(row.label[:63])[1:-1],
            str(release.ref),
            "it is not what the ledger says was attached",
            fix=attachments.RESTORE,
            expected=sha256,
            found=row.sha256,
        )
    key = next((key for key in registry.keys if key.key_id == signer_id(row.envelope)), None)
    if key is None or not is_lost(row.envelope, key):
        return  # by a key that counts, or kept: `check` judges it afterwards as it is
    about = str(release.ref)
    opened = attestation.open_attestation(
        row.envelope,
        [replace(key, revocation=None)],  # the ledger vouches for it here, the signature only has to be one
        row.predicate_type,
        about=about,
        digest=release.digest,
        label=row.label,
    )
    envelope = attestation.sign(about, release.digest, row.predicate_type, opened.predicate, registry.signer)
    yield Renewed(row, replace(row, envelope=envelope), number)
