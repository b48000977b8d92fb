"""What the runtime's tests share: signed releases, a supervisor that records, and the reasons to skip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from garrison.core.decision import Tier
from garrison.core.digest import Manifest, Ref
from garrison.core.event import Event
from garrison.runtime.sandboxes.ladder import availability
from garrison.runtime.supervisor import ServeSpec, Supervisor
from garrison.trust import oms
from garrison.trust import statement as statements
from garrison.trust.approved import ApprovedEntry
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import public_from_pem
from garrison.trust.statement import ReleaseStatement
from garrison.trust.tree import read_tree
from garrison.trust.verify import NOT_JUDGED, Verified, verify_release

WHEN = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass(slots=True)
class SignedModel:
    """A directory as it was signed, and the check that judges any manifest against that."""

    ref: Ref
    directory: Path
    manifest: Manifest
    bundle: bytes
    statement: bytes
    signer: FileSigner
    judged: list[Manifest] = field(default_factory=list)
    is_approved: bool = True

    def verify(self, manifest: Manifest) -> Verified:
        self.judged.append(manifest)
        key = public_from_pem(self.signer.public_pem(), "release")
        return verify_release(
            manifest=manifest,
            bundle=self.bundle,
            statement=self.statement,
            keys=[key],
            expect=self.ref,
            approved=self.approval if self.is_approved else NOT_JUDGED,
        )

    @property
    def approval(self) -> ApprovedEntry:
        digest = self.manifest.digest
        return ApprovedEntry(self.ref, digest, 1, ("dana",), "sha256:" + "0" * 64, WHEN, WHEN)


def sign_model(directory: Path, name: str = "smol", version: int = 1) -> SignedModel:
    signer = FileSigner("release")
    ref = Ref(name, version)
    manifest = read_tree(directory, allow_hard_links=True)
    stated = ReleaseStatement(
        ref,
        manifest,
        Tier.INTERNAL,
        "team",
        "dana",
        WHEN,
        "clean",
        "rules 1",
        "sha256:" + "0" * 64,
        str(directory),
    )
    bundle = oms.bundle(manifest, str(ref), signer)
    return SignedModel(ref, directory, manifest, bundle, statements.sign(stated, signer), signer)


def need(level: str) -> str:
    found = next(entry for entry in availability() if entry.level == level)
    if not found.ok:
        pytest.skip(f"isolation {level} cannot be had here: {'; '.join(found.missing)}")
    return level


@dataclass(slots=True)
class Served:
    """A supervisor, what it recorded, and how to make a spec for it."""

    supervisor: Supervisor
    events: list[Event]
    run_directory: Path

    def spec(self, model: SignedModel, isolation: str) -> ServeSpec:
        return ServeSpec(
            ref=model.ref,
            tier=Tier.INTERNAL,
            directory=model.directory,
            verify=model.verify,
            run_directory=self.run_directory,
            isolation=isolation,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the servers' states say so, at most a minute."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.01)
