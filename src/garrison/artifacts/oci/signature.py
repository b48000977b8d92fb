"""The signature of an image: an in-toto statement over its manifest's digest, kept as an OCI referrer.

    {"_type": "https://in-toto.io/Statement/v1",
     "subject": [{"name": "<a name, or the digest>", "digest": {"sha256": "<hex>"}}],
     "predicateType": "https://garrison.dev/attestation/image/v1",
     "predicate": {"mediaType", "size", "name", "created"}}

The envelope is the only layer of an artifact whose `subject` is the image (image-spec 1.1), so that other
tools list it (`oras discover`). It is DSSE, not the simple-signing form of cosign.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from garrison.artifacts.oci.descriptor import EMPTY, EMPTY_BYTES, MANIFEST, Descriptor, describe, malformed
from garrison.core.digest import canonical_json
from garrison.core.errors import Refused, Undecided
from garrison.core.event import format_time
from garrison.storage.local import write_atomically
from garrison.trust import dsse, strict_json
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey
from garrison.trust.statement import STATEMENT_TYPE

ARTIFACT = "application/vnd.garrison.signature.v1+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
PREDICATE = "https://garrison.dev/attestation/image/v1"
MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Referrer:
    """An artifact about another one: its manifest and its blobs, ready to be stored."""

    descriptor: Descriptor
    manifest: bytes
    blobs: dict[str, bytes]


def is_ours(artifact_type: str) -> bool:
    return artifact_type == ARTIFACT


def sign(image: Descriptor, name: str, now: datetime, signer: Signer) -> bytes:
    """The envelope over an image's descriptor, as the bytes that are stored."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name or image.digest, "digest": {"sha256": image.digest.removeprefix("sha256:")}}
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "mediaType": image.media_type,
            "size": image.size,
            "name": name,
            "created": format_time(now),
        },
    }
    return canonical_json(dsse.sign(canonical_json(statement), dsse.IN_TOTO, signer))


def check(envelope: bytes, image: Descriptor, keys: Sequence[PublicKey]) -> str:
    """The id of the key that signed exactly this image. Raises `Refused` SIG-*, KEY-*, IMG-PIN."""
    payload, key_id = dsse.open_envelope(envelope, keys, payload_type=dsse.IN_TOTO)
    try:
        value = strict_json.exactly(
            strict_json.loads(payload, dsse.MAX_ENVELOPE_BYTES),
            "_type",
            "subject",
            "predicateType",
            "predicate",
        )
        digest = value["subject"][0]["digest"]["sha256"]
        facts = value["predicate"]
        is_whole = value["_type"] == STATEMENT_TYPE and value["predicateType"] == PREDICATE
        is_whole = is_whole and len(value["subject"]) == 1 and isinstance(facts, dict)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise malformed("the signature", "it is no statement about an image") from error
    if not is_whole:
        raise malformed("the signature", "it is no statement about an image")
    if f"sha256:{digest}" != image.digest or facts.get("size") != image.size:
        raise Refused(
            "IMG-PIN",
            f"the signature is for sha256:{digest}, not for {image.digest}",
            evidence={"signed": f"sha256:{digest}", "found": image.digest},
            fix="get the signature of this image; one of another image was put beside it",
        )
    return key_id


def referrer(subject: Descriptor, artifact_type: str, media_type: str, data: bytes, **notes: str) -> Referrer:
    """The artifact that carries one blob about `subject`."""
    layer, empty = describe(media_type, data), describe(EMPTY, EMPTY_BYTES)
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": empty.as_json(),
            "layers": [layer.as_json()],
            "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
            "annotations": dict(notes),
        }
    )
    described = describe(MANIFEST, manifest)
    listed = Descriptor(described.media_type, described.digest, described.size, dict(notes), artifact_type)
    return Referrer(listed, manifest, {layer.digest: data, empty.digest: EMPTY_BYTES})


def write(root: Path, made: Referrer) -> None:
    """Put a referrer into a layout that lies unpacked: blobs first, the index last. Twice is once.

    Raises `Undecided` DISK-FULL, DATA-READONLY.
    """
    blobs = root / "blobs" / "sha256"
    for digest, data in {**made.blobs, made.descriptor.digest: made.manifest}.items():
        path = blobs / digest.removeprefix("sha256:")
        if not path.exists():
            write_atomically(path, data, mode=0o644)
    index = root / "index.json"
    value: dict[str, Any] = json.loads(index.read_bytes())
    if any(row.get("digest") == made.descriptor.digest for row in value["manifests"]):
        return
    value["manifests"].append(made.descriptor.as_json())
    write_atomically(index, json.dumps(value, indent=2).encode() + b"\n", mode=0o644)


def check_writable(root: Path) -> None:
    """Raises `Undecided` IMG-PATH when a signature could not be put beside the image."""
    if not root.is_dir() or not os.access(root, os.W_OK):
        raise Undecided(
            "IMG-PATH",
            f"a signature cannot be written into {root}",
            fix="sign a layout that lies unpacked in a directory that you may write to",
        )
