"""What the steps of a release work with: the open stores, the signing key, and how a step leaves its event."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from garrison.artifacts import store
from garrison.artifacts.approved_list import ApprovedVersions
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.decision import Subject
from garrison.core.digest import Ref, short
from garrison.core.errors import GarrisonError, Refused
from garrison.core.event import Event, Outcome
from garrison.evidence import store as events
from garrison.evidence import told as proved
from garrison.evidence.ledger import Ledger
from garrison.evidence.store import Filter
from garrison.storage.objects import ObjectStore
from garrison.storage.sql import Database
from garrison.trust import statement as statements
from garrison.trust.keyring import message_of
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey


@dataclass(frozen=True, slots=True)
class Registry:
    """What the steps work with; built once by the wiring."""

    database: Database
    objects: ObjectStore
    models: Path
    ledger: Ledger
    signer: Signer
    keys: Sequence[PublicKey]
    now: Callable[[], datetime]
    approved: ApprovedVersions
    approver: Callable[[str], Signer]
    """The key with which the approval of a person is signed; made in the token when there is none."""


def get(registry: Registry, ref: Ref) -> Release:
    """The release as recorded, signed and told. Raises `Refused` ART-UNKNOWN, DB-EDITED, and as `genuine`."""
    with registry.database.read() as connection:
        found = store.find(connection, ref)
        told = published(connection, ref)[1]
    if found is None and told is not None:
        raise _edited(ref, told, "its row is gone")
    release = genuine(registry, recorded(found, ref))
    if told is None or told.digest != release.digest:
        raise _edited(ref, told, f"there is a row for {short(release.digest)}")
    return release


def published(connection: sa.Connection, ref: Ref) -> tuple[int, Event | None]:
    """(number, event) of the record that first published a version; (0, None) when there is none.

    Where a loss of records took that one, the same bytes published again stand in for it.
    """
    wanted = Filter(action=Action.ARTIFACT_PUBLISH.value, model=str(ref), outcome=Outcome.ALLOWED.value)
    again: tuple[int, Event | None] = (0, None)
    for record in proved.told(connection, wanted):
        if not record.event.data.get("unchanged"):
            return record.seq, record.event
        again = again if again[0] else (record.seq, record.event)
    return again


def without_row(connection: sa.Connection) -> list[Ref]:
    """Versions that the ledger tells of and whose row somebody removed from the database."""
    wanted = Filter(action=Action.ARTIFACT_PUBLISH.value, outcome=Outcome.ALLOWED.value)
    gone: list[Ref] = []
    for text in sorted(events.resources(connection, wanted) - store.every_ref(connection)):
        with contextlib.suppress(GarrisonError):  # a record that was edited names none
            gone.append(Ref.parse(text))
    return gone


def _edited(ref: Ref, told: Event | None, found: str) -> Refused:
    said = "of no publication" if told is None else f"that {short(told.digest)} was published"
    return Refused(
        "DB-EDITED",
        f"{ref} was changed in the database behind Garrison's back: {found}, and the ledger tells {said}",
        evidence={"row": f"release {ref}", "published": "" if told is None else told.digest},
        fix=f"put the newest backup of the data directory back, or publish the same files as {ref} again",
    )


def recorded(release: Release | None, ref: Ref) -> Release:
    if release is None:
        raise Refused(
            "ART-UNKNOWN",
            f"there is no {ref} in the registry",
            fix="garrison model list shows what there is",
        )
    return release


def genuine(registry: Registry, release: Release) -> Release:
    """The release, when its row says what its signed statement says: what decides is read from the row.

    Raises `Refused` ART-NAME, ART-SIGNATURE or KEY-UNKNOWN.
    """
    return says_the_same(release, registry.keys)


def says_the_same(release: Release, keys: Sequence[PublicKey]) -> Release:
    """As `genuine`, for whoever reads a data directory without its server."""
    signed, _key_id = statements.open_statement(release.statement, keys)
    if signed.ref != release.ref:
        raise Refused(
            "ART-NAME",
            f"the row of {release.ref} in the database holds the release statement of {signed.ref}",
            evidence={"expected": str(release.ref), "found": str(signed.ref)},
            fix=_RESTORE,
        )
    row = (release.manifest, release.digest, release.tier, release.owner, release.publisher)
    if row != (signed.manifest, signed.manifest.digest, signed.tier, signed.owner, signed.publisher):
        raise Refused(
            "ART-SIGNATURE",
            f"the row of {release.ref} in the database is not what its release statement says",
            evidence={"signed": {"digest": signed.manifest.digest, "tier": signed.tier.value}},
            fix=_RESTORE,
        )
    return release


_RESTORE = "put the newest backup of the data directory back, then run garrison audit verify"


def withdrawn(ref: Ref) -> Refused:
    return Refused(
        "ART-RETIRED", f"{ref} was retired and will not load any more", fix="publish a new version"
    )


def event_of(
    registry: Registry, subject: Subject, action: Action, ref: Ref, digest: str, data: dict[str, Any]
) -> Event:
    return Event(
        time=registry.now(),
        action=action,
        actor=subject.actor,
        resource=str(ref),
        outcome=Outcome.ALLOWED,
        digest=digest,
        data={**data, "via": subject.via},
    )


def signed_facts(signer: Signer, *documents: bytes) -> dict[str, Any]:
    """For the event of whatever a release key signed: should the key be revoked, it tells what was on record."""
    return {"key": signer.key_id, "signed": [message_of(document) for document in documents]}


def record(
    registry: Registry,
    subject: Subject,
    action: Action,
    ref: Ref,
    digest: str,
    data: dict[str, Any],
    **changes: Any,
) -> str:
    """Append the event of a step that has no other effect; returns the audit id."""
    changed = replace(event_of(registry, subject, action, ref, digest, data), **changes)
    with registry.ledger.transaction() as transaction:
        return transaction.append(changed)
