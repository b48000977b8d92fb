"""Provenance that another builder signed: checked by the administrator's list of builders, kept word for word.

    # builders.toml in the data directory
    [[builder]]
    id = "https://ci.example.org/training"
    key = "builders/ci.pem"         # its public key; a path beside this file

    [[builder]]                     # or one whose certificates a public log records: GitHub's generators
    id = "https://github.com/acme/train/.github/workflows/build.yml@refs/heads/main"
    sigstore_root = "builders/trusted_root.json"
    identity = "https://github.com/acme/train/.github/workflows/build.yml@refs/heads/main"
    issuer = "https://token.actions.githubusercontent.com"

A key or an identity speaks for its own builder id and for no other, so that who may sign for one platform
can't pass for another. Nothing is fetched: the log's entry is in the bundle, its keys are in the trust root.
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
from garrison.trust.oms_keyless import Keyless, open_keyless

NAME = "builders.toml"
MAX_BYTES = 8 * 1024 * 1024  # provenance over thousands of files
MAX_LIST_BYTES = 256 * 1024
MAX_PATH = 4096
MAX_SUBJECTS = 50_000
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")


@dataclass(frozen=True, slots=True)
class Builder:
    """A build platform that the administrator trusts: its id, and the key or the identity that signs for it."""

    id: str
    signer: PublicKey | Keyless


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
    try:
        payload, key_id, own = _opened(envelope, builders)
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
    _check_own_builder(found, own)
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


def _opened(envelope: bytes, builders: tuple[Builder, ...]) -> tuple[bytes, str, list[str]]:
    """The payload, the id of the key that signed it, and the builders that this key speaks for.

    Raises `Refused` PROV-UNTRUSTED, ART-CHAIN and as `dsse.open_envelope`, ValueError for what is no JSON.
    """
    document = strict_json.loads(envelope, MAX_BYTES)
    if not isinstance(document, dict) or "dsseEnvelope" not in document:
        keys = [builder.signer for builder in builders if isinstance(builder.signer, PublicKey)]
        payload, key_id = dsse.open_envelope(envelope, keys, payload_type=dsse.IN_TOTO)
        own = [b.id for b in builders if isinstance(b.signer, PublicKey) and b.signer.key_id == key_id]
        return payload, key_id, own
    last: Refused | None = None
    for builder in builders:
        if isinstance(builder.signer, Keyless):
            try:
                payload, key = open_keyless(envelope, builder.signer)
            except Refused as error:
                last = error
                continue
            same = [other.id for other in builders if other.signer == builder.signer]
            return payload, key.key_id, same
    raise last or Refused(
        "PROV-UNTRUSTED",
        "this provenance is signed by a certificate of a public log, and no builder with a sigstore_root is trusted",
        fix="the administrator adds sigstore_root, identity and issuer of the builder to builders.toml",
    )


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
        return tuple(_builder(row, path.parent) for row in rows)
    except (ValueError, UnicodeDecodeError) as error:
        raise Usage(
            "PROV-BUILDERS", f"{path}: {error}", fix="docs/provenance.md shows the file with every key"
        ) from error


def _builder(row: Any, beside: Path) -> Builder:
    """Raises ValueError, and as `load_public`."""
    if not isinstance(row, dict) or "sigstore_root" not in row:
        fields = strict_json.exactly(row, "id", "key")
        key = load_public(beside / strict_json.text(fields["key"], MAX_PATH))
        return Builder(strict_json.text(fields["id"], provenance.MAX_ID), key)
    fields = strict_json.exactly(row, "id", "sigstore_root", "identity", "issuer")
    root = beside / strict_json.text(fields["sigstore_root"], MAX_PATH)
    identity, issuer = (strict_json.text(fields[name], provenance.MAX_ID) for name in ("identity", "issuer"))
    return Builder(strict_json.text(fields["id"], provenance.MAX_ID), Keyless(root, identity, issuer))


def _check_own_builder(found: str, own: list[str]) -> None:
    if found not in own:
        raise Refused(
            "PROV-BUILDER",
            f"the provenance names the builder {found!a}, and its signer speaks for {', '.join(own)}",
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
        fix="give the DSSE envelope (.intoto.json) with one signature by the builder's own key, or a sigstore bundle",
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
