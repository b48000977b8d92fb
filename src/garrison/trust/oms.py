"""OpenSSF Model Signing v1.0: the signature that other tools verify, over the files and nothing else.

An in-toto statement that lists each file with its SHA-256, in a DSSE envelope, in a sigstore bundle v0.3
that names a public key. The format binds neither name nor version (its subject name is informative) and
knows no sizes or modes; the release statement (`statement.py`) does that, and `verify.py` wants both.

`model_signing` leaves `.git`, `.github`, `.gitignore` and `.gitattributes` at the top of a model out unless
it is told otherwise, and so do our bundles: then its default command verifies them. Nothing is lost by it,
because the release statement lists every file. A bundle alone proves only what it lists: read here, its
ignore list is not obeyed, and a file that was left out counts as unsigned.

Bundles of other tools are read in every form that v1.0 has: whole files or shards (`oms_listing.py`), signed
by a key, by a certificate (`oms_chain.py`) or keyless (`oms_keyless.py`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from garrison.core.digest import Manifest, canonical_json
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.trust import dsse, strict_json
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey, parse_public, public_pem
from garrison.trust.oms_chain import Authorities, signing_key
from garrison.trust.oms_keyless import Keyless, open_keyless
from garrison.trust.oms_listing import (
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    SignedFiles,
    not_read_here,
    parse,
    root_digest,
)
from garrison.trust.paths import MAX_FILES, check_paths

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE_BYTES = dsse.MAX_ENVELOPE_BYTES
GIT_NAMES = frozenset(
    {".git", ".gitattributes", ".github", ".gitignore"}
)  # what the peer leaves out by default
MAX_RAW_KEY = 8 * 1024  # of base64; a PEM key of 384 bits is 300

# Whom a bundle that names no key of ours has to convince; without it such a bundle is not judged.
Foreign = Authorities | Keyless | None


def bundle(manifest: Manifest, name: str, signer: Signer) -> bytes:
    """Sign the manifest's files; `name` (a name@version) becomes the subject. Canonical JSON bytes.

    Raises `Usage` ART-TOO-MANY when the manifest is larger than a verifier accepts.
    """
    entries = {
        entry.path: entry.digest.removeprefix("sha256:") for entry in manifest if not is_left_out(entry.path)
    }
    left_out = {entry.path.split("/", 1)[0] for entry in manifest if is_left_out(entry.path)}
    resources = [
        {"name": path, "algorithm": "sha256", "digest": entries[path]} for path in _in_path_order(entries)
    ]
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root_digest(r["digest"] for r in resources)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": sorted(left_out),
            },
            "resources": resources,
        },
    }
    data = canonical_json(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": key_hint(signer.public_pem())},
                "tlogEntries": [],
            },
            "dsseEnvelope": dsse.sign(canonical_json(statement), dsse.IN_TOTO, signer),
        }
    )
    if len(resources) > MAX_FILES or len(data) > MAX_BUNDLE_BYTES:
        raise Usage(
            "ART-TOO-MANY",
            f"{len(resources):,} files do not fit into one signature",
            fix="pack small files into an archive format that the scanners know, or split the artifact",
        )
    return data


def is_left_out(path: str) -> bool:
    """Whether a file belongs to the git repository around a model, which bundles do not list."""
    return path.split("/", 1)[0] in GIT_NAMES


def verify_bundle(data: bytes, keys: Sequence[PublicKey]) -> tuple[SignedFiles, str]:
    """Check a bundle that names one of the trusted keys; returns what it signs and the id of the key.

    Raises as `open_bundle`; a bundle by certificate is `Undecided` ART-SIGNATURE-FORM here.
    """
    signed, key = open_bundle(data, keys)
    return signed, key.key_id


def open_bundle(
    data: bytes, keys: Sequence[PublicKey], foreign: Foreign = None
) -> tuple[SignedFiles, PublicKey]:
    """Check a bundle of any form; returns what it signs and the key that did.

    Raises `Refused` ART-SIGNATURE, KEY-UNKNOWN or ART-CHAIN, `Refused` ART-NAME-UNSAFE or ART-COLLISION for
    paths that may not stand in a manifest, and `Undecided` ART-SIGNATURE-FORM for a correct bundle of a
    kind that is not read here, or by a certificate when `foreign` does not say whom to believe.
    """
    try:
        material, envelope = _opened(data)
        if "certificate" in material:
            if not isinstance(foreign, Keyless):
                raise not_read_here("is keyless: name --sigstore-root, --identity and --issuer to judge it")
            payload, key = open_keyless(data, foreign)
        else:
            named = _key_id(material, trusted := _trusted(material, keys, foreign))
            payload, key_id = dsse.verify(envelope, trusted, payload_type=dsse.IN_TOTO, hint=named)
            if named != key_id:
                raise ValueError("the bundle and its envelope name different keys")
            key = next(key for key in trusted if key.key_id == key_id)
        signed = parse(payload)
    except ValueError as error:
        raise _malformed(str(error)) from error
    except Refused as error:
        if not error.code.startswith("SIG-"):
            raise
        raise _malformed(error.what) from error
    check_paths(signed.files)
    return signed, key


def key_hint(pem: bytes) -> str:
    """How a bundle names its key: the SHA-256 of the PEM text, where DSSE names it by that of the DER.

    The text is the one that OpenSSL writes, however the file at hand was wrapped.
    """
    return hashlib.sha256(public_pem(parse_public(pem))).hexdigest()


def _opened(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The verification material and the envelope out of the sigstore bundle. Raises ValueError."""
    fields = strict_json.exactly(
        strict_json.loads(data, MAX_BUNDLE_BYTES), "mediaType", "verificationMaterial", "dsseEnvelope"
    )
    if fields["mediaType"] != MEDIA_TYPE:
        raise ValueError(f"expected a {MEDIA_TYPE}")
    material, envelope = fields["verificationMaterial"], fields["dsseEnvelope"]
    if not isinstance(material, dict):
        raise ValueError("verificationMaterial is not an object")
    kinds = [kind for kind in ("publicKey", "x509CertificateChain", "certificate") if kind in material]
    if len(kinds) != 1:
        raise ValueError("expected exactly one of publicKey, x509CertificateChain and certificate")
    if kinds == ["certificate"]:
        if not isinstance(material.get("tlogEntries"), list) or not material["tlogEntries"]:
            raise ValueError("a keyless bundle without its entry in a transparency log")
        return material, envelope  # the rest of it is the sigstore client's to parse
    material = strict_json.exactly({"tlogEntries": [], **material}, kinds[0], "tlogEntries")
    if material["tlogEntries"] != []:
        raise not_read_here("carries transparency log entries beside a key")
    return material, _without_ids(envelope, but_null=kinds == ["publicKey"])


def _without_ids(envelope: Any, *, but_null: bool) -> Any:
    """A key id of null is one that is absent, and beside a certificate it means nothing (4.1, 11.1)."""
    rows = envelope.get("signatures") if isinstance(envelope, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return envelope
    drop = [{k: v for k, v in row.items() if k != "keyid" or (but_null and v is not None)} for row in rows]
    return {**envelope, "signatures": drop}


def _trusted(material: dict[str, Any], keys: Sequence[PublicKey], foreign: Foreign) -> Sequence[PublicKey]:
    """Who may have signed: the trusted keys, or the one key of a chain that leads to a trusted CA."""
    if "publicKey" in material:
        return keys
    if not isinstance(foreign, Authorities):
        raise not_read_here("is by certificate: name the CA to believe with --ca FILE")
    chain = strict_json.exactly(material["x509CertificateChain"], "certificates")["certificates"]
    if not isinstance(chain, list):
        raise ValueError("certificates is not a list")
    encoded = [strict_json.exactly(row, "rawBytes")["rawBytes"] for row in chain]
    key = signing_key(foreign, [_decoded(text, MAX_BUNDLE_BYTES) for text in encoded])
    return [next((known for known in keys if known.key_id == key.key_id), key)]  # a known one may be revoked


def _key_id(material: dict[str, Any], trusted: Sequence[PublicKey]) -> str:
    """The id of the key that the bundle names by a hint, or writes out as tools before 1.1 did (11.2)."""
    if "publicKey" not in material:
        return trusted[0].key_id
    public = material["publicKey"]
    if isinstance(public, dict) and "rawBytes" in public:
        raw = strict_json.exactly({"keyDetails": "", **public}, "rawBytes", "keyDetails")["rawBytes"]
        try:
            hint = key_hint(_decoded(raw, MAX_RAW_KEY))
        except GarrisonError as error:
            raise ValueError("the bundle writes out something that is no public key") from error
    else:
        hint = strict_json.text(strict_json.exactly(public, "hint")["hint"], dsse.MAX_TYPE_LENGTH)
    by_hint = {key_hint(key.pem): key.key_id for key in trusted}
    return by_hint.get(hint, hint or "?")  # a hint that fits no key selects none


def _decoded(text: Any, limit: int) -> bytes:
    return base64.b64decode(strict_json.text(text, limit), validate=True)


def _in_path_order(paths: Iterable[str]) -> list[str]:
    """By components, `a/b` before `a.b`: the order in which other tools list, so that subjects are equal."""
    return sorted(paths, key=lambda path: PurePosixPath(path).parts)


def _malformed(why: str) -> Refused:
    return Refused(
        "ART-SIGNATURE",
        f"the model signature does not hold: {why}",
        fix="fetch the signature file again from where the model was published",
        evidence={"document": "signature"},
    )
