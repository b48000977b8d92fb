"""A version as an OCI artifact, in the media types of the CNCF ModelPack specification, one layer a file.

A file's layer is the file: its digest is the one in the signed manifest. The release statement and the
bundle that other tools verify go beside it as referrers, so that whoever pulls can check both.
"""

from __future__ import annotations

import contextlib
import io
import json
import posixpath
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from garrison.artifacts.oci import signature
from garrison.artifacts.oci.client import Registry, fallback_tag
from garrison.artifacts.oci.descriptor import (
    INDEX,
    MANIFEST,
    Descriptor,
    Manifest,
    describe,
    malformed,
    parse_index,
    parse_manifest,
)
from garrison.artifacts.oci.signature import Referrer
from garrison.artifacts.store import Release
from garrison.core.digest import FileEntry, Ref, canonical_json
from garrison.core.digest import Manifest as Files
from garrison.core.errors import Refused, Undecided, Usage
from garrison.core.event import format_time
from garrison.storage.local import full_disk_explained, remove_tree, write_atomically
from garrison.trust.keys.public import PublicKey
from garrison.trust.paths import check_paths
from garrison.trust.tree import read_tree
from garrison.trust.verify import Verified, verify_release

ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
PATH = "org.cncf.model.filepath"
MODE = "dev.garrison.mode"
RELEASE = "application/vnd.garrison.release.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_SIDECAR = 32 * 1024 * 1024

_KINDS = {
    **dict.fromkeys((".json", ".txt", ".model", ".yaml", ".yml", ".toml"), "weight.config"),
    **dict.fromkeys((".md", ".rst", ".pdf"), "doc"),
    **dict.fromkeys((".py", ".sh", ".ipynb"), "code"),
}


@dataclass(frozen=True, slots=True)
class Pushed:
    """What lies in the registry now. `sent` are bytes that were not there already."""

    digest: str
    sent: int
    referrers: tuple[str, ...]
    has_api: bool


def layer_of(path: str, digest: str, size: int, mode: int) -> Descriptor:
    kind = _KINDS.get(posixpath.splitext(path)[1].lower(), "weight")
    notes = {PATH: path, "org.opencontainers.image.title": path, MODE: f"{mode:04o}"}
    return Descriptor(f"application/vnd.cncf.model.{kind}.v1.raw", digest, size, notes)


def manifest_of(release: Release) -> tuple[bytes, bytes]:
    """The manifest and the configuration of a version; the same version gives the same bytes."""
    config = canonical_json(
        {
            "descriptor": {
                "name": release.ref.name,
                "version": str(release.ref.version),
                "createdAt": format_time(release.created),
            },
            "modelfs": {"type": "layers", "diffIds": [entry.digest for entry in release.manifest]},
            "config": {},
        }
    )
    layers = [layer_of(e.path, e.digest, e.size, e.mode).as_json() for e in release.manifest]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": describe(CONFIG, config).as_json(),
        "layers": layers,
        "annotations": {
            "org.opencontainers.image.title": release.ref.name,
            "org.opencontainers.image.version": str(release.ref.version),
            "dev.garrison.release": str(release.ref),
            "dev.garrison.digest": release.digest,
        },
    }
    return canonical_json(manifest), config


def digest_of(release: Release) -> str:
    """The digest that the version's manifest has in every registry."""
    return describe(MANIFEST, manifest_of(release)[0]).digest


def push(
    registry: Registry,
    release: Release,
    open_file: Callable[[str], BinaryIO],
    tag: str,
    progress: Callable[[str], None],
) -> Pushed:
    """Blobs, then the manifest, then what refers to it, the tag last: nobody finds half a version.

    Raises `Refused` or `Undecided` IMG-REGISTRY.
    """
    manifest, config = manifest_of(release)
    sent = 0
    for entry in release.manifest:
        progress(f"pushing {entry.path}")
        is_new = registry.push_blob(entry.digest, entry.size, partial(open_file, entry.digest))
        sent += entry.size if is_new else 0
    described = describe(CONFIG, config)
    registry.push_blob(described.digest, len(config), lambda: io.BytesIO(config))
    subject = describe(MANIFEST, manifest)
    registry.push_manifest(manifest, MANIFEST, subject.digest)
    made = [
        signature.referrer(subject, RELEASE, signature.ENVELOPE, release.statement),
        signature.referrer(subject, BUNDLE, BUNDLE, release.bundle),
    ]
    has_api = _push_referrers(registry, subject, made)
    if tag:
        registry.push_manifest(manifest, MANIFEST, tag)
    return Pushed(subject.digest, sent, tuple(one.descriptor.digest for one in made), has_api)


def pull(
    registry: Registry, destination: Path, keys: Sequence[PublicKey], expect: Ref | None = None
) -> tuple[Verified, str]:
    """A verified copy with its signatures beside it, all or nothing; returns the proof and the digest.

    Raises what verification refuses, `Refused` IMG-TAMPER, IMG-UNSIGNED, `Usage` PULL-EXISTS, PULL-PATH.
    """
    digest, manifest = resolve(registry)
    sidecars = _sidecars(registry, digest)
    beside = {
        destination.with_name(destination.name + ".sig"): sidecars[BUNDLE],
        destination.with_name(destination.name + ".release.json"): sidecars[RELEASE],
    }
    for path in (destination, *beside):
        if path.exists():
            raise Usage(
                "PULL-EXISTS", f"{path} exists already", fix="name a directory that does not exist yet"
            )
    draft = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}")
    try:
        verify_release(  # what is promised, before a byte of it is fetched
            manifest=_promised(registry, manifest),
            bundle=sidecars[BUNDLE],
            statement=sidecars[RELEASE],
            keys=keys,
            expect=expect,
        )
        with _explained(destination):
            _fetch(registry, manifest, draft)
        verified = verify_release(
            manifest=read_tree(draft),
            bundle=sidecars[BUNDLE],
            statement=sidecars[RELEASE],
            keys=keys,
            expect=expect,
        )
        for path, data in beside.items():
            write_atomically(path, data, mode=0o644)
        draft.rename(destination)
    except BaseException:
        remove_tree(draft)
        if not destination.exists():
            for path in beside:
                path.unlink(missing_ok=True)
        raise
    return verified, digest


def resolve(registry: Registry) -> tuple[str, Manifest]:
    """The model's manifest under the address' digest or tag. Raises `Refused` IMG-REGISTRY, IMG-FORMAT."""
    reference = registry.address.digest or registry.address.tag or "latest"
    found = registry.manifest(reference)
    if found is None:
        raise Refused(
            "IMG-REGISTRY",
            f"there is no {reference} in {registry.address}",
            fix="check the repository and the tag or digest",
        )
    data, descriptor = found
    manifest = parse_manifest(data, MANIFEST, descriptor.digest)
    if manifest.artifact_type != ARTIFACT and manifest.config.media_type != CONFIG:
        raise malformed(str(registry.address), "it is not a model")
    return descriptor.digest, manifest


def _promised(registry: Registry, manifest: Manifest) -> Files:
    """The files that the layers are said to be; names that lead elsewhere are refused."""
    paths = [layer.annotations.get(PATH, "") for layer in manifest.layers]
    if len(set(paths)) != len(paths) or not all(paths):
        raise malformed(str(registry.address), "two layers are one file, or one has no path")
    check_paths(paths)
    return Files.of(
        FileEntry(path, layer.size, _mode(layer), layer.digest)
        for path, layer in zip(paths, manifest.layers, strict=True)
    )


def _mode(layer: Descriptor) -> int:
    return 0o755 if layer.annotations.get(MODE) == "0755" else 0o644


def _fetch(registry: Registry, manifest: Manifest, draft: Path) -> None:
    for layer in manifest.layers:
        target = draft / layer.annotations[PATH]
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            registry.fetch_blob(layer, file)
        target.chmod(_mode(layer))


def _sidecars(registry: Registry, digest: str) -> dict[str, bytes]:
    """Statement and bundle from the referrers. Raises `Refused` IMG-UNSIGNED when one is missing."""
    data = registry.referrers(digest)
    rows = parse_index(data, f"the referrers of {digest}") if data is not None else ()
    found: dict[str, bytes] = {}
    for row in rows:
        kind = row.artifact_type
        if kind not in (RELEASE, BUNDLE) or kind in found:
            continue
        fetched = registry.manifest(row.digest)
        if fetched is None:
            continue
        manifest = parse_manifest(fetched[0], MANIFEST, row.digest)
        is_about = manifest.subject is not None and manifest.subject.digest == digest
        if not is_about or len(manifest.layers) != 1 or manifest.layers[0].size > MAX_SIDECAR:
            raise malformed(row.digest, f"it is not a signature of {digest}")
        target = io.BytesIO()
        registry.fetch_blob(manifest.layers[0], target)
        found[kind] = target.getvalue()
    if set(found) != {RELEASE, BUNDLE}:
        raise Refused(
            "IMG-UNSIGNED",
            f"{registry.address} has no {'release statement' if RELEASE not in found else 'bundle'} beside it",
            evidence={"digest": digest, "referrers": len(rows)},
            fix="push it with garrison model push NAME@VERSION, which pushes its signatures too",
        )
    return found


def _push_referrers(registry: Registry, subject: Descriptor, made: Sequence[Referrer]) -> bool:
    """Each artifact; where the registry does not list referrers itself, the tag that stands in for it."""
    for one in made:
        for digest, data in one.blobs.items():
            registry.push_blob(digest, len(data), partial(io.BytesIO, data))
        registry.push_manifest(one.manifest, MANIFEST, one.descriptor.digest)
    if registry.has_referrers_api(subject.digest):
        return True
    tag = fallback_tag(subject.digest)
    known = registry.manifest(tag)
    rows = [one.as_json() for one in parse_index(known[0], tag)] if known is not None else []
    ours = {one.descriptor.digest for one in made}
    rows = [row for row in rows if row["digest"] not in ours] + [one.descriptor.as_json() for one in made]
    index: dict[str, Any] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}
    registry.push_manifest(json.dumps(index, separators=(",", ":")).encode(), INDEX, tag)
    return False


@contextlib.contextmanager
def _explained(destination: Path) -> Any:
    try:
        with full_disk_explained():
            yield
    except Undecided:
        raise
    except OSError as error:
        raise Usage(
            "PULL-PATH",
            f"cannot write {destination}: {error.strerror}",
            fix="name a new directory in a place that the user who runs the server may write to",
        ) from error
