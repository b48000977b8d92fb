"""What an OCI document says: descriptors, manifests and indexes, parsed strictly (OCI image-spec 1.1).

A duplicate key, another type, a media type that is not among those below or a size over its bound is
refused: two readers must not see two images in the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from garrison.core.digest import sha256_bytes
from garrison.core.errors import Refused
from garrison.trust import strict_json

MAX_DOCUMENT = 4 * 1024 * 1024  # bytes of a manifest, index or config: what registries accept
MAX_BLOB = 1 << 40  # bytes of one layer: a larger one is not moved in one piece
MAX_LAYERS = 4_096  # of one manifest
MAX_MANIFESTS = 1_024  # of one index
MAX_DEPTH = 4  # index in index; one is usual

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEXES = frozenset({INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"})
MANIFESTS = frozenset({MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"})
EMPTY = "application/vnd.oci.empty.v1+json"
EMPTY_BYTES = b"{}"
CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
LAYERS = frozenset(
    {
        *(f"application/vnd.oci.image.layer.v1.tar{kind}" for kind in ("", "+gzip", "+zstd")),
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
)
FOREIGN = re.compile(r"nondistributable|foreign", re.IGNORECASE)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_MEDIA_TYPE = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\Z", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A promise about bytes: their type, digest and size."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str]
    artifact_type: str = ""

    def as_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            plain["artifactType"] = self.artifact_type
        if self.annotations:
            plain["annotations"] = dict(self.annotations)
        return plain


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image or artifact: its configuration, its layers, and what it is about (`subject`)."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str
    annotations: Mapping[str, str]

    @property
    def is_image(self) -> bool:
        """A container image; anything else is an artifact, whose layers have types of their own."""
        return self.config.media_type in CONFIGS

    @property
    def kind(self) -> str:
        return self.artifact_type or self.config.media_type


def describe(media_type: str, data: bytes, **annotations: str) -> Descriptor:
    """The descriptor of bytes in memory."""
    return Descriptor(media_type, sha256_bytes(data), len(data), annotations)


def is_digest(text: str) -> bool:
    return _DIGEST.match(text) is not None


def document(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object without duplicate keys. Raises `Refused` IMG-FORMAT."""
    try:
        value = strict_json.loads(data, MAX_DOCUMENT)
    except ValueError as error:
        raise malformed(what, str(error)) from error
    if not isinstance(value, dict):
        raise malformed(what, "it is not a JSON object")
    if value.get("schemaVersion") != 2 or isinstance(value.get("schemaVersion"), bool):
        raise malformed(what, "its schemaVersion is not 2")
    return value


def parse_manifest(data: bytes, media_type: str, what: str) -> Manifest:
    """Raises `Refused` IMG-FORMAT, IMG-FOREIGN."""
    value = document(data, what)
    if value.get("mediaType", media_type) != media_type or "manifests" in value:
        raise malformed(what, "it says that it is something else than its descriptor does")
    layers = value.get("layers")
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        raise malformed(what, f"its layers are not a list of at most {MAX_LAYERS}")
    subject = value.get("subject")
    manifest = Manifest(
        config=descriptor(value.get("config"), what),
        layers=tuple(descriptor(layer, what) for layer in layers),
        subject=None if subject is None else descriptor(subject, what),
        artifact_type=_text(value.get("artifactType", ""), what),
        annotations=_annotations(value.get("annotations"), what),
    )
    odd = [one.media_type for one in manifest.layers if manifest.is_image and one.media_type not in LAYERS]
    if odd:
        raise malformed(what, f"{odd[0]!a} is not a layer of an image")
    return manifest


def parse_index(data: bytes, what: str) -> tuple[Descriptor, ...]:
    """The manifests of an index. Raises `Refused` IMG-FORMAT, IMG-FOREIGN."""
    value = document(data, what)
    if value.get("mediaType", INDEX) not in INDEXES or "layers" in value:
        raise malformed(what, "it is not an index")
    rows = value.get("manifests")
    if not isinstance(rows, list) or len(rows) > MAX_MANIFESTS:
        raise malformed(what, f"its manifests are not a list of at most {MAX_MANIFESTS}")
    return tuple(descriptor(row, what) for row in rows)


def descriptor(value: Any, what: str) -> Descriptor:
    """One descriptor. Raises `Refused` IMG-FORMAT, IMG-FOREIGN for bytes that are fetched from elsewhere."""
    if not isinstance(value, dict):
        raise malformed(what, "a descriptor is not an object")
    media_type, digest, size = (value.get(key) for key in ("mediaType", "digest", "size"))
    if not isinstance(media_type, str) or not _MEDIA_TYPE.match(media_type):
        raise malformed(what, "a descriptor has no media type")
    if not isinstance(digest, str) or not is_digest(digest):
        raise malformed(what, f"{str(digest)[:80]!a} is not a sha256 digest")
    if type(size) is not int or not 0 <= size <= MAX_BLOB:
        raise malformed(what, f"{digest} has no size between 0 and {MAX_BLOB}")
    if value.get("urls") or FOREIGN.search(media_type):
        raise Refused(
            "IMG-FOREIGN",
            f"{what}: the layer {digest} is not part of the image, it is fetched from elsewhere",
            evidence={"blob": digest, "urls": len(value.get("urls") or [])},
            fix="build the image with its layers inside; nothing is fetched from an address in a manifest",
        )
    _check_embedded(value.get("data"), digest, size, what)
    return Descriptor(
        media_type,
        digest,
        size,
        _annotations(value.get("annotations"), what),
        _text(value.get("artifactType", ""), what),
    )


def malformed(what: str, why: str) -> Refused:
    return Refused(
        "IMG-FORMAT",
        f"{what} is not what OCI image-spec 1.1 allows: {why}",
        fix="make or fetch the image again; garrison explain IMG-FORMAT says what is accepted",
    )


def _check_embedded(data: Any, digest: str, size: int, what: str) -> None:
    """`data` holds the blob inside its descriptor: a second copy that has to be the same bytes."""
    if data is None:
        return
    try:
        found = base64.b64decode(data, validate=True) if isinstance(data, str) else None
    except (binascii.Error, ValueError):
        found = None
    if found is None or len(found) != size or sha256_bytes(found) != digest:
        raise malformed(what, f"the bytes inside the descriptor of {digest} are others")


def _annotations(value: Any, what: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise malformed(what, "annotations are not texts")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > 255:
        raise malformed(what, "an artifact type is not a short text")
    return value
