"""Approval of a version: people, m of n, bound to its digest and the policy; then its place in the signed list.

Withdrawing is as easy as approving is not: one person who may do it takes a version off, and clients see that
at their next refresh (`trust/tuf`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from garrison.artifacts import store
from garrison.artifacts.at_rest import record_verified, verify
from garrison.artifacts.registry import Registry, event_of, genuine, recorded, withdrawn
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.decision import Subject
from garrison.core.digest import Ref, short
from garrison.core.errors import GarrisonError, Refused
from garrison.core.event import Event, Outcome, format_time, parse_time
from garrison.evidence import store as events
from garrison.evidence.told import told, told_last
from garrison.trust import approvals, approved
from garrison.trust.approvals import Approval
from garrison.trust.approved import ApprovedEntry
from garrison.trust.people import is_one_person
from garrison.trust.store import User
from garrison.trust.tuf import entries, shape
from garrison.trust.tuf.check import ApprovedList


@dataclass(frozen=True, slots=True)
class Assent:
    """One person's yes, with what it is bound to. `human_of` tells which accounts are one person's, `is_disabled`
    whose yes does not count towards a new approval any more."""

    user: User
    human_of: Callable[[str], str]
    is_disabled: Callable[[str], bool]
    policy_version: str
    lifetime: timedelta
    via: str
    environment: str = ""
    fresh_role: str = ""


def approve(registry: Registry, ref: Ref, assent: Assent) -> dict[str, Any]:
    """Add one approval; the last one needed puts the version in the approved list, signed by its approvers.

    The caller has asked the policy. Approving what is approved already changes nothing. Raises `Refused`
    ART-TAMPER and kin, ART-RETIRED, APP-SELF, APP-SAME, ENV-UNKNOWN or TUF-*.
    """
    environment = assent.environment or registry.approved.environment
    verified = verify(registry, ref)
    record_verified(registry, Subject("user", assent.user.name, via=assent.via), verified, "approve")
    with registry.approved.changing() as change, registry.ledger.transaction() as transaction:
        now = (
            registry.now()
        )  # in turn: an approval that was given while this one waited is not "of the future"
        connection = transaction.connection
        release = genuine(registry, recorded(store.find(connection, ref), ref))
        if release.retired is not None or _was_retired(connection, ref):
            raise withdrawn(ref)
        known = registry.approved.current()
        if environment not in known.environments:
            raise entries.unknown_environment(environment, known)
        is_listed = _is_current(registry, known, release, environment, assent.policy_version)
        yeses = _told(connection, ref, environment, registry.approved.environment)
        counted = approvals.counting(yeses, release.digest, assent.policy_version, now)
        counted = [one for one in counted if not assent.is_disabled(one.approver)]
        if not is_listed:
            wanted = Approval(
                assent.user.name,
                assent.user.human,
                verified.digest,
                assent.policy_version,
                now,
                now + assent.lifetime,
            )
            publisher = release.publisher
            human = assent.human_of(publisher)
            approvals.check(wanted, counted, publisher=publisher, publisher_human=human)
            _refuse_signer(connection, release, assent)
            store.approve(connection, ref, wanted)
            counted = [*counted, wanted]
        needed = approvals.required(release.tier)
        is_complete = is_listed or len(counted) >= needed
        event = Event(
            time=now,
            action=Action.ARTIFACT_APPROVE,
            actor=f"user:{assent.user.name}",
            resource=str(ref),
            outcome=Outcome.ALLOWED,
            digest=release.digest,
            data={
                "given": len(counted),
                "needed": needed,
                "complete": is_complete,
                "environment": environment,
                **({} if is_listed else _binding(assent, now)),
                "via": assent.via,
                **({"fresh_role": assent.fresh_role} if assent.fresh_role else {}),
            },
        )
        audit_id = transaction.append(event)
        if is_complete and not is_listed:
            entry = _entry(known, environment, release, counted, now, now + assent.lifetime)
            path = shape.path_of(environment, ref)
            signers = [registry.approver(approval.approver) for approval in counted]
            draft = entries.entering(known, environment, {path: (entry, release.statement)}, needed, signers)
            named = {path: release.statement}
            change.write(transaction, draft, f"{audit_id}: {ref} approved for {environment}", named)
    return {
        "ref": str(ref),
        "digest": release.digest,
        "environment": environment,
        "given": [approval.approver for approval in counted],
        "needed": needed,
        "state": "approved" if is_complete else "pending",
        "audit_id": audit_id,
    }


def unapprove(
    registry: Registry, ref: Ref, subject: Subject, reason: str, environment: str = ""
) -> dict[str, Any]:
    """Take a version off the list of one environment, or of all. Raises `Refused` ART-NOT-APPROVED, TUF-*."""
    with registry.approved.changing() as change, registry.ledger.transaction() as transaction:
        release = recorded(store.find(transaction.connection, ref), ref)
        known = registry.approved.current()
        if environment and environment not in known.environments:
            raise entries.unknown_environment(environment, known)
        found = [
            one
            for one in ((environment,) if environment else known.environments)
            if entries.find(known, one, ref) is not None
        ]
        if not found:
            raise _not_approved(release, environment or registry.approved.environment)
        facts = {"reason": reason, "environments": found}
        event = event_of(registry, subject, Action.ARTIFACT_UNAPPROVE, ref, release.digest, facts)
        audit_id = transaction.append(event)
        draft = entries.withdrawing(known, [shape.path_of(one, ref) for one in found])
        change.write(transaction, draft, f"{audit_id}: {ref} withdrawn from {', '.join(found)}")
    return {
        "ref": str(ref),
        "digest": release.digest,
        "environments": found,
        "state": "pending",
        "audit_id": audit_id,
    }


def retire(registry: Registry, ref: Ref, subject: Subject) -> dict[str, Any]:
    """Withdraw a version for good, from every environment's list too."""
    with registry.approved.changing() as change, registry.ledger.transaction() as transaction:
        release = recorded(store.find(transaction.connection, ref), ref)
        found: list[str] = []
        with contextlib.suppress(Refused):  # a damaged list approves nothing; retiring is never held up by it
            known = registry.approved.current()
            found = [one for one in known.environments if entries.find(known, one, ref) is not None]
        store.retire(transaction.connection, ref, registry.now())
        facts = {"was": "approved" if found else "pending", "environments": found}
        event = event_of(registry, subject, Action.ARTIFACT_RETIRE, ref, release.digest, facts)
        audit_id = transaction.append(event)
        if found:
            draft = entries.withdrawing(known, [shape.path_of(one, ref) for one in found])
            change.write(transaction, draft, f"{audit_id}: {ref} retired")
    return {"ref": str(ref), "digest": release.digest, "state": "retired", "audit_id": audit_id}


def approved_entry(registry: Registry, release: Release, environment: str = "") -> ApprovedEntry:
    """The verified entry that lets a version load here. Raises `Refused` ART-NOT-APPROVED, ART-RETIRED,
    APP-DIGEST, APP-COUNT, TUF-*."""
    with registry.ledger.read() as connection:
        was_retired = _was_retired(connection, release.ref)
    if release.retired is not None or was_retired:
        raise withdrawn(release.ref)
    environment = environment or registry.approved.environment
    return _entry_of(registry.approved.current(), release, environment)


def readable(registry: Registry) -> ApprovedList | None:
    """The list, None when it is refused: what is shown then names the code for each version."""
    try:
        return registry.approved.current()
    except Refused:
        return None


def standing(registry: Registry, release: Release, known: ApprovedList | None = None) -> str:
    """The state that a list shows: what signatures, list and ledger say, never what the row says.

    `edited` is a row that its signed statement contradicts; a code says why the list cannot tell.
    """
    try:
        if release.approved_counter or release.approved_entry:
            return "edited"  # nothing writes these since the list is signed outside the database
        genuine(registry, release)
    except GarrisonError as error:
        return "edited" if error.code in ("ART-SIGNATURE", "ART-NAME") else error.code
    if release.retired is not None:
        return "retired"
    try:
        _entry_of(known or registry.approved.current(), release, registry.approved.environment)
    except Refused as error:
        return "pending" if error.code == "ART-NOT-APPROVED" else error.code
    return "approved"


def overview(registry: Registry, name: str | None = None) -> list[dict[str, Any]]:
    """Every approved version: what, by whom, until when, at which place, under which policy."""
    return [
        {
            "ref": str(one.entry.ref),
            "environment": one.environment,
            "digest": one.entry.digest,
            "approvers": list(one.entry.approvers),
            "needed": one.threshold,
            "place": one.entry.counter,
            "time": format_time(one.entry.time),
            "expires": format_time(one.entry.expires),
            "policy_version": one.entry.policy_version,
        }
        for one in entries.listed(registry.approved.current(), name)
    ]


def _entry_of(known: ApprovedList, release: Release, environment: str) -> ApprovedEntry:
    found = entries.find(known, environment, release.ref)
    if found is None:
        raise _not_approved(release, environment)
    entry = found.entry
    is_statement = found.statement == hashlib.sha256(release.statement).hexdigest()
    if entry.ref != release.ref or entry.digest != release.digest or not is_statement:
        raise Refused(
            "APP-DIGEST",
            f"the approval is for {entry.ref} {short(entry.digest)}, not for {release.ref} {short(release.digest)}",
            evidence={"digest": release.digest, "approved": entry.digest},
            fix=f"approve the version itself: garrison approve {release.ref}",
        )
    if found.threshold < approvals.required(release.tier):
        raise Refused(
            "APP-COUNT",
            f"{release.ref} needs {approvals.required(release.tier)} approvers (tier: {release.tier.value}) and "
            f"stands in a list that asks for {found.threshold}",
            evidence={"digest": release.digest, "approvers": list(entry.approvers)},
            fix=f"another person approves it: garrison approve {release.ref}",
        )
    return entry


def _entry(
    known: ApprovedList,
    environment: str,
    release: Release,
    given: Sequence[Approval],
    now: datetime,
    expires: datetime,
) -> ApprovedEntry:
    return ApprovedEntry(
        ref=release.ref,
        digest=release.digest,
        counter=entries.place_for(known, environment, release.ref),
        approvers=tuple(approval.approver for approval in given),
        policy_version=given[-1].policy_version,
        time=now,
        expires=expires,
    )


def given(registry: Registry, ref: Ref) -> list[Approval]:
    """The approvals of a version for the environment that decides here, as the ledger tells them."""
    here = registry.approved.environment
    with registry.database.read() as connection:
        return _told(connection, ref, here, here)


def _told(connection: sa.Connection, ref: Ref, environment: str, default: str) -> list[Approval]:
    """The approvals since the version was withdrawn or the list begun anew, as the ledger tells them.

    A row is nobody's yes, and says nothing about who that is or until when. Raises `Refused` AUD-EDITED.
    """

    def of(action: Action) -> list[tuple[int, Event]]:
        wanted = events.Filter(action=action.value, model=str(ref), outcome=Outcome.ALLOWED.value)
        return [(record.seq, record.event) for record in told(connection, wanted)]

    ended = [seq for seq, e in of(Action.ARTIFACT_UNAPPROVE) if environment in e.data["environments"]]
    begun = events.Filter(action=Action.APPROVALS_RESET.value, outcome=Outcome.ALLOWED.value, limit=1)
    ended += [record.seq for record in told_last(connection, begun)]
    rows = {(row.approver, row.time): row for row in store.approvals_of(connection, ref)}
    is_revoked = revoked_yes(connection)
    found = [
        _approval(e, rows)
        for seq, e in of(Action.ARTIFACT_APPROVE)
        if e.data.get("environment", default) == environment
        and seq > max(ended, default=0)
        and not is_revoked(seq, e.actor)
    ]
    return [approval for approval in found if approval is not None]


def revoked_yes(connection: sa.Connection) -> Callable[[int, str], bool]:
    """Whether an approval on record (its number, who) stopped counting when that person's key was revoked."""
    wanted = events.Filter(action=Action.KEY_REVOKE.value, outcome=Outcome.ALLOWED.value)
    spans = [
        (f"user:{data['approver']}", int(data["from_record"]), int(data["to_record"]))
        for data in (record.event.data for record in told(connection, wanted))
        if "approver" in data
    ]
    return lambda seq, actor: any(who == actor and first <= seq < last for who, first, last in spans)


def _binding(assent: Assent, now: datetime) -> dict[str, str]:
    """What an approval is bound to besides the digest. An event without it repeated a yes that was not needed."""
    return {
        "human": assent.user.human,
        "policy_version": assent.policy_version,
        "expires": format_time(now + assent.lifetime),
    }


def _approval(event: Event, rows: Mapping[tuple[str, datetime], Approval]) -> Approval | None:
    """An approval as its event tells it; one of an earlier release leaves the rest to its row. None: a repeated one."""
    who, data = event.actor.removeprefix("user:"), event.data
    if "human" in data:
        until = parse_time(str(data["expires"]))
        return Approval(who, str(data["human"]), event.digest, str(data["policy_version"]), event.time, until)
    row = rows.get((who, event.time))
    return None if row is None else replace(row, digest=event.digest)


def _refuse_signer(connection: sa.Connection, release: Release, assent: Assent) -> None:
    """Who signed a version again looked at it once; the second look is somebody else's."""
    name = assent.user.name
    wanted = events.Filter(
        action=Action.ARTIFACT_RESIGN.value, model=str(release.ref), outcome=Outcome.ALLOWED.value, limit=1
    )
    for record in told_last(connection, wanted):
        signer = record.event.actor.partition(":")[2]
        if is_one_person(signer, name, assent.human_of):
            raise Refused(
                "APP-SELF",
                f"{signer} signed {release.ref} again; another person must approve it",
                fix="ask somebody else who has the role approver",
                evidence={"signed_again": signer, "approver": name},
            )


def _was_retired(connection: sa.Connection, ref: Ref) -> bool:
    """Whether the ledger tells of it: the mark in the row could have been wiped off."""
    wanted = events.Filter(
        action=Action.ARTIFACT_RETIRE.value, model=str(ref), outcome=Outcome.ALLOWED.value, limit=1
    )
    return bool(told_last(connection, wanted))


def _is_current(
    registry: Registry, known: ApprovedList, release: Release, environment: str, policy_version: str
) -> bool:
    """Whether the version stands in the approved list and could be deployed anew right now."""
    try:
        approved.check_current(_entry_of(known, release, environment), policy_version, registry.now())
    except Refused:
        return False
    return True


def _not_approved(release: Release, environment: str) -> Refused:
    return Refused(
        "ART-NOT-APPROVED",
        f"{release.ref} ({short(release.digest)}) is published but not on the approved list of {environment}",
        evidence={"digest": release.digest, "environment": environment},
        fix=f"another person approves it: garrison approve {release.ref}",
    )
