"""What an approver's key signed stops counting: the versions that leave the list, and the list without the key.

An approval counts by its place in the ledger: from the moment given on, none by that person does. A version that
was approved by them after it leaves the list; one that enough others approved, or that was approved before, stays.
The file of an environment that is short of signatures then is signed again by the people who stand in it, with
the keys that they have now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from garrison.artifacts.registry import Registry
from garrison.artifacts.revocation import first_after
from garrison.core.actions import Action
from garrison.core.digest import Ref
from garrison.core.event import Outcome
from garrison.evidence import store as events
from garrison.evidence.told import told
from garrison.trust import approvers
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import public_from_pem
from garrison.trust.tuf import entries, shape
from garrison.trust.tuf.build import Draft, RoleDraft
from garrison.trust.tuf.check import ApprovedList
from garrison.trust.tuf.entries import Listed

_Given = dict[tuple[str, str], int]
"""(version, environment) -> the number of that person's newest approval of it."""


@dataclass(frozen=True, slots=True)
class Disowned:
    """Whose approvals stop counting, from which record to before which, and what leaves the list.

    `pending` was not enough yet.
    """

    name: str
    first: int
    end: int
    listed: tuple[Listed, ...]
    pending: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(shape.path_of(one.environment, one.entry.ref) for one in self.listed)


def disowned(registry: Registry, known: ApprovedList, label: str, since: datetime) -> Disowned:
    """What the revocation of this key takes. An approval counts by its place in the ledger.

    Raises `Refused` AUD-EDITED, TUF-FORM.
    """
    with registry.ledger.read() as connection:
        name, given = _given(connection, label, registry.approved.environment)
        begun, ended = _in_force(connection, label, name)
        first = max(first_after(connection, since), begun)
    late = {place for place, seq in given.items() if first <= seq < ended}
    listed = tuple(
        one
        for one in entries.listed(known)
        if name in one.entry.approvers and (str(one.entry.ref), one.environment) in late
    )
    taken = {(str(one.entry.ref), one.environment) for one in listed}
    is_open = [(ref, where) for ref, where in late - taken if not _is_listed(known, ref, where)]
    return Disowned(name, first, ended, listed, tuple(sorted({ref for ref, _ in is_open})))


def drafted(
    known: ApprovedList, key_id: str, taken: Disowned, signer_of: Callable[[str], Signer]
) -> tuple[Draft, list[str]]:
    """The list without that key and those versions, and the names of the files that are signed again.

    `signer_of` gives a person's key that counts afterwards. Raises `Refused` TUF-FULL, and as the signers do.
    """
    withdrawn = known.withdrawn | set(taken.paths)
    roles: dict[str, RoleDraft] = {}
    for name, role in known.roles.items():
        threshold = int(name.rpartition("-")[2])
        if len(set(known.signers[name]) - {key_id}) < threshold:
            signers = [signer_of(person) for person in _signing(role["targets"], withdrawn, threshold)]
            expires = shape.parse_expiry(role["expires"])
            roles[name] = RoleDraft(role["targets"], role["x-places"], expires, signers)
    in_use = {key.key_id for key in known.keys.values()} - {key_id}
    publics = [
        public_from_pem(one.public_pem(), one.label) for role in roles.values() for one in role.signers
    ]
    new = {key.key_id: key for key in publics if key.key_id not in in_use}
    next_list = Draft(
        roles=roles,
        approvers=tuple(new.values()),
        revoked=frozenset({key_id}),
        withdrawn=entries.withdrawing(known, taken.paths).withdrawn,
    )
    return next_list, sorted(roles)


def _signing(
    targets: Mapping[str, dict[str, object]], withdrawn: frozenset[str], threshold: int
) -> list[str]:
    """Who signs a file again: those who approved what stays in it, filled up from those of what leaves."""
    staying: dict[str, None] = {}
    leaving: dict[str, None] = {}
    for path, target in targets.items():
        custom = target["custom"]
        assert isinstance(custom, dict)  # the list was verified
        (leaving if path in withdrawn else staying).update(dict.fromkeys(custom["approvers"]))
    names = list(staying)
    return names if len(names) >= threshold else list(dict.fromkeys([*names, *leaving]))


def _given(connection: sa.Connection, label: str, default: str) -> tuple[str, _Given]:
    """Whose key it is by the ledger, and what they approved."""
    wanted = events.Filter(action=Action.ARTIFACT_APPROVE.value, outcome=Outcome.ALLOWED.value)
    name, found = label.partition(".")[2], _Given()
    for record in told(connection, wanted):
        who = record.event.actor.removeprefix("user:")
        if approvers.is_of(label, who) and (
            "human" in record.event.data or "policy_version" in record.event.data
        ):
            name = who
            where = str(record.event.data.get("environment", default))
            found[(record.event.resource, where)] = record.seq
    return name, found


def _in_force(connection: sa.Connection, label: str, name: str) -> tuple[int, int]:
    """From which record this key signed for that person, and before which: keys follow each other by revocation."""
    wanted = events.Filter(action=Action.KEY_REVOKE.value, outcome=Outcome.ALLOWED.value)
    begun = 1
    for record in told(connection, wanted):
        if record.event.resource == label:
            return begun, record.seq
        if approvers.is_of(record.event.resource, name):
            begun = max(begun, record.seq)
    return begun, events.count_and_last(connection)[1] + 1


def _is_listed(known: ApprovedList, ref: str, environment: str) -> bool:
    return environment in known.environments and entries.find(known, environment, Ref.parse(ref)) is not None
