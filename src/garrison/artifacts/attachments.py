"""Attachments of a version: signed statements bound to its digest, added and never changed.

Provenance, bill of materials and evaluation reports are attachments. Each has a row, a file beside the
version (`models/<name>/<version>.<label>.json`) and an event that holds its digest, so that an edited, added
or removed one is found whichever of the three was touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.artifacts import attachment_store, dataset_store, layout, provenance, store
from garrison.artifacts.attachment_store import Attachment
from garrison.artifacts.registry import Registry, event_of, genuine, recorded, withdrawn
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.decision import Subject
from garrison.core.digest import Ref
from garrison.core.errors import Refused, Usage
from garrison.core.event import Outcome
from garrison.evidence import store as events
from garrison.evidence.ledger import Transaction
from garrison.evidence.told import told
from garrison.trust import attestation
from garrison.trust.attestation import Attestation, broken

MAX_ATTACHMENTS = attestation.MAX_BESIDE


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be said of a version. `label` is the wish for a file name; a number is added when it is taken."""

    kind: str
    predicate_type: str
    predicate: dict[str, Any]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """An attachment whose row, file, event, signature and subject agree."""

    attachment: Attachment
    attestation: Attestation

    @property
    def predicate(self) -> dict[str, Any]:
        return self.attestation.predicate

    def as_json(self) -> dict[str, Any]:
        return {
            "label": self.attachment.label,
            "kind": self.attachment.kind,
            "predicate_type": self.attestation.predicate_type,
            "sha256": self.attachment.sha256,
            "key_id": self.attestation.key_id,
        }


# What is to be attached, decided from what is attached already and inside the same transaction.
Drafts = Callable[[Sequence[Checked]], Iterable[Draft]]


def attach(
    registry: Registry,
    ref: Ref,
    kind: str,
    predicate_type: str,
    predicate: dict[str, Any],
    subject: Subject,
) -> str:
    """Sign one statement about a version and attach it; returns the audit id. Raises as `attach_all`."""
    draft = Draft(kind, predicate_type, predicate)
    return attach_all(registry, ref, lambda _present: [draft], subject)[1][0]


def attach_all(
    registry: Registry, ref: Ref, drafts: Drafts, subject: Subject
) -> tuple[list[Attachment], list[str]]:
    """Sign and attach statements in one transaction: all of them with their events, or none.

    Raises `Refused` ART-UNKNOWN, ART-RETIRED, ART-ATTACHMENT when one that is there was tampered with, and
    `Usage` ATT-MANY.
    """
    with registry.ledger.transaction() as transaction:
        release = genuine(registry, recorded(store.find(transaction.connection, ref), ref))
        if release.retired is not None:
            raise withdrawn(ref)
        present = _checked(registry, transaction.connection, release)
        added, audit_ids = add_to(registry, transaction, release, drafts(present), subject)
    layout.materialise(registry, release)  # a kill before this is mended at the next start
    return added, audit_ids


def add_to(
    registry: Registry,
    transaction: Transaction,
    release: Release,
    drafts: Iterable[Draft],
    subject: Subject,
) -> tuple[list[Attachment], list[str]]:
    """Sign the drafts and put their rows and events into the caller's transaction."""
    present = attachment_store.attachments_of(transaction.connection, release.ref)
    labels = {attachment.label for attachment in present}
    added: list[Attachment] = []
    audit_ids: list[str] = []
    for draft in drafts:
        place = len(present) + len(added) + 1
        if place > MAX_ATTACHMENTS:
            raise Usage(
                "ATT-MANY",
                f"{release.ref} has {MAX_ATTACHMENTS:,} attachments, and that is the most",
                fix="publish a new version, and attach to that one",
            )
        try:
            envelope = attestation.sign(
                str(release.ref), release.digest, draft.predicate_type, draft.predicate, registry.signer
            )
        except ValueError as error:
            raise Usage(
                "ATT-SIZE", f"{draft.kind} of {release.ref}: {error}", fix="use shorter paths and fewer files"
            ) from error
        label = _free(draft.label or draft.kind, labels)
        labels.add(label)
        attachment = Attachment(
            release.ref, label, draft.kind, draft.predicate_type, envelope, registry.now(), place
        )
        attachment_store.add(transaction.connection, attachment)
        facts = {"attachment": label, "kind": draft.kind, "sha256": attachment.sha256}
        event = event_of(registry, subject, Action.ARTIFACT_ATTACH, release.ref, release.digest, facts)
        audit_ids.append(transaction.append(event))
        if draft.predicate_type == provenance.SLSA:
            for material in provenance.materials_of(draft.predicate):
                if material.kind == "data" and (digest := material.digests.get("sha256")):
                    dataset_store.link(transaction.connection, f"sha256:{digest}", release.ref)
        added.append(attachment)
    return added, audit_ids


def attachments_of(connection: Any, ref: Ref) -> list[Attachment]:
    """Every attachment of a version as stored, oldest first; `check` says whether they are to be believed."""
    return attachment_store.attachments_of(connection, ref)


def check(registry: Registry, release: Release) -> list[Checked]:
    """Every attachment of a version: row, file, event, signature and subject have to agree.

    Raises `Refused` ART-ATTACHMENT that names the first one that does not.
    """
    with registry.database.read() as connection:
        checked = _checked(registry, connection, release)
    for each in checked:
        _check_file(registry, each.attachment)
    return checked


def latest(checked: Sequence[Checked], predicate_type: str) -> Checked | None:
    """The newest attachment of a type: papers are made anew when more is known, and the older ones stay."""
    return next(
        (each for each in reversed(checked) if each.attestation.predicate_type == predicate_type), None
    )


def _checked(registry: Registry, connection: Any, release: Release) -> list[Checked]:
    stored = attachment_store.attachments_of(connection, release.ref)
    recorded = {label: sha256 for label, (_, sha256) in told_of(connection, release).items()}
    by_label = {attachment.label: attachment for attachment in stored}
    for label in recorded.keys() - by_label.keys():
        raise broken(label, str(release.ref), "its row was removed from the database", fix=RESTORE)
    told_order = {
        label: number for number, label in enumerate(recorded)
    }  # the row's own place is nobody's word
    stored.sort(key=lambda attachment: told_order.get(attachment.label, -1))
    return [_check_row(registry, release, attachment, recorded) for attachment in stored]


def _check_row(
    registry: Registry, release: Release, attachment: Attachment, recorded: dict[str, str]
) -> Checked:
    label, about = attachment.label, str(release.ref)
    if not attestation.is_label(label):
        raise broken(ascii(label[:80]), about, "nothing of that name was ever attached", fix=RESTORE)
    if recorded.get(label) != attachment.sha256:
        raise broken(
            label,
            about,
            "it is not what the ledger says was attached",
            fix=RESTORE,
            expected=recorded.get(label, "nothing"),
            found=attachment.sha256,
        )
    opened = attestation.open_attestation(
        attachment.envelope,
        registry.keys,
        attachment.predicate_type,
        about=about,
        digest=release.digest,
        label=label,
    )
    return Checked(attachment, opened)


def _check_file(registry: Registry, attachment: Attachment) -> None:
    path = layout.attachment_path(registry, attachment)
    found = b""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        found = stream.read(len(attachment.envelope) + 1)
    if found != attachment.envelope:
        raise broken(
            attachment.label,
            str(attachment.ref),
            f"{path} is not what was signed" if path.exists() else f"{path} is gone",
            fix=f"write it again from the database: garrison model pull {attachment.ref} --repair",
        )


def told_of(connection: Any, release: Release) -> dict[str, tuple[int, str]]:
    """What the ledger says was attached: label -> (number of the record, digest of the envelope).

    A version that was signed again has new envelopes around the same statements, and its record tells them.
    """
    found: dict[str, tuple[int, str]] = {}
    for action in (Action.ARTIFACT_ATTACH, Action.ARTIFACT_RESIGN):
        wanted = events.Filter(action=action.value, model=str(release.ref), outcome=Outcome.ALLOWED.value)
        for record in told(connection, wanted):
            data = record.event.data
            if record.event.digest != release.digest:
                continue
            if action is Action.ARTIFACT_ATTACH:
                found[str(data.get("attachment"))] = (record.seq, str(data.get("sha256")))
                continue
            papers = data.get("papers")
            for label, sha256 in (papers if isinstance(papers, dict) else {}).items():
                if label in found and found[label][0] < record.seq:
                    found[label] = (record.seq, str(sha256))
    return found


def _free(wish: str, taken: set[str]) -> str:
    label, number = wish[:56], 1
    while label in taken:
        number += 1
        label = f"{wish[:56]}-{number}"
    if not attestation.is_label(label):
        raise Refused(
            "ATT-LABEL",
            f"{wish[:80]!a} cannot name an attachment",
            fix="use lower-case letters, digits and hyphens, a letter first",
        )
    return label


RESTORE = "put the newest backup of the data directory back, then run garrison audit verify"
