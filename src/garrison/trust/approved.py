"""An entry of the approved-version list: signed, so that writing to the database approves nothing.

When the approvals of a version are complete, the release key signs one in-toto statement that binds
name, version, digest, the approvers and the version's place in the list of its name. The place only
counts up; the loader refuses a place below the one that serves, unless a rollback names it. An entry is
for one policy and for a time: a new deployment asks for both, what serves already goes on serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from garrison.core.digest import Ref, canonical_json, is_digest
from garrison.core.errors import GarrisonError, Refused
from garrison.core.event import format_time, parse_time
from garrison.trust import dsse, strict_json
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://garrison.dev/attestation/approval/v1"
PAYLOAD_TYPE = dsse.IN_TOTO
CLOCKS_DIFFER = timedelta(minutes=5)
MAX_BYTES = 64 * 1024  # a hundred approvers fit; an entry has two


@dataclass(frozen=True, slots=True)
class ApprovedEntry:
    """Version `ref` with `digest` stands at place `counter` of the approved list of its name."""

    ref: Ref
    digest: str
    counter: int
    approvers: tuple[str, ...]
    policy_version: str
    time: datetime
    expires: datetime

    def is_current(self, policy_version: str, now: datetime) -> bool:
        return self.policy_version == policy_version and now < self.expires

    def as_statement(self) -> dict[str, Any]:
        return {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": str(self.ref), "digest": {"sha256": self.digest.removeprefix("sha256:")}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "name": self.ref.name,
                "version": self.ref.version,
                "counter": self.counter,
                "approvers": list(self.approvers),
                "policyVersion": self.policy_version,
                "time": format_time(self.time),
                "expires": format_time(self.expires),
            },
        }


def check_current(entry: ApprovedEntry, policy_version: str, now: datetime) -> None:
    """Whether the entry still lets its version be deployed anew. Raises `Refused` APP-POLICY, APP-EXPIRED."""
    fix = f"have it approved again: garrison approve {entry.ref}"
    if entry.policy_version != policy_version:
        raise Refused(
            "APP-POLICY",
            f"{entry.ref} was approved under another policy than the one in force",
            fix=fix,
            evidence={
                "digest": entry.digest,
                "approved_under": entry.policy_version,
                "in_force": policy_version,
            },
        )
    if now < entry.time - CLOCKS_DIFFER:
        raise Refused(
            "APP-EXPIRED",
            f"the approval of {entry.ref} is dated {format_time(entry.time)}, which is later than now",
            fix=f"set the clock of this machine; when it is right: garrison approve {entry.ref}",
            evidence={"digest": entry.digest, "time": format_time(entry.time), "now": format_time(now)},
        )
    if now >= entry.expires:
        raise Refused(
            "APP-EXPIRED",
            f"the approval of {entry.ref} ended at {format_time(entry.expires)}",
            fix=fix,
            evidence={"digest": entry.digest, "expires": format_time(entry.expires)},
        )


def sign(entry: ApprovedEntry, signer: Signer) -> bytes:
    """The entry in a DSSE envelope, as canonical JSON bytes."""
    return canonical_json(dsse.sign(canonical_json(entry.as_statement()), PAYLOAD_TYPE, signer))


def verify(envelope: bytes, keys: Sequence[PublicKey]) -> ApprovedEntry:
    """Check the signature and parse strictly. Raises `Refused` APP-SIGNATURE for anything else."""
    try:
        payload, _key_id = dsse.open_envelope(envelope, keys, payload_type=PAYLOAD_TYPE)
        return _parse(strict_json.loads(payload, MAX_BYTES))
    except (ValueError, KeyError, TypeError, IndexError, GarrisonError) as error:
        raise Refused(
            "APP-SIGNATURE",
            "the entry in the approved list is not signed by a trusted release key",
            fix="approve the version again; if this repeats, run garrison audit verify",
        ) from error


def _parse(statement: dict[str, Any]) -> ApprovedEntry:
    strict_json.exactly(statement, "_type", "subject", "predicateType", "predicate")
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise ValueError("not an approval statement")
    fields = ("name", "version", "counter", "approvers", "policyVersion", "time", "expires")
    predicate = strict_json.exactly(statement["predicate"], *fields)
    (subject,) = statement["subject"]
    ref = Ref(str(predicate["name"]), int(predicate["version"]))
    digest = "sha256:" + str(subject["digest"]["sha256"])
    if subject["name"] != str(ref) or not is_digest(digest) or int(predicate["counter"]) < 1:
        raise ValueError("the approval statement contradicts itself")
    return ApprovedEntry(
        ref,
        digest,
        int(predicate["counter"]),
        tuple(str(name) for name in predicate["approvers"]),
        str(predicate["policyVersion"]),
        parse_time(str(predicate["time"])),
        parse_time(str(predicate["expires"])),
    )
