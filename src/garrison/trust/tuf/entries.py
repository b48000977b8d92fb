"""What the list says of a version, and the draft of a list that says something else. Pure.

A version's target is its signed release statement, so the list binds name, version, digest and every file. What
was withdrawn is not there, whatever an environment's file still says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.core.digest import Ref, is_digest
from garrison.core.errors import Refused, Usage
from garrison.core.event import format_time, parse_time
from garrison.trust import approvers, strict_json
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey, public_from_pem
from garrison.trust.tuf import shape
from garrison.trust.tuf.build import Draft, RoleDraft
from garrison.trust.tuf.check import RESTORE, ApprovedList

MAX_APPROVERS = 32
BYTES_OF_ENTRY = 512  # an upper bound that leaves room before a file is full


@dataclass(frozen=True, slots=True)
class Listed:
    """An approved version, the file's threshold that it passed, and the statement it stands for."""

    environment: str
    entry: ApprovedEntry
    threshold: int
    statement: str
    """SHA-256 of the release statement, hexadecimal."""


def target_of(entry: ApprovedEntry, statement: bytes) -> dict[str, Any]:
    return {
        "length": len(statement),
        "hashes": {"sha256": hashlib.sha256(statement).hexdigest()},
        "custom": {
            "digest": entry.digest,
            "counter": entry.counter,
            "approvers": list(entry.approvers),
            "policyVersion": entry.policy_version,
            "time": format_time(entry.time),
            "expires": format_time(entry.expires),
        },
    }


def find(approved: ApprovedList, environment: str, ref: Ref) -> Listed | None:
    """What is approved, None when nothing is. Raises `Refused` TUF-FORM for an entry of another shape."""
    path = shape.path_of(environment, ref)
    if path in approved.withdrawn:
        return None
    for threshold in sorted(shape.THRESHOLDS, reverse=True):
        role = approved.roles.get(shape.role_name(environment, threshold))
        if role is not None and (target := role["targets"].get(path)) is not None:
            return _parsed(path, target, threshold)
    return None


def listed(approved: ApprovedList, name: str | None = None) -> Iterator[Listed]:
    """Every approved version, by environment, name and place. Raises as `find`."""
    found: dict[str, Listed] = {}
    for environment in approved.environments:
        for threshold in shape.THRESHOLDS:  # the higher one last: it wins, as in `find`
            role = approved.roles.get(shape.role_name(environment, threshold), {})
            for path, target in role.get("targets", {}).items():
                if path not in approved.withdrawn and (name is None or path.split("/")[1:2] == [name]):
                    found[path] = _parsed(path, target, threshold)
    yield from sorted(
        found.values(), key=lambda one: (one.environment, one.entry.ref.name, one.entry.counter)
    )


def place_for(approved: ApprovedList, environment: str, ref: Ref) -> int:
    """The place of a version in the list of its name: the one it has, else the next. It only counts up."""
    if (known := find(approved, environment, ref)) is not None:
        return known.entry.counter
    highest = [
        approved.roles.get(shape.role_name(environment, threshold), {}).get("x-places", {}).get(ref.name, 0)
        for threshold in shape.THRESHOLDS
    ]
    return int(max(highest)) + 1


def entering(
    approved: ApprovedList,
    environment: str,
    entries: Mapping[str, tuple[ApprovedEntry, bytes]],
    threshold: int,
    signers: Sequence[Signer],
) -> Draft:
    """The draft in which these entries (by path) stand in the file that asks for `threshold` approvers.

    Raises `Refused` TUF-FULL, ENV-UNKNOWN.
    """
    if environment not in approved.environments:
        raise unknown_environment(environment, approved)
    name = shape.role_name(environment, threshold)
    before = approved.roles.get(name, {"targets": {}, "x-places": {}})
    targets = {path: target for path, target in before["targets"].items() if path not in approved.withdrawn}
    places = dict(before["x-places"])
    for path, (entry, statement) in entries.items():
        targets[path] = target_of(entry, statement)
        places[entry.ref.name] = max(entry.counter, places.get(entry.ref.name, 0))
    if (len(targets) + len(places) // 8) * BYTES_OF_ENTRY > shape.MAX_TARGETS * 1.2:
        raise Refused(
            "TUF-FULL",
            f"{name} of the approved list has {len(targets)} versions, as many as every client reads",
            fix="take old versions off it: garrison unapprove NAME@VERSION --reason TEXT",
        )
    expires = max(parse_time(target["custom"]["expires"]) for target in targets.values())
    left = approved.withdrawn - entries.keys()
    others = [role for other, role in approved.roles.items() if other != name]
    withdrawn = frozenset(
        path for path in left if path in targets or any(path in role["targets"] for role in others)
    )
    # A re-approved version may stand in the file of another threshold too, from before its tier was known
    # differently: `find` asks the higher one first.
    publics = [public_from_pem(signer.public_pem(), signer.label) for signer in signers]
    known = {key.key_id for key in approved.keys.values()}
    approvers = [key for key in publics if key.key_id not in known]
    if len(known) + len(approvers) > shape.MAX_APPROVER_KEYS:
        raise Refused(
            "TUF-FULL",
            f"the approved list has the keys of {len(known)} approvers, as many as it takes",
            fix="let one of the people approve whose key is there",
        )
    return Draft(
        roles={name: RoleDraft(targets, places, expires, signers)}, approvers=approvers, withdrawn=withdrawn
    )


def withdrawing(approved: ApprovedList, paths: Sequence[str]) -> Draft:
    """The draft in which these paths are not approved. Raises `Refused` TUF-FULL."""
    withdrawn = approved.withdrawn | set(paths)
    if len(withdrawn) > shape.MAX_WITHDRAWN:
        raise Refused(
            "TUF-FULL",
            f"{len(withdrawn)} versions are withdrawn, and the list takes {shape.MAX_WITHDRAWN}",
            fix="approve any version: what is withdrawn then leaves the list for good",
        )
    return Draft(withdrawn=frozenset(withdrawn))


def with_environment(approved: ApprovedList, name: str) -> Draft:
    """Raises `Usage` ENV-NAME, `Refused` ENV-TAKEN or TUF-FULL."""
    shape.check_environment(name)
    if name in approved.environments:
        raise Refused("ENV-TAKEN", f"there is an environment {name} already", fix="garrison environment list")
    if len(approved.environments) >= shape.MAX_ENVIRONMENTS:
        raise Refused(
            "TUF-FULL",
            f"there are {shape.MAX_ENVIRONMENTS} environments, as many as the list takes",
            fix="use one of them: garrison environment list",
        )
    return Draft(environments=(*approved.environments, name))


def unknown_environment(name: str, approved: ApprovedList) -> Refused:
    return Refused(
        "ENV-UNKNOWN",
        f"there is no environment {name[:40]!a}; there are {', '.join(approved.environments)}",
        fix=f"garrison environment add {name[:20]}, or name one that is there",
    )


def approver_keys(approved: ApprovedList) -> tuple[PublicKey, ...]:
    return tuple(key for key in approved.keys.values() if approvers.is_label(key.label))


def _parsed(path: str, target: Any, threshold: int) -> Listed:
    try:
        environment, ref = shape.parse_path(path)
        strict_json.exactly(target, "length", "hashes", "custom")
        custom = strict_json.exactly(
            target["custom"], "digest", "counter", "approvers", "policyVersion", "time", "expires"
        )
        counter, approvers = custom["counter"], custom["approvers"]
        if not is_digest(custom["digest"]) or type(counter) is not int or counter < 1:
            raise ValueError("not an approval")
        if not isinstance(approvers, list) or not threshold <= len(approvers) <= MAX_APPROVERS:
            raise ValueError("not as many approvers as the file asks for")
        entry = ApprovedEntry(
            ref,
            custom["digest"],
            counter,
            tuple(strict_json.text(name, 128) for name in approvers),
            strict_json.text(custom["policyVersion"], 128),
            parse_time(custom["time"]),
            parse_time(custom["expires"]),
        )
        return Listed(environment, entry, threshold, strict_json.text(target["hashes"]["sha256"], 64))
    except (ValueError, KeyError, TypeError, AttributeError, Usage) as error:
        raise Refused(
            "TUF-FORM",
            f"the approved list's entry for {path[:120]!a} is not one that Garrison wrote",
            fix=RESTORE,
            evidence={"path": path[:200]},
        ) from error
