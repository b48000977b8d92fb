"""What the steps of a release work with: the open stores, the signing key, and how a step leaves its event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from garrison.artifacts import store
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.decision import Subject
from garrison.core.digest import Ref
from garrison.core.errors import Refused
from garrison.core.event import Event, Outcome
from garrison.evidence.ledger import Ledger
from garrison.storage.local import LocalObjects
from garrison.storage.sql import Database
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey


@dataclass(frozen=True, slots=True)
class Registry:
    """What the steps work with; built once by the wiring."""

    database: Database
    objects: LocalObjects
    models: Path
    ledger: Ledger
    signer: Signer
    keys: Sequence[PublicKey]
    now: Callable[[], datetime]


def get(registry: Registry, ref: Ref) -> Release:
    """The release as recorded. Raises `Refused` ART-UNKNOWN."""
    with registry.database.read() as connection:
        return recorded(store.find(connection, ref), ref)


def recorded(release: Release | None, ref: Ref) -> Release:
    if release is None:
        raise Refused(
            "ART-UNKNOWN",
            f"there is no {ref} in the registry",
            fix="garrison model list shows what there is",
        )
    return release


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
