"""Is this the list that was approved, whole and not older than what was seen? The client's half of TUF.

Follows "Detailed client workflow" of the specification with python-tuf's metadata and signatures. Bytes in,
`ApprovedList` or a refusal with its own reason out: no clock, no network; how old a list may be is asked
of the result, because what serves already goes on serving when it is stale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from securesystemslib.exceptions import Error as SecureSystemsError
from securesystemslib.signer import Signature
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Refused
from garrison.core.event import format_time
from garrison.trust import strict_json
from garrison.trust.keys.public import PublicKey, public_from_pem
from garrison.trust.tuf import shape
from garrison.trust.tuf.pins import Pins

Read = Callable[[str, int], bytes]
"""A metadata file by name, at most so many bytes. Raises `Refused` TUF-MISSING or TUF-LENGTH."""

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

RESTORE = (
    "put the newest copy of the directory tuf back; without one: garrison approvals reset --reason TEXT, "
    "and approve again what may serve"
)
_MALFORMED = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    SecureSystemsError,
    DeserializationError,
)


@dataclass(frozen=True, slots=True)
class ApprovedList:
    """A verified list. `roles` are the signed parts of the environments' files, by role name."""

    pins: Pins
    fresh_until: datetime
    expiries: Mapping[str, datetime]
    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    root_keys: frozenset[str] = frozenset()
    timestamp_keys: frozenset[str] = frozenset()
    environments: tuple[str, ...] = ()
    roles: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    signers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    withdrawn: frozenset[str] = frozenset()
    meta: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def check_fresh(self, now: datetime) -> None:
        """Whether the list may still admit something new. Raises `Refused` TUF-EXPIRED."""
        if now < self.fresh_until:
            if self.fresh_until - now > shape.TIMESTAMP_LIFETIME + shape.CLOCKS_DIFFER:
                raise self._of_the_future(now)
            return
        raise Refused(
            "TUF-EXPIRED",
            f"the approved list was fresh until {format_time(self.fresh_until)} and was not refreshed since",
            fix="garrison audit verify; with ledger, token, disk and clock in order the server refreshes it by itself",
            evidence={"fresh_until": format_time(self.fresh_until), "version": self.pins.timestamp},
        )

    def _of_the_future(self, now: datetime) -> Refused:
        return Refused(
            "TUF-EXPIRED",
            f"the approved list is fresh until {format_time(self.fresh_until)}, and none is for so long: it was "
            f"signed by a clock that was ahead of this one, which says {format_time(now)}",
            fix="set the clock of this machine; with it in order the server refreshes the list by itself",
            evidence={"fresh_until": format_time(self.fresh_until), "version": self.pins.timestamp},
        )


def check(read: Read, anchors: Sequence[PublicKey], pins: Pins) -> ApprovedList:
    """Judge the metadata that `read` gives by the root keys and by what was seen last.

    Raises `Refused` TUF-MISSING, TUF-LENGTH, TUF-FORM, TUF-SIGNATURE, TUF-THRESHOLD, TUF-MIXED or
    TUF-ROLLBACK.
    """
    root = _root(read, anchors, pins)
    data = read("timestamp.json", shape.MAX_TIMESTAMP)
    timestamp = _signed(Timestamp, "timestamp", data, root.signed)
    digest = hashlib.sha256(data).hexdigest()
    _not_older("timestamp", timestamp.signed.version, pins.timestamp)
    if timestamp.signed.version == pins.timestamp and pins.timestamp_sha256 not in ("", digest):
        raise _mixed("timestamp.json", "it is another file under the number of the one that was seen")
    meta = timestamp.signed.snapshot_meta
    _not_older("snapshot", meta.version, pins.snapshot)
    data = _read_listed(read, "snapshot", meta, shape.MAX_SNAPSHOT)
    snapshot = _signed(Snapshot, "snapshot", data, root.signed)
    _same_version("snapshot", snapshot.signed.version, meta.version)
    for name, version in pins.files.items():
        listed = snapshot.signed.meta.get(f"{name}.json")
        if listed is None:
            raise _rolled_back(name, 0, version)
        _not_older(name, listed.version, version)
    targets = _targets(read, root.signed, snapshot.signed)
    keys = _keys(targets.signed)
    roles, signers = _roles(read, targets.signed, snapshot.signed)
    delegated = targets.signed.delegations
    withdrawn: list[str] = []
    if delegated is not None and delegated.roles is not None and shape.WITHDRAWN in delegated.roles:
        withdrawn = delegated.roles[shape.WITHDRAWN].paths or []
    return ApprovedList(
        pins=Pins(
            root.signed.version,
            timestamp.signed.version,
            digest,
            snapshot.signed.version,
            {name.removesuffix(".json"): file.version for name, file in snapshot.signed.meta.items()},
        ),
        fresh_until=min(timestamp.signed.expires, snapshot.signed.expires),
        expiries={
            "root": root.signed.expires,
            "timestamp": timestamp.signed.expires,
            "snapshot": snapshot.signed.expires,
            "targets": targets.signed.expires,
        },
        keys=keys,
        root_keys=frozenset(root.signed.roles["root"].keyids),
        timestamp_keys=frozenset(root.signed.roles["timestamp"].keyids),
        environments=tuple(_text_list(targets.signed.unrecognized_fields.get("x-environments"))),
        roles=roles,
        signers=signers,
        withdrawn=frozenset(withdrawn),
        meta={
            "snapshot": timestamp.signed.snapshot_meta.to_dict(),
            **{name: file.to_dict() for name, file in snapshot.signed.meta.items()},
        },
    )


def _root(read: Read, anchors: Sequence[PublicKey], pins: Pins) -> Metadata[Root]:
    """The root file, which one of our own root keys must have signed: that key is the anchor, not the file."""
    data = read("root.json", shape.MAX_ROOT)
    root = _parsed(Root, "root", data)
    known = {key.key_id: key for key in anchors}
    payload = root.signed_bytes
    if not any(
        key_id in known and known[key_id].verify(payload, bytes.fromhex(signature.signature))
        for key_id, signature in root.signatures.items()
    ):
        raise _unsigned("root", "none of its signatures is of the root key in the token")
    _verify("root", root, root.signed)
    _not_older("root", root.signed.version, pins.root)
    return root


def _targets(read: Read, root: Root, snapshot: Snapshot) -> Metadata[Targets]:
    meta = snapshot.meta.get("targets.json")
    if meta is None:
        raise _mixed("snapshot.json", "it does not list targets.json")
    data = _read_listed(read, "targets", meta, shape.MAX_TARGETS)
    targets = _signed(Targets, "targets", data, root)
    _same_version("targets", targets.signed.version, meta.version)
    return targets


def _roles(
    read: Read, targets: Targets, snapshot: Snapshot
) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[str, ...]]]:
    delegations = targets.delegations
    found: dict[str, dict[str, Any]] = {}
    signers: dict[str, tuple[str, ...]] = {}
    if delegations is None or delegations.roles is None:
        return found, signers
    for name, role in delegations.roles.items():
        meta = snapshot.meta.get(f"{name}.json")
        if meta is None:
            raise _mixed("snapshot.json", f"it does not list {name}.json")
        data = _read_listed(read, name, meta, shape.MAX_TARGETS)
        signed, signatures = _raw(name, data)
        valid = targets.get_verification_result(name, shape.payload_of(signed), signatures)
        if not valid.verified:
            strangers = [key[:16] + "…" for key in signatures if key not in role.keyids]
            raise Refused(
                "TUF-THRESHOLD",
                f"{name} needs the signatures of {role.threshold} approvers and has {len(valid.signed)} that hold"
                + (f"; not an approver's key: {', '.join(strangers[:5])}" if strangers else ""),
                fix=RESTORE,
                evidence={"role": name, "needed": role.threshold, "valid": len(valid.signed)},
            )
        if signed.get("_type") != "targets" or signed.get("version") != meta.version:
            raise _mixed(f"{name}.json", "it is not the version that the snapshot lists")
        if not isinstance(signed.get("targets"), dict):
            raise _malformed(name)
        signers[name] = tuple(valid.signed)
        if name != shape.WITHDRAWN:
            found[name] = signed
    return found, signers


def _raw(name: str, data: bytes) -> tuple[dict[str, Any], dict[str, Signature]]:
    """A large file without python-tuf's objects: 10,000 of them take longer than everything else."""
    try:
        document = strict_json.exactly(strict_json.loads(data, shape.MAX_TARGETS), "signatures", "signed")
        if canonical_json(document) != data:
            raise ValueError("not canonical")
        signatures: dict[str, Signature] = {}
        for each in document["signatures"]:
            strict_json.exactly(each, "keyid", "sig")
            if each["keyid"] in signatures:
                raise Refused(
                    "TUF-THRESHOLD",
                    f"one key signed {name} twice; it counts as one approver",
                    fix=RESTORE,
                    evidence={"role": name, "key_id": str(each["keyid"])[:64]},
                )
            signatures[each["keyid"]] = Signature(each["keyid"], _hexadecimal(each["sig"]))
        signed = document["signed"]
        if not isinstance(signed, dict):
            raise TypeError
    except _MALFORMED as error:
        raise _malformed(name) from error
    return signed, signatures


def _keys(targets: Targets) -> dict[str, PublicKey]:
    """The approvers' keys by label. Two names for one key would let one approver count twice."""
    if targets.delegations is None:
        return {}
    found: dict[str, PublicKey] = {}
    for key_id, key in targets.delegations.keys.items():
        try:
            label = strict_json.text(key.unrecognized_fields.get("x-label"), 64)
            public = public_from_pem(str(key.keyval["public"]).encode(), label)
        except (ValueError, KeyError, GarrisonError) as error:
            raise _malformed("targets") from error
        if public.key_id != key_id or label in found:
            raise Refused(
                "TUF-THRESHOLD",
                "one key stands under two names in the approved list, so one person would count as two",
                fix=RESTORE,
                evidence={"key_id": key_id[:64]},
            )
        found[label] = public
    return found


def _signed(kind: type[T], role: str, data: bytes, root: Root) -> Metadata[T]:
    metadata = _parsed(kind, role, data)
    _verify(role, metadata, root)
    return metadata


def _parsed(kind: type[T], role: str, data: bytes) -> Metadata[T]:
    try:
        document = strict_json.loads(data, shape.MAX_TARGETS)
        if canonical_json(document) != data:
            raise ValueError("not canonical")
        for signature in document["signatures"]:
            _hexadecimal(signature["sig"])
        metadata: Metadata[T] = Metadata.from_bytes(data)
        if not isinstance(metadata.signed, kind):
            raise TypeError
    except (*_MALFORMED, RepositoryError) as error:
        raise _malformed(role) from error
    return metadata


def _verify(role: str, metadata: Metadata[Any], root: Root) -> None:
    try:
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (UnsignedMetadataError, ValueError) as error:
        raise _unsigned(role, "it is not signed by the key that the root names for it") from error


def _hexadecimal(text: Any) -> str:
    """Lower case alone, so that one signature has one spelling. Raises ValueError or TypeError."""
    if bytes.fromhex(text).hex() != text:
        raise ValueError("not lower-case hexadecimal")
    return str(text)


def _read_listed(read: Read, name: str, meta: MetaFile, limit: int) -> bytes:
    data = read(f"{meta.version}.{name}.json", min(limit, meta.length or limit))
    if meta.hashes is None or meta.hashes.get("sha256") != hashlib.sha256(data).hexdigest():
        raise _mixed(f"{meta.version}.{name}.json", "its bytes are not those that the signed list names")
    return data


def _same_version(name: str, found: int, listed: int) -> None:
    if found != listed:
        raise _mixed(f"{name}.json", f"it is version {found}, and version {listed} is listed")


def _not_older(name: str, found: int, seen: int) -> None:
    if found < seen:
        raise _rolled_back(name, found, seen)


def _text_list(value: Any) -> list[str]:
    return [shape.check_environment(str(item)) for item in value] if isinstance(value, list) else []


def _rolled_back(name: str, found: int, seen: int) -> Refused:
    return Refused(
        "TUF-ROLLBACK",
        f"the approved list was put back: {name} is version {found}, and version {seen} was in force",
        fix=RESTORE,
        evidence={"file": name, "found": found, "seen": seen},
    )


def _mixed(name: str, why: str) -> Refused:
    return Refused(
        "TUF-MIXED",
        f"the files of the approved list do not belong together: {name}: {why}",
        fix=RESTORE,
        evidence={"file": name},
    )


def _unsigned(role: str, why: str) -> Refused:
    return Refused(
        "TUF-SIGNATURE", f"{role}.json of the approved list: {why}", fix=RESTORE, evidence={"file": role}
    )


def _malformed(role: str) -> Refused:
    return Refused(
        "TUF-FORM",
        f"{role}.json of the approved list is not metadata as Garrison writes it",
        fix=RESTORE,
        evidence={"file": role},
    )
