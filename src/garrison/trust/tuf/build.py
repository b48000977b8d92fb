"""The next version of the list's files, signed: values in, bytes out. What may be in it was decided before.

Root and top-level targets are signed by the token's root key, snapshot and timestamp by its timestamp key, the
file of an environment by the approvers of what changed in it. A file that did not change is not signed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import SSlibKey

from garrison.core.digest import canonical_json
from garrison.trust.approvers import is_label
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey, public_from_pem
from garrison.trust.tuf import shape
from garrison.trust.tuf.check import ApprovedList
from garrison.trust.tuf.pins import Pins

RENEW_LONG = timedelta(days=60)  # root and targets are signed anew so long before they expire


@dataclass(frozen=True, slots=True)
class RoleDraft:
    """The next content of one environment's file, and who signs it: the approvers of what changed."""

    targets: Mapping[str, dict[str, Any]]
    places: Mapping[str, int]
    expires: datetime
    signers: Sequence[Signer]


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to change; None leaves a part as it is."""

    roles: Mapping[str, RoleDraft] = field(default_factory=dict)
    approvers: Sequence[PublicKey] = ()
    revoked: frozenset[str] = frozenset()  # ids of approvers' keys that count no more
    withdrawn: frozenset[str] | None = None
    environments: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """Files by name, `timestamp.json` among them: replacing that one is what makes the rest count."""

    files: Mapping[str, bytes]
    pins: Pins


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The two keys that the server signs with by itself, and root keys before the present one."""

    root: Signer
    timestamp: Signer
    former: Sequence[Signer] = ()


def empty(pins: Pins, environments: tuple[str, ...], now: datetime) -> ApprovedList:
    """The list before the first version, or after a reset: nothing approved, numbers above all seen."""
    return ApprovedList(pins=pins, fresh_until=now, expiries={}, environments=environments)


def build(current: ApprovedList, draft: Draft, keys: ServerKeys, now: datetime) -> Built:
    """The files that follow `current`. Raises as the signers do."""
    files: dict[str, bytes] = {}
    pins = current.pins
    meta = {name: listed for name, listed in current.meta.items() if name != "snapshot"}
    versions = dict(pins.files)

    def add(name: str, signed: dict[str, Any], signers: Sequence[Signer]) -> None:
        versions[name] = signed["version"] = versions.get(name, 0) + 1
        data = _signed(signed, signers)
        files[f"{versions[name]}.{name}.json"] = data
        meta[f"{name}.json"] = _meta(versions[name], data)

    root_version = pins.root
    if _is_root_due(current, keys, now):
        root_version += 1
        data = _signed(_root(root_version, keys, now), [keys.root, *_needed_former(current, keys)])
        files["root.json"] = files[f"{root_version}.root.json"] = data
    for name, role in draft.roles.items():
        add(name, _role(role), role.signers)
    for name in sorted(set(pins.files) - {file.removesuffix(".json") for file in meta} - {"targets"}):
        # After a reset: a client takes no snapshot that lacks a file which an earlier one had.
        add(name, _targets(now + shape.ROOT_LIFETIME, {}), [keys.root])
    withdrawn = current.withdrawn if draft.withdrawn is None else draft.withdrawn
    if withdrawn and (f"{shape.WITHDRAWN}.json" not in meta or _is_due(current, now)):
        add(shape.WITHDRAWN, _targets(now + shape.ROOT_LIFETIME, {}), [keys.root])
    if _is_targets_due(current, draft, withdrawn, keys, now):
        add("targets", _delegating(current, draft, withdrawn, keys, now), [keys.root])
    if files or _is_snapshot_due(current, now):  # the root is not listed there, and then it is new too
        snapshot_version = pins.snapshot + 1
        signed = {
            **_head("snapshot", now + shape.SNAPSHOT_LIFETIME),
            "version": snapshot_version,
            "meta": meta,
        }
        data = _signed(signed, [keys.timestamp])
        files[f"{snapshot_version}.snapshot.json"] = data
        listed = _meta(snapshot_version, data)
    else:
        snapshot_version = pins.snapshot
        listed = current.meta["snapshot"]
    version = pins.timestamp + 1
    data = _signed(
        {
            **_head("timestamp", now + shape.TIMESTAMP_LIFETIME),
            "version": version,
            "meta": {"snapshot.json": listed},
        },
        [keys.timestamp],
    )
    files["timestamp.json"] = data
    return Built(
        files, Pins(root_version, version, hashlib.sha256(data).hexdigest(), snapshot_version, versions)
    )


def is_refresh_due(current: ApprovedList, now: datetime) -> bool:
    """Three quarters of the timestamp's life are left for a server that is away or a token that is busy.

    Also when it ends later than it may: a clock that was ahead signed it, and it would be fresh for too long.
    """
    left = current.expiries.get("timestamp", now) - now
    return left < shape.TIMESTAMP_LIFETIME * 0.75 or left > shape.TIMESTAMP_LIFETIME + shape.CLOCKS_DIFFER


def _is_snapshot_due(current: ApprovedList, now: datetime) -> bool:
    left = current.expiries.get("snapshot", now) - now
    return left < shape.SNAPSHOT_LIFETIME / 2 or left > shape.SNAPSHOT_LIFETIME + shape.CLOCKS_DIFFER


def _is_due(current: ApprovedList, now: datetime) -> bool:
    return current.expiries.get("targets", now) - now < RENEW_LONG


def _is_root_due(current: ApprovedList, keys: ServerKeys, now: datetime) -> bool:
    return (
        keys.root.key_id not in current.root_keys
        or keys.timestamp.key_id not in current.timestamp_keys
        or current.expiries.get("root", now) - now < RENEW_LONG
    )


def _is_targets_due(
    current: ApprovedList, draft: Draft, withdrawn: frozenset[str], keys: ServerKeys, now: datetime
) -> bool:
    known = {key.key_id for key in current.keys.values()}
    return (
        _is_due(current, now)
        or keys.root.key_id not in current.root_keys
        or withdrawn != current.withdrawn
        or bool(set(draft.roles) - set(current.roles))
        or any(key.key_id not in known for key in draft.approvers)
        or bool(draft.revoked & known)
        or draft.environments not in (None, current.environments)
    )


def _needed_former(current: ApprovedList, keys: ServerKeys) -> list[Signer]:
    """A client that knows the former root follows to the next one only by the former's signature."""
    return [
        signer
        for signer in keys.former
        if signer.key_id in current.root_keys and signer.key_id != keys.root.key_id
    ]


def _head(kind: str, expires: datetime) -> dict[str, Any]:
    return {"_type": kind, "spec_version": shape.SPECIFICATION, "expires": shape.format_expiry(expires)}


def _root(version: int, keys: ServerKeys, now: datetime) -> dict[str, Any]:
    root = {"keyids": [keys.root.key_id], "threshold": 1}
    timestamp = {"keyids": [keys.timestamp.key_id], "threshold": 1}
    publics = [public_from_pem(signer.public_pem(), signer.label) for signer in (keys.root, keys.timestamp)]
    return {
        **_head("root", now + shape.ROOT_LIFETIME),
        "version": version,
        "consistent_snapshot": True,
        "keys": {key.key_id: _key(key) for key in publics},
        "roles": {"root": root, "targets": root, "snapshot": timestamp, "timestamp": timestamp},
    }


def _targets(expires: datetime, targets: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {**_head("targets", expires), "targets": dict(targets)}


def _role(role: RoleDraft) -> dict[str, Any]:
    return {**_targets(role.expires, role.targets), "x-places": dict(role.places)}


def _delegating(
    current: ApprovedList, draft: Draft, withdrawn: frozenset[str], keys: ServerKeys, now: datetime
) -> dict[str, Any]:
    """The top-level targets: no target of its own, but whose signatures each environment's file needs."""
    known = [key for key in current.keys.values() if is_label(key.label) and key.key_id not in draft.revoked]
    approvers = {key.label: key for key in (*known, *draft.approvers)}
    key_ids = sorted(key.key_id for key in approvers.values())
    environments = current.environments if draft.environments is None else draft.environments
    named = {*current.roles, *draft.roles}
    roles: list[dict[str, Any]] = []
    publics = list(approvers.values())
    if withdrawn:
        publics.append(public_from_pem(keys.root.public_pem(), keys.root.label))
        # First, and the end of the search: what the others say about these paths is not asked.
        roles.append(
            {
                "name": shape.WITHDRAWN,
                "keyids": [keys.root.key_id],
                "threshold": 1,
                "terminating": True,
                "paths": sorted(withdrawn),
            }
        )
    for environment in environments:
        roles.extend(
            {
                "name": name,
                "keyids": key_ids,
                "threshold": threshold,
                "terminating": False,
                "paths": [shape.pattern_of(environment)],
            }
            for threshold in sorted(shape.THRESHOLDS, reverse=True)
            if (name := shape.role_name(environment, threshold)) in named
        )
    return {
        **_targets(now + shape.ROOT_LIFETIME, {}),
        "delegations": {"keys": {key.key_id: _key(key) for key in publics}, "roles": roles},
        "x-environments": list(environments),
    }


def _key(key: PublicKey) -> dict[str, Any]:
    loaded = load_pem_public_key(key.pem)
    shown: dict[str, Any] = SSlibKey.from_crypto(loaded, keyid=key.key_id).to_dict()
    return {**shown, "x-label": key.label}


def _signed(signed: dict[str, Any], signers: Sequence[Signer]) -> bytes:
    payload = shape.payload_of(signed)
    signatures = [{"keyid": signer.key_id, "sig": signer.sign(payload).hex()} for signer in signers]
    return canonical_json({"signatures": signatures, "signed": signed})


def _meta(version: int, data: bytes) -> dict[str, Any]:
    return {"version": version, "length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
