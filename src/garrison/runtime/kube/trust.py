"""May a launcher in a pod load that version? By the keys and the approved list that lie beside it, and nothing else.

The directory is the ConfigMap that `garrison k8s render` wrote. How old the list is was asked at admission: a
pod that is started again has to come up while the registry is away. What was admitted is one digest, and the
launcher loads no other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from garrison.core.digest import Manifest, Ref, short
from garrison.core.errors import Refused, Undecided
from garrison.trust import approvals, keyring
from garrison.trust import statement as statements
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keys.public import PublicKey
from garrison.trust.statement import ReleaseStatement
from garrison.trust.tuf import entries
from garrison.trust.tuf.check import check
from garrison.trust.tuf.pins import Pins
from garrison.trust.verify import Verified, verify_release

KEYS, ENVIRONMENT, LIST = "trust.json", "environment", "tuf."
MAX_KEYS = 1 << 20  # of a ConfigMap


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signature counts in this pod, and what is approved."""

    directory: Path
    root: PublicKey
    keys: tuple[PublicKey, ...]
    environment: str

    @classmethod
    def open(cls, directory: Path) -> Trust:
        """Raises `Undecided` K8S-TRUST, `Refused` KEY-KEYRING."""
        root, ring = keyring.trusted_root(_read(directory, KEYS, MAX_KEYS))
        environment = _read(directory, ENVIRONMENT, 256).decode("utf-8", "replace").strip()
        return cls(directory, root, tuple(ring.of_role(keyring.RELEASE)), environment)

    def verify(self, found: Manifest, statement: bytes, bundle: bytes, expect: Ref, digest: str) -> Verified:
        """The proof that a loader takes. Raises as `verify_release`, `Refused` TUF-*, APP-COUNT and K8S-DIGEST."""
        stated, _key = statements.open_statement(statement, self.keys)
        if stated.manifest.digest != digest:
            raise Refused(
                "K8S-DIGEST",
                f"{stated.ref} is {short(stated.manifest.digest)}, and {short(digest)} was admitted",
                fix=f"render it again: garrison k8s render {expect}",
                evidence={"admitted": digest, "found": stated.manifest.digest},
            )
        return verify_release(
            manifest=found,
            bundle=bundle,
            statement=statement,
            keys=self.keys,
            expect=expect,
            approved=self._entry(stated, statement),
        )

    def _entry(self, stated: ReleaseStatement, statement: bytes) -> ApprovedEntry | None:
        known = check(lambda name, limit: _read(self.directory, LIST + name, limit), [self.root], Pins())
        found = entries.find(known, self.environment, stated.ref)
        if found is None or found.statement != hashlib.sha256(statement).hexdigest():
            return None
        if found.threshold < approvals.required(stated.tier):
            raise Refused(
                "APP-COUNT",
                f"{stated.ref} needs {approvals.required(stated.tier)} approvers (tier: {stated.tier.value})",
                fix=f"another person approves it: garrison approve {stated.ref}",
                evidence={"digest": stated.manifest.digest},
            )
        return found.entry


def _read(directory: Path, name: str, limit: int) -> bytes:
    try:
        with (directory / name).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Undecided(
            "K8S-TRUST",
            f"{directory / name} cannot be read: {error.strerror}",
            fix="render it again: garrison k8s render NAME@VERSION, and mount its ConfigMap at /trust",
        ) from error
    if len(data) > limit:
        raise Undecided(
            "K8S-TRUST", f"{directory / name} is too long", fix="render it again: garrison k8s render"
        )
    return data
