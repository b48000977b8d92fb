"""Once, at the first start with a list outside the database: entries that the release key signed are carried over.

Only while neither ledger nor token ever knew of a list: an old database put back later brings nothing with it.
Each entry is verified, and each of its approvers must have approved it by the ledger's word; then the entry is
signed with those approvers' keys and the row no longer has it.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import replace

import sqlalchemy as sa

from garrison.artifacts import layout, store
from garrison.artifacts.registry import Registry, genuine
from garrison.artifacts.store import Release
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused
from garrison.core.event import Outcome
from garrison.evidence import store as events
from garrison.evidence.told import told
from garrison.trust import approvals, approved
from garrison.trust.approved import ApprovedEntry
from garrison.trust.tuf import entries, shape
from garrison.trust.tuf.build import Draft


def carry_over(registry: Registry) -> list[str]:
    """What was done, a line each; nothing in a data directory that has its list already."""
    if not registry.approved.is_new():
        return []
    with registry.database.read() as connection:
        old = [release for release in store.releases(connection) if release.approved_entry]
    if not old:
        return []
    lines: list[str] = []
    taken: dict[int, dict[str, tuple[ApprovedEntry, bytes]]] = defaultdict(dict)
    with registry.approved.changing() as change, registry.ledger.transaction() as transaction:
        for release in old:
            try:
                entry = _believed(registry, transaction.connection, release)
            except GarrisonError as error:
                lines.append(f"did not carry over the approval of {release.ref}: {error.code}")
                continue
            path = shape.path_of(registry.approved.environment, release.ref)
            taken[approvals.required(release.tier)][path] = (entry, release.statement)
        store.forget_entries(transaction.connection)
        if taken:
            count = sum(len(found) for found in taken.values())
            lines.append(f"carried over the approvals of {count} versions into the approved list")
            targets = {path: data for found in taken.values() for path, (_, data) in found.items()}
            change.write(transaction, _draft(registry, taken), lines[-1], targets)
    for release in old:
        tree = layout.tree_of(registry, release.ref)
        with contextlib.suppress(OSError):
            tree.with_name(tree.name + ".approval.json").unlink()
    return lines


def _believed(registry: Registry, connection: sa.Connection, release: Release) -> ApprovedEntry:
    """The old entry, verified, for this release, by people who approved it as the ledger tells."""
    genuine(registry, release)
    entry = approved.verify(release.approved_entry, registry.keys)
    wanted = events.Filter(model=str(release.ref), outcome=Outcome.ALLOWED.value)
    recorded = [record.event for record in told(connection, wanted)]
    gave = {
        event.actor
        for event in recorded
        if event.action is Action.ARTIFACT_APPROVE and event.digest == entry.digest
    }
    is_retired = release.retired or any(event.action is Action.ARTIFACT_RETIRE for event in recorded)
    is_whole = {f"user:{name}" for name in entry.approvers} <= gave
    enough = len(set(entry.approvers)) >= approvals.required(release.tier)
    if is_retired or entry.ref != release.ref or entry.digest != release.digest or not (is_whole and enough):
        raise Refused(
            "APP-SIGNATURE",
            f"the entry of {release.ref} is not one that the ledger tells of",
            fix=f"approve it again: garrison approve {release.ref}",
        )
    return entry


def _draft(registry: Registry, taken: dict[int, dict[str, tuple[ApprovedEntry, bytes]]]) -> Draft:
    known = registry.approved.current()
    whole = Draft()
    for threshold, found in taken.items():
        names = sorted({name for entry, _ in found.values() for name in entry.approvers})
        signers = [registry.approver(name) for name in names]
        part = entries.entering(known, registry.approved.environment, found, threshold, signers)
        new = [key for key in part.approvers if key not in whole.approvers]
        whole = replace(whole, roles={**whole.roles, **part.roles}, approvers=[*whole.approvers, *new])
    return whole
