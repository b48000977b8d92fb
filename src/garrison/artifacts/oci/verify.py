"""An image is what its digests say: every document parsed, every blob hashed as it is read, nothing left out.

    index.json -> index or manifest -> configuration and layers -> what refers to it (signatures)

A pin is the digest of a manifest or index. What agrees only with itself proves nothing: without a pin and
without a signature the answer is "could not tell".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.artifacts.oci import layout as layouts
from garrison.artifacts.oci import signature
from garrison.artifacts.oci.descriptor import (
    INDEXES,
    MANIFESTS,
    MAX_DEPTH,
    Descriptor,
    Manifest,
    is_digest,
    malformed,
    parse_index,
    parse_manifest,
)
from garrison.artifacts.oci.layout import INDEX_FILE, LAYOUT_FILE, Layout
from garrison.core.errors import Refused, Undecided, Usage
from garrison.trust.keys.public import PublicKey

CHUNK = 1 << 20
MAX_BLOBS = 100_000  # of one layout
TAG = "org.opencontainers.image.ref.name"

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Reference:
    """`oci:PATH[@sha256:…]` or `oci:PATH:TAG`; a plain path is read the same."""

    path: Path
    digest: str = ""
    tag: str = ""


@dataclass(slots=True)
class Found:
    """What the walk came by. `problems` are blobs that are not what they are called."""

    manifests: dict[str, tuple[Descriptor, Manifest]] = field(default_factory=dict)
    blobs: dict[str, Descriptor] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)
    roots: tuple[Descriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """A layout whose every byte was hashed. `signed_by` are ids of trusted keys; `pinned` the digest asked for."""

    pinned: str
    roots: tuple[Descriptor, ...]
    manifests: dict[str, tuple[Descriptor, Manifest]]
    blobs: int
    bytes: int
    signed_by: tuple[str, ...]
    unreferenced: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": "garrison.image/1",
            "pinned": self.pinned or None,
            "roots": [{**root.as_json(), "tag": root.annotations.get(TAG, "")} for root in self.roots],
            "manifests": [
                {
                    "digest": digest,
                    "type": descriptor.media_type,
                    "kind": manifest.kind,
                    "config": manifest.config.digest,
                    "layers": [layer.as_json() for layer in manifest.layers],
                    "subject": manifest.subject.digest if manifest.subject else None,
                }
                for digest, (descriptor, manifest) in self.manifests.items()
            ],
            "blobs": self.blobs,
            "bytes": self.bytes,
            "signed_by": list(self.signed_by),
            "unreferenced": list(self.unreferenced),
        }


def parse_reference(text: str) -> Reference:
    """Raises `Usage` IMG-PATH."""
    rest = text.removeprefix("oci:")
    path, at, digest = rest.partition("@")
    if at and not is_digest(digest):
        raise Usage(
            "IMG-PATH",
            f"{digest[:80]!a} is not a sha256 digest",
            fix="pin with all of it: oci:DIR@sha256:<64 hex>",
        )
    tag = ""
    if not at and ":" in path and not Path(path).exists():
        path, _, tag = path.rpartition(":")
    if not path:
        raise Usage("IMG-PATH", "no layout was named", fix="name one: oci:DIR@sha256:<64 hex>")
    return Reference(Path(path), digest, tag)


def verify(reference: Reference, keys: Sequence[PublicKey], progress: Progress = lambda _n: None) -> Image:
    """Hash everything below the pin (or below every root) and check what is signed.

    Raises `Refused` IMG-TAMPER, IMG-MISSING, IMG-FORMAT, IMG-FOREIGN, IMG-PIN, SIG-* and KEY-*; never
    returns an image of which a blob was not read.
    """
    with layouts.opened(reference.path) as layout:
        present = layout.blobs()
        if len(present) > MAX_BLOBS:
            raise malformed(str(reference.path), f"it has more than {MAX_BLOBS} blobs")
        _check_layout_file(layout)
        every = parse_index(layouts.read(layout, INDEX_FILE, INDEX_FILE), INDEX_FILE)
        roots = _wanted(layout, reference, every)
        found = Found(roots=roots)
        for root in roots:
            _walk(layout, root, found, 0)
        _walk_referrers(layout, every, found)
        _hash_blobs(layout, found, progress)
        if found.problems:
            raise _tampered(found.problems)
        signed_by = _signatures(layout, found, keys)
    known = {*found.blobs, *found.manifests}
    return Image(
        pinned=reference.digest,
        roots=roots,
        manifests=found.manifests,
        blobs=len(found.blobs) + len(found.manifests),
        bytes=sum(one.size for one in found.blobs.values())
        + sum(one.size for one, _ in found.manifests.values()),
        signed_by=signed_by,
        unreferenced=tuple(sorted(present - known)) if not reference.digest and not reference.tag else (),
    )


def vouched(image: Image) -> Image:
    """The image, when something outside it says that it is the right one. Raises `Undecided` IMG-UNSIGNED."""
    if image.pinned or image.signed_by:
        return image
    raise Undecided(
        "IMG-UNSIGNED",
        "every digest in the layout fits, and nothing says that these are the right ones: no pin was given "
        "and no trusted key signed it",
        fix=f"give the digest that was deployed: oci:DIR@{image.roots[0].digest if image.roots else 'sha256:…'}, "
        "or sign it: garrison image sign oci:DIR",
        evidence={"roots": [root.digest for root in image.roots]},
    )


def _check_layout_file(layout: Layout) -> None:
    value = layouts.read(layout, LAYOUT_FILE, LAYOUT_FILE)
    if b'"imageLayoutVersion"' not in value or b'"1.0.0"' not in value:
        raise malformed(LAYOUT_FILE, "its imageLayoutVersion is not 1.0.0")


def _wanted(layout: Layout, reference: Reference, every: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    """The roots that are asked for. A pin may be below an index that the layout lists."""
    if reference.tag:
        tagged = tuple(one for one in every if one.annotations.get(TAG) == reference.tag)
        if len(tagged) != 1:
            raise Refused(
                "IMG-PIN",
                f"{len(tagged)} images of the layout have the tag {reference.tag}",
                fix="pin the digest instead; garrison image inspect oci:DIR lists them",
            )
        return tagged
    if not reference.digest:
        return tuple(one for one in every if not signature.is_ours(one.artifact_type))
    direct = next((one for one in every if one.digest == reference.digest), None)
    below = direct or _below(layout, every, reference.digest, 0)
    if below is None:
        raise Refused(
            "IMG-PIN",
            f"the layout does not hold {reference.digest}",
            evidence={"pinned": reference.digest, "found": [one.digest for one in every][:20]},
            fix="get the image that was pinned; another one lies here now",
        )
    return (below,)


def _below(layout: Layout, every: Sequence[Descriptor], digest: str, depth: int) -> Descriptor | None:
    for one in every:
        if one.digest == digest:
            return one
        if one.media_type in INDEXES and depth < MAX_DEPTH:
            inner = parse_index(_document(layout, one), one.digest)
            if (found := _below(layout, inner, digest, depth + 1)) is not None:
                return found
    return None


def _walk(layout: Layout, descriptor: Descriptor, found: Found, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise malformed(descriptor.digest, f"indexes are nested deeper than {MAX_DEPTH}")
    if descriptor.digest in found.manifests or descriptor.digest in found.blobs:
        return
    if len(found.blobs) + len(found.manifests) > MAX_BLOBS:
        raise malformed(descriptor.digest, f"the image has more than {MAX_BLOBS} parts")
    if descriptor.media_type in INDEXES:
        data = _document(layout, descriptor)
        found.blobs[descriptor.digest] = descriptor
        for inner in parse_index(data, descriptor.digest):
            _walk(layout, inner, found, depth + 1)
    elif descriptor.media_type in MANIFESTS:
        manifest = parse_manifest(_document(layout, descriptor), descriptor.media_type, descriptor.digest)
        found.manifests[descriptor.digest] = (descriptor, manifest)
        for part in (manifest.config, *manifest.layers):
            known = found.blobs.setdefault(part.digest, part)
            if known.size != part.size:
                raise malformed(descriptor.digest, f"{part.digest} has two sizes")
    else:
        raise malformed(descriptor.digest, f"{descriptor.media_type!a} is neither a manifest nor an index")


def _walk_referrers(layout: Layout, every: Sequence[Descriptor], found: Found) -> None:
    """Signatures that the layout lists for what is verified; those of other images are not looked at."""
    for one in every:
        if one.digest in found.manifests or not signature.is_ours(one.artifact_type):
            continue
        manifest = parse_manifest(_document(layout, one), one.media_type, one.digest)
        about = manifest.subject.digest if manifest.subject else ""
        if about in found.manifests or about in found.blobs:
            _walk(layout, one, found, 0)


def _document(layout: Layout, descriptor: Descriptor) -> bytes:
    """A manifest or index, which has to be its digest before a word of it is read."""
    data = layouts.read(layout, layouts.path_of(descriptor.digest), descriptor.digest)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    if digest != descriptor.digest or len(data) != descriptor.size:
        raise _tampered([_problem(descriptor, digest, len(data))])
    return data


def _hash_blobs(layout: Layout, found: Found, progress: Progress) -> None:
    absent = []
    for digest, descriptor in found.blobs.items():
        try:
            file = layout.open(layouts.path_of(digest))
        except KeyError:
            absent.append(digest)
            continue
        hasher, size = hashlib.sha256(), 0
        with file:
            while chunk := file.read(CHUNK):
                hasher.update(chunk)
                size += len(chunk)
                progress(len(chunk))
                if size > descriptor.size:
                    break  # longer than promised: the digest cannot fit any more
        if size != descriptor.size or "sha256:" + hasher.hexdigest() != digest:
            found.problems.append(_problem(descriptor, "sha256:" + hasher.hexdigest(), size))
    if absent and not found.problems:
        raise layouts.missing(absent)


def _signatures(layout: Layout, found: Found, keys: Sequence[PublicKey]) -> tuple[str, ...]:
    """The keys that signed every root; a signature that does not hold is refused, not passed over."""
    signers: dict[str, set[str]] = {}
    for digest, (_descriptor, manifest) in found.manifests.items():
        if not signature.is_ours(manifest.kind) or manifest.subject is None:
            continue
        if len(manifest.layers) != 1:
            raise malformed(digest, "a signature is one envelope")
        envelope = layouts.read(layout, layouts.path_of(manifest.layers[0].digest), digest)
        if keys:
            key_id = signature.check(envelope, manifest.subject, keys)
            signers.setdefault(manifest.subject.digest, set()).add(key_id)
    wanted = [root.digest for root in found.roots]
    common = set.intersection(*(signers.get(digest, set()) for digest in wanted)) if wanted else set()
    return tuple(sorted(common))


def _problem(descriptor: Descriptor, digest: str, size: int) -> dict[str, Any]:
    return {
        "blob": descriptor.digest,
        "type": descriptor.media_type,
        "expected": {"digest": descriptor.digest, "size": descriptor.size},
        "found": {"digest": digest, "size": size},
    }


def _tampered(problems: list[dict[str, Any]]) -> Refused:
    first = problems[0]
    return Refused(
        "IMG-TAMPER",
        f"{len(problems)} part{'s' if len(problems) != 1 else ''} of the image changed: {first['blob']} is "
        f"{first['found']['digest']} ({first['found']['size']:,} of {first['expected']['size']:,} bytes)",
        evidence={
            "blob": first["blob"],
            "expected": first["expected"]["digest"],
            "found": first["found"]["digest"],
            "blobs": problems[:50],
        },
        fix="do not run it; fetch the image again from where it was built, by the digest that was pinned",
    )
