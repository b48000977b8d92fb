"""Releases for tests: a directory of files, signed as the product signs, with the key in memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from garrison.core.decision import Tier
from garrison.core.digest import Manifest, Ref, sha256_bytes
from garrison.trust import oms
from garrison.trust import statement as statements
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey, public_from_pem
from garrison.trust.statement import ReleaseStatement
from garrison.trust.tree import read_tree

CREATED = datetime(2026, 11, 22, 14, 3, tzinfo=UTC)

FILES = {
    "config.json": b'{"hidden_size": 384}',
    "model-00001-of-00002.safetensors": bytes(range(256)) * 16,
    "model-00002-of-00002.safetensors": b"\x00" * 3000,
    "onnx/model.onnx": b"graph",
    "onnx.md": b"# sorts before onnx/ as text, after it by components",
    ".hidden": b"dot",
    ".gitignore": b"*.tmp",
    ".git/HEAD": b"ref: refs/heads/main",
    "empty.bin": b"",
    "weights:0:10": b"looks like a shard",
    "tokenizer/größe.txt": b"unicode",
}


@dataclass(frozen=True, slots=True)
class SignedDirectory:
    """A directory and the two signatures over it."""

    path: Path
    ref: Ref
    manifest: Manifest
    statement: ReleaseStatement
    bundle: bytes
    envelope: bytes

    def write_sidecars(self) -> None:
        self.path.with_name(self.path.name + ".sig").write_bytes(self.bundle)
        self.path.with_name(self.path.name + ".release.json").write_bytes(self.envelope)


def write_files(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path


def statement_of(manifest: Manifest, ref: Ref, source: str = "/models/fraud") -> ReleaseStatement:
    return ReleaseStatement(
        ref=ref,
        manifest=manifest,
        tier=Tier.INTERNAL,
        owner="ml-team",
        publisher="dana",
        created=CREATED,
        verdict="clean",
        scanner="2026.11",
        report=sha256_bytes(b"{}"),
        source=source,
    )


def sign_directory(path: Path, name: str, signer: FileSigner) -> SignedDirectory:
    """Sign what lies at `path` as `name` (NAME@VERSION)."""
    ref, manifest = Ref.parse(name), read_tree(path)
    statement = statement_of(manifest, ref, str(path))
    return SignedDirectory(
        path,
        ref,
        manifest,
        statement,
        oms.bundle(manifest, str(ref), signer),
        statements.sign(statement, signer),
    )


def public_of(signer: FileSigner) -> PublicKey:
    return public_from_pem(signer.public_pem(), signer.label)
