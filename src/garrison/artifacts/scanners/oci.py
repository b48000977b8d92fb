"""OCI image layouts: blobs named by their digest are what they are called, and layers come with the image.

Source: OCI image layout 1.1. `index.json` and manifests are judged as JSON, layers as the archives they are.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from garrison.artifacts.scanners.base import Source, shown
from garrison.artifacts.scanners.sources import chunks

_BLOB = re.compile(r"(?:\A|/)blobs/sha256/([0-9a-f]{64})\Z")
RULE = "artifact.oci.digest"
FIX = "fetch the image again; a blob that is not what its name says was changed"


def named_digest(path: str) -> str:
    """The SHA-256 that a path promises, as 64 hex digits, or ""."""
    match = _BLOB.search(path)
    return match.group(1) if match else ""


def is_other(path: str, source: Source) -> bool:
    """Whether a blob is something other than its name says. Reads all of it."""
    digest = named_digest(path)
    if not digest:
        return False
    seen = hashlib.sha256()
    for data in chunks(source):
        seen.update(data)
    return seen.hexdigest() != digest


def foreign_layer(value: Any, table: dict[str, Any]) -> str:
    """`urls` of a descriptor: the layer is fetched from there and not part of the image."""
    is_descriptor = isinstance(table.get("digest"), str) and "mediaType" in table
    return f"a layer is fetched from {shown(value)}" if is_descriptor and value else ""
