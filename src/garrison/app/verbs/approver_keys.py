"""Revoking the key of an approver: their approvals stop counting, what is left without enough leaves the list."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from garrison.app import serving
from garrison.app.house import House
from garrison.app.keychain import HOME
from garrison.app.verbs.base import Call, event_of
from garrison.artifacts.approver_revocation import Disowned, disowned, drafted
from garrison.core.actions import Action
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused
from garrison.core.event import format_time
from garrison.evidence.ledger import Transaction
from garrison.trust import approvers
from garrison.trust.keyring import APPROVER, KeyRecord, State
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import Revocation
from garrison.trust.tuf.entries import Listed

MAX_TOLD = 1_000  # versions in one answer and one record; the count is always whole


def record_of(house: House, name: str) -> KeyRecord:
    """A key by label or id: of the keyring, or an approver's that was made since the keyring was last entered."""
    chain = house.keychain
    known = {record.key_id for record in chain.ring.keys}
    for key in chain.token.list():
        if key.label == name and key.key_id not in known and approvers.is_label(name):
            return KeyRecord(key, APPROVER, State.ACTIVE, HOME, house.now())
    if approvers.is_label(name) and all(record.label != name for record in chain.ring.keys):
        raise Refused(
            "KEY-UNKNOWN",
            f"there is no key {name[:80]!a}: an approver's key is made at their first approval",
            fix="garrison key list shows the keys; garrison user disable NAME ends what an account may do",
        )
    return chain.ring.find(name)


def revoke_approver(
    house: House, call: Call, record: KeyRecord, reason: str, since: datetime
) -> dict[str, Any]:
    """Keyring, list and record in one transaction, and an end to what serves by these approvals alone."""
    chain, approved = house.keychain, house.registry.approved
    if record.public.revocation is not None:
        since = min(since, record.public.revocation.since)
    public = replace(record.public, revocation=Revocation(reason, since, frozenset()))
    revoked = replace(record, public=public, state=State.REVOKED, until=record.until or house.now())
    gone = {each.label for each in chain.ring.keys if each.state is State.REVOKED} | {record.label}

    def signer_of(name: str) -> Signer:
        return chain.token.ensure(approvers.in_force(name, gone))

    with house.deploying, approved.changing() as change:  # what was admitted before is finished
        known = approved.current()
        taken = disowned(house.registry, known, record.label, since)
        draft, signed_again = drafted(known, record.key_id, taken, signer_of)

        def publish(transaction: Transaction) -> None:
            if not approved.is_new():
                change.write(transaction, draft, f"the key {record.label} was revoked")

        facts: dict[str, Any] = {"key": record.key_id, "reason": reason, "since": format_time(since)}
        facts |= {"approver": taken.name, "from_record": taken.first, "to_record": taken.end}
        facts |= {"withdrawn": list(taken.paths[:MAX_TOLD]), "withdrawn_count": len(taken.paths)}
        audit_id = chain.change(
            lambda ring: ring.with_key(revoked),
            lambda _ring: event_of(house, call, Action.KEY_REVOKE, record.label, **facts),
            publish,
        )
    listed = [affected_json(house, one) for one in taken.listed]
    stops = not call.flag("keep_serving")
    stopped, failed = stop_serving(house, call, [row for row in listed if row["serving"]] if stops else [])
    return {
        "label": record.label,
        "role": record.role,
        "key_id": record.key_id,
        "reason": reason,
        "since": format_time(since),
        "kept": 0,
        "affected_count": len(listed),
        "affected": listed[:MAX_TOLD],
        "effects": effects(taken, signed_again, approved.current().pins.timestamp),
        "stopped": stopped,
        "not_stopped": failed,
        "successor": "",
        "audit_id": audit_id,
    }


def stop_serving(house: House, call: Call, rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Take versions out of service. One that can't be stopped is told; at its next start it is refused."""
    stopped, failed = [], []
    for row in rows:
        try:
            serving.stop(house, Ref.parse(row["ref"]).name, call.subject)
            stopped.append(row["ref"])
        except GarrisonError as error:
            failed.append(f"{row['ref']}: {error.code} {error.what}")
    return stopped, failed


def affected_json(house: House, one: Listed) -> dict[str, Any]:
    """As for versions by a release key. What serves is told for the environment that decides here."""
    entry = one.entry
    current = house.serving(entry.ref.name)
    is_here = one.environment == house.registry.approved.environment
    return {
        "ref": str(entry.ref),
        "environment": one.environment,
        "digest": entry.digest,
        "time": format_time(entry.time),
        "serving": is_here and current is not None and current.ref == entry.ref,
        "next": f"garrison approve {entry.ref}"
        + ("" if is_here else f" --environment {one.environment}")
        + ", by somebody who looked at it",
    }


def effects(taken: Disowned, signed_again: list[str], version: int) -> list[str]:
    """What else it did, in words."""
    lines = [f"the approved list is signed anew without that key: timestamp {version}"]
    if signed_again:
        lines.append(f"signed again by the people who stand in it: {', '.join(signed_again)}")
    if taken.pending:
        lines.append(f"not enough yet, and {taken.name}'s yes counts no more: {', '.join(taken.pending)}")
    return lines
