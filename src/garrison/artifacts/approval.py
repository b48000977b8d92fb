"""Approval of a version: people, m of n, bound to its digest and the policy; then its signed place in the list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from garrison.artifacts import layout, store
from garrison.artifacts.at_rest import verify
from garrison.artifacts.registry import Registry, genuine, get, recorded, withdrawn
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.digest import Ref, short
from garrison.core.errors import Refused
from garrison.core.event import Event, Outcome
from garrison.evidence import store as events
from garrison.trust import approvals, approved
from garrison.trust.approvals import Approval
from garrison.trust.approved import ApprovedEntry
from garrison.trust.store import User


@dataclass(frozen=True, slots=True)
class Assent:
    """One person's yes, with what it is bound to. `publisher_human` tells the publisher's other accounts."""

    user: User
    publisher_human: str
    policy_version: str
    lifetime: timedelta
    via: str


def approve(registry: Registry, ref: Ref, assent: Assent) -> dict[str, Any]:
    """Add one approval; the last one needed puts the version in the approved list, signed.

    The caller has asked the policy. Approving what is approved already changes nothing. Raises `Refused`
    ART-TAMPER and kin, ART-RETIRED, APP-SELF or APP-SAME.
    """
    now = registry.now()
    verified = verify(registry, ref)
    with registry.ledger.transaction() as transaction:
        connection = transaction.connection
        release = genuine(registry, recorded(store.find(connection, ref), ref))
        if release.retired is not None:
            raise withdrawn(ref)
        is_listed = _is_current(registry, release, assent.policy_version)
        given = approvals.counting(_told(connection, ref), release.digest, assent.policy_version, now)
        if not is_listed:
            wanted = Approval(
                assent.user.name,
                assent.user.human,
                verified.digest,
                assent.policy_version,
                now,
                now + assent.lifetime,
            )
            approvals.check(
                wanted, given, publisher=release.publisher, publisher_human=assent.publisher_human
            )
            store.approve(connection, ref, wanted)
            given = [*given, wanted]
            if len(given) >= approvals.required(release.tier):
                _enter_list(registry, connection, release, given, now + assent.lifetime)
                is_listed = True
        facts = {"given": len(given), "needed": approvals.required(release.tier), "complete": is_listed}
        event = Event(
            time=now,
            action=Action.ARTIFACT_APPROVE,
            actor=f"user:{assent.user.name}",
            resource=str(ref),
            outcome=Outcome.ALLOWED,
            digest=release.digest,
            data={**facts, "via": assent.via},
        )
        audit_id = transaction.append(event)
    if is_listed:
        layout.materialise(registry, get(registry, ref))
    return {
        "ref": str(ref),
        "digest": release.digest,
        "given": [approval.approver for approval in given],
        "needed": facts["needed"],
        "state": "approved" if is_listed else "pending",
        "audit_id": audit_id,
    }


def _told(connection: sa.Connection, ref: Ref) -> list[Approval]:
    """The approvals given to a version that the ledger tells of: a row alone is nobody's yes."""
    wanted = events.Filter(
        action=Action.ARTIFACT_APPROVE.value, model=str(ref), outcome=Outcome.ALLOWED.value
    )
    told = {(e.actor, e.digest, e.time) for e in (record.event for record in events.find(connection, wanted))}
    return [
        approval
        for approval in store.approvals_of(connection, ref)
        if (f"user:{approval.approver}", approval.digest, approval.time) in told
    ]


def _was_retired(registry: Registry, ref: Ref) -> bool:
    """Whether the ledger tells of it: the mark in the row could have been wiped off."""
    wanted = events.Filter(
        action=Action.ARTIFACT_RETIRE.value, model=str(ref), outcome=Outcome.ALLOWED.value, limit=1
    )
    with registry.ledger.read() as connection:
        return bool(events.latest(connection, wanted))


def _enter_list(
    registry: Registry,
    connection: sa.Connection,
    release: Release,
    given: Sequence[Approval],
    expires: datetime,
) -> None:
    """Sign the version's entry in the approved list; one that is approved again keeps its place."""
    entry = ApprovedEntry(
        ref=release.ref,
        digest=release.digest,
        counter=release.approved_counter or store.next_place(connection, release.ref.name),
        approvers=tuple(approval.approver for approval in given),
        policy_version=given[-1].policy_version,
        time=registry.now(),
        expires=expires,
    )
    store.enter_approved_list(connection, release.ref, entry.counter, approved.sign(entry, registry.signer))


def _is_current(registry: Registry, release: Release, policy_version: str) -> bool:
    """Whether the version stands in the approved list and could be deployed anew right now."""
    if not release.approved_entry:
        return False
    try:
        approved.check_current(approved_entry(registry, release), policy_version, registry.now())
    except Refused:
        return False
    return True


def approved_entry(registry: Registry, release: Release) -> ApprovedEntry:
    """The signed entry that lets a version load. Raises `Refused` ART-NOT-APPROVED, ART-RETIRED."""
    if release.retired is not None or _was_retired(registry, release.ref):
        raise withdrawn(release.ref)
    if not release.approved_entry:
        raise Refused(
            "ART-NOT-APPROVED",
            f"{release.ref} ({short(release.digest)}) is published but not on the approved list",
            evidence={"digest": release.digest, "state": release.state},
            fix=f"another person approves it: garrison approve {release.ref}",
        )
    entry = approved.verify(release.approved_entry, registry.keys)
    if entry.ref != release.ref or entry.digest != release.digest:
        raise Refused(
            "APP-DIGEST",
            f"the approval is for {entry.ref} {short(entry.digest)}, not for {release.ref} {short(release.digest)}",
            evidence={"digest": release.digest, "approved": entry.digest},
            fix=f"approve the version itself: garrison approve {release.ref}",
        )
    return entry
