"""Provenance that another builder signed: checked by the administrator's list of builders, kept word for word.

    # builders.toml in the data directory
    [[builder]]
    id = "https://ci.example.org/training"
    key = "builders/ci.pem"         # its public key; a path beside this file

A key speaks for its own builder id and for no other, so that who may sign for one platform can't pass for
another. Certificates of a public log (Sigstore) are not read here.
"""

from __future__ import annotations

import base64
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.artifacts import provenance
from garrison.artifacts.attachments import Draft, attach_all
from garrison.artifacts.registry import Registry, get
from garrison.core.decision import Subject
from garrison.core.digest import Manifest, Ref
from garrison.core.errors import Refused, Usage
from garrison.trust import dsse, strict_json
from garrison.trust.attestation import Attestation
from garrison.trust.keys.public import PublicKey, load_public

NAME = "builders.toml"
MAX_BYTES = 8 * 1024 * 1024  # provenance over thousands of files
MAX_LIST_BYTES = 256 * 1024
MAX_SUBJECTS = 50_000
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")


@dataclass(frozen=True, slots=True)
class Builder:
    """A build platform that the administrator trusts: its id, and the key that signs for it."""

    id: str
    key: PublicKey


@dataclass(frozen=True, slots=True)
class Foreign:
    """Another builder's provenance once its signature, shape, builder and subjects were found right."""

    builder: str
    attestation: Attestation
    covered: tuple[str, ...]  # the files of the release that it names by digest


def attach_provenance(registry: Registry, ref: Ref, path: Path, subject: Subject) -> dict[str, Any]:
    """Check provenance made elsewhere and attach it.

    Raises `Refused` PROV-UNTRUSTED, PROV-BUILDER, PROV-SHAPE, PROV-SUBJECT and what `attach_all` raises.
    """
    release = get(registry, ref)
    envelope = _bytes(path, MAX_BYTES, "PROV-FILE")
    builders = read_builders(registry.models.parent / NAME)
    found = open_foreign(envelope, builders, release.manifest, release.digest)
    predicate = {
        "builder": found.builder,
        "keyId": found.attestation.key_id,
        "predicateType": found.attestation.predicate_type,
        "predicate": found.attestation.predicate,
        "covered": list(found.covered),
        "envelope": base64.b64encode(envelope).decode(),
    }
    draft = Draft("provenance", provenance.FOREIGN, predicate, "provenance-foreign")
    added, audit_ids = attach_all(registry, ref, lambda _present: [draft], subject)
    return {
        "ref": str(ref),
        "digest": release.digest,
        "label": added[0].label,
        "builder": found.builder,
        "covered": len(found.covered),
        "files": len(release.manifest.files),
        "audit_id": audit_ids[0],
    }


def open_foreign(envelope: bytes, builders: tuple[Builder, ...], manifest: Manifest, digest: str) -> Foreign:
    """Signature by a trusted builder, SLSA shape, the builder's own id, and digests of files of this release."""
    keys = [builder.key for builder in builders]
    try:
        payload, key_id = dsse.open_envelope(envelope, keys, payload_type=dsse.IN_TOTO)
        statement = strict_json.loads(payload, MAX_BYTES)
        if not isinstance(statement, dict) or statement.get("_type") not in _STATEMENTS:
            raise ValueError("it is not an in-toto statement")
        predicate, kind = statement.get("predicate"), statement.get("predicateType")
        if not isinstance(predicate, dict) or not isinstance(kind, str):
            raise ValueError("it has no predicate")
        subjects = _subjects(statement.get("subject"))
    except ValueError as error:
        raise _unlike(str(error)) from error
    except Refused as error:
        if not error.code.startswith("SIG-"):
            raise
        raise _unlike(error.what) from error
    attestation = Attestation(kind, predicate, key_id)
    found = provenance.builder_of(attestation)
    _check_own_builder(found, key_id, builders)
    hexadecimal = digest.removeprefix("sha256:")
    covered = tuple(
        entry.path
        for entry in manifest
        if hexadecimal in subjects or entry.digest.removeprefix("sha256:") in subjects
    )
    if not covered:
        raise Refused(
            "PROV-SUBJECT",
            f"the provenance is of {len(subjects)} other files: none of its digests is a file of this version",
            fix="attach the provenance that the builder made for these very files",
            evidence={"subjects": sorted(subjects)[:20]},
        )
    return Foreign(found, attestation, covered)


def read_builders(path: Path) -> tuple[Builder, ...]:
    """The administrator's list. Raises `Refused` PROV-UNTRUSTED without one, `Usage` PROV-BUILDERS for a wrong one."""
    if not path.is_file():
        raise Refused(
            "PROV-UNTRUSTED",
            f"no builder is trusted here: there is no {path}",
            fix=f"the administrator writes {path} with a [[builder]], its id and its public key",
        )
    try:
        document = tomllib.loads(_bytes(path, MAX_LIST_BYTES, "PROV-BUILDERS").decode())
        rows = document.pop("builder", None)
        if document or not isinstance(rows, list) or not rows:
            raise ValueError("it holds [[builder]] entries and nothing else")
        builders = []
        for row in rows:
            fields = strict_json.exactly(row, "id", "key")
            identity = strict_json.text(fields["id"], provenance.MAX_ID)
            key = load_public(path.parent / strict_json.text(fields["key"], 4096))
            builders.append(Builder(identity, key))
    except (ValueError, UnicodeDecodeError) as error:
        raise Usage(
            "PROV-BUILDERS", f"{path}: {error}", fix="docs/provenance.md shows the file with every key"
        ) from error
    return tuple(builders)


def _check_own_builder(found: str, key_id: str, builders: tuple[Builder, ...]) -> None:
    own = sorted(builder.id for builder in builders if builder.key.key_id == key_id)
    if found not in own:
        raise Refused(
            "PROV-BUILDER",
            f"the provenance names the builder {found!a}, and its key speaks for {', '.join(own)}",
            fix="ask who runs the builder; only its own key may sign for it",
            evidence={"expected": own, "found": [found]},
        )


def _subjects(value: Any) -> set[str]:
    """The SHA-256 digests of an in-toto subject list. Raises ValueError."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_SUBJECTS:
        raise ValueError(f"it has no subject, or more than {MAX_SUBJECTS:,}")
    found = set()
    for subject in value:
        digests = subject.get("digest") if isinstance(subject, dict) else None
        if not isinstance(digests, dict):
            raise ValueError("a subject has no digest")
        if isinstance(digests.get("sha256"), str):
            found.add(digests["sha256"].lower())
    return found


def _unlike(why: str) -> Refused:
    return Refused(
        "PROV-SHAPE",
        f"this is not provenance that Garrison reads: {why}",
        fix="give the DSSE envelope (.intoto.json) with one signature by the builder's own key",
    )


def _bytes(path: Path, limit: int, code: str) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise Usage(code, f"cannot read {path}: {error.strerror}", fix="check the path") from error
    if len(data) > limit:
        raise Usage(code, f"{path} is longer than {limit:,} bytes", fix="give one envelope")
    return data
