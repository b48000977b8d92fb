"""The files of the approved list that only other tools read: looked at and mended when the server starts.

Our own decisions never ask a release statement below `targets/` or a root before the one in force. A client
elsewhere does, and would be stopped by one that is damaged. Both can be made again from what is trusted here:
a statement from its version when the list names its digest, an older root by the root key, which has not changed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from garrison.artifacts import store
from garrison.artifacts.approval import readable
from garrison.artifacts.registry import Registry
from garrison.core.digest import canonical_json
from garrison.storage.local import full_disk_explained, write_atomically
from garrison.trust import strict_json
from garrison.trust.keys.public import PublicKey, public_from_pem
from garrison.trust.tuf import entries, shape
from garrison.trust.tuf.check import ApprovedList


def repair(registry: Registry) -> list[str]:
    """What had to be done, in words; nothing for a list that is refused, which has to be put back as a whole."""
    known = readable(registry)
    if known is None or registry.approved.is_new():
        return []
    with full_disk_explained():
        return [*_statements(registry, known), *_roots(registry, known)]


def _statements(registry: Registry, known: ApprovedList) -> list[str]:
    lines = []
    for one in entries.listed(known):
        ref = one.entry.ref
        place = registry.approved.directory / "targets" / shape.path_of(one.environment, ref)
        path = place.with_name(f"{one.statement}.{place.name}")
        if _digest(path) == one.statement:
            continue
        with registry.database.read() as connection:
            release = store.find(connection, ref)
        if release is None or hashlib.sha256(release.statement).hexdigest() != one.statement:
            lines.append(f"TUF-MISSING the statement of {ref} in {path} is damaged, and its version is too")
            continue
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomically(path, release.statement, mode=0o644)
        lines.append(f"wrote the statement of {ref} for TUF clients again, which was damaged or gone")
    return lines


def _roots(registry: Registry, known: ApprovedList) -> list[str]:
    """Clients follow from the root that they have to the newest, one number at a time."""
    metadata, signer = registry.approved.directory / "metadata", registry.approved.keys.root
    key = public_from_pem(signer.public_pem(), signer.label)
    lines = []
    for number in range(1, known.pins.root):
        path = metadata / f"{number}.root.json"
        if _is_root(path, number, key):
            continue
        signed = json.loads((metadata / "root.json").read_bytes())["signed"] | {"version": number}
        signature = {"keyid": signer.key_id, "sig": signer.sign(shape.payload_of(signed)).hex()}
        write_atomically(path, canonical_json({"signatures": [signature], "signed": signed}), mode=0o644)
        lines.append(f"signed {path.name} of the approved list again, which was damaged or gone")
    return lines


def _is_root(path: Path, number: int, key: PublicKey) -> bool:
    try:
        with path.open("rb") as stream:
            data = stream.read(shape.MAX_ROOT)
        document = strict_json.exactly(strict_json.loads(data, shape.MAX_ROOT), "signatures", "signed")
        signed, given = document["signed"], {one["keyid"]: one["sig"] for one in document["signatures"]}
        is_signed = key.verify(shape.payload_of(signed), bytes.fromhex(given[key.key_id]))
        return bool(is_signed and signed["version"] == number and canonical_json(document) == data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
