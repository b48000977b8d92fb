"""OpenSSF Model Signing v1.0: the signature that other tools verify, over the files and nothing else.

An in-toto statement that lists each file with its SHA-256, in a DSSE envelope, in a sigstore bundle v0.3
that names a public key. The format binds neither name nor version (its subject name is informative) and
knows no sizes or modes; the release statement (`statement.py`) does that, and `verify.py` wants both.

`model_signing` leaves `.git`, `.github`, `.gitignore` and `.gitattributes` at the top of a model out unless
it is told otherwise, and so do our bundles: then its default command verifies them. Nothing is lost by it,
because the release statement lists every file. A bundle alone proves only what it lists: read here, its
ignore list is not obeyed, and a file that was left out counts as unsigned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from garrison.core.digest import Manifest, canonical_json
from garrison.core.errors import Refused, Undecided, Usage
from garrison.trust import dsse, strict_json
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import PublicKey, parse_public, public_pem
from garrison.trust.paths import MAX_FILES, MAX_PATH_BYTES, check_paths

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAX_BUNDLE_BYTES = dsse.MAX_ENVELOPE_BYTES
GIT_NAMES = frozenset(
    {".git", ".gitattributes", ".github", ".gitignore"}
)  # what the peer leaves out by default
MAX_NAME_LENGTH = 512  # the subject name, a directory's name in bundles of other tools


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """What a bundle says: `files` maps each path to its `sha256:` digest. `name` is informative only."""

    name: str
    files: MappingProxyType[str, str]


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
        "subject": [{"name": name, "digest": {"sha256": _root_digest(r["digest"] for r in resources)}}],
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
    """Check a bundle by the trusted keys; returns what it signs and the id of the key.

    Raises `Refused` ART-SIGNATURE or KEY-UNKNOWN, `Refused` ART-NAME-UNSAFE or ART-COLLISION for paths
    that may not stand in a manifest, and `Undecided` ART-SIGNATURE-FORM for a correct bundle of a kind
    that is not read here (shards, other hashes, certificates).
    """
    try:
        envelope, hint = _opened(data)
        by_hint = {key_hint(key.pem): key.key_id for key in keys}
        named = by_hint.get(hint, hint)  # a hint that fits no key selects none
        payload, key_id = dsse.verify(envelope, keys, payload_type=dsse.IN_TOTO, hint=named)
        if named != key_id:
            raise ValueError("the bundle and its envelope name different keys")
        signed = _parsed(payload)
    except ValueError as error:
        raise _malformed(str(error)) from error
    except Refused as error:
        if not error.code.startswith("SIG-"):
            raise
        raise _malformed(error.what) from error
    check_paths(signed.files)
    return signed, key_id


def key_hint(pem: bytes) -> str:
    """How a bundle names its key: the SHA-256 of the PEM text, where DSSE names it by that of the DER.

    The text is the one that OpenSSL writes, however the file at hand was wrapped.
    """
    return hashlib.sha256(public_pem(parse_public(pem))).hexdigest()


def _opened(data: bytes) -> tuple[dict[str, Any], str]:
    """The envelope and the key hint out of the sigstore bundle."""
    fields = strict_json.exactly(
        strict_json.loads(data, MAX_BUNDLE_BYTES), "mediaType", "verificationMaterial", "dsseEnvelope"
    )
    if fields["mediaType"] != MEDIA_TYPE:
        raise ValueError(f"expected a {MEDIA_TYPE}")
    material = fields["verificationMaterial"]
    if isinstance(material, dict) and "publicKey" not in material:
        raise _not_read_here("is signed by certificate, not by a bare key")
    if isinstance(material, dict):
        material = {"tlogEntries": [], **material}
    material = strict_json.exactly(material, "publicKey", "tlogEntries")
    if material["tlogEntries"] != []:
        raise _not_read_here("carries transparency log entries")
    public = strict_json.exactly(material["publicKey"], "hint")
    return fields["dsseEnvelope"], strict_json.text(public["hint"], dsse.MAX_TYPE_LENGTH)


def _parsed(payload: bytes) -> SignedFiles:
    statement = strict_json.exactly(
        strict_json.loads(payload, MAX_BUNDLE_BYTES), "_type", "subject", "predicateType", "predicate"
    )
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise ValueError("not a model signature v1.0")
    predicate = strict_json.exactly(statement["predicate"], "serialization", "resources")
    _check_serialization(predicate["serialization"])
    resources = predicate["resources"]
    if not isinstance(resources, list) or len(resources) > MAX_FILES:
        raise ValueError(f"expected a list of at most {MAX_FILES} resources")
    files: dict[str, str] = {}
    for resource in resources:
        row = strict_json.exactly(resource, "name", "algorithm", "digest")
        if row["algorithm"] != "sha256":
            raise _not_read_here(f"hashes with {row['algorithm']!a}")
        path = strict_json.text(row["name"], MAX_PATH_BYTES)
        if path in files:
            raise ValueError(f"{path!a} is listed twice")
        files[path] = _hexadecimal(row["digest"])
    name, root = _subject(statement["subject"])
    if root != _root_digest(files.values()):
        raise ValueError("the subject is not the digest of the listed files")
    return SignedFiles(name, MappingProxyType({path: f"sha256:{value}" for path, value in files.items()}))


def _check_serialization(value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError("serialization is not an object")
    if value.get("method") != "files" or value.get("hash_type") != "sha256":
        raise _not_read_here(f"serialises by {value.get('method')!a} with {value.get('hash_type')!a}")
    fields = strict_json.exactly(
        {"ignore_paths": [], **value}, "method", "hash_type", "allow_symlinks", "ignore_paths"
    )
    if not isinstance(fields["allow_symlinks"], bool) or not isinstance(fields["ignore_paths"], list):
        raise ValueError("allow_symlinks is not true or false, or ignore_paths is not a list")


def _subject(value: Any) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 1:
        raise ValueError("expected exactly one subject")
    subject = strict_json.exactly(value[0], "name", "digest")
    digest = strict_json.exactly(subject["digest"], "sha256")
    return strict_json.text(subject["name"], MAX_NAME_LENGTH), _hexadecimal(digest["sha256"])


def _hexadecimal(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError("not a SHA-256 in lower-case hexadecimal")
    return value


def _in_path_order(paths: Iterable[str]) -> list[str]:
    """By components, `a/b` before `a.b`: the order in which other tools list, so that subjects are equal."""
    return sorted(paths, key=lambda path: PurePosixPath(path).parts)


def _root_digest(digests: Iterable[str]) -> str:
    """SHA-256 over the raw digests, one after the other, in the order in which they are listed."""
    root = hashlib.sha256()
    for digest in digests:
        root.update(bytes.fromhex(digest))
    return root.hexdigest()


def _malformed(why: str) -> Refused:
    return Refused(
        "ART-SIGNATURE",
        f"the model signature does not hold: {why}",
        fix="fetch the signature file again from where the model was published",
        evidence={"document": "signature"},
    )


def _not_read_here(how: str) -> Undecided:
    return Undecided(
        "ART-SIGNATURE-FORM",
        f"the model signature {how}; Garrison reads SHA-256 over whole files, signed by an EC key",
        fix="verify it with model_signing, then publish the model to have it signed here",
    )
