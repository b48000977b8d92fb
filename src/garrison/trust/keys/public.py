"""Public keys: parsed once, named by their own digest, used to verify.

Only EC P-256 is accepted: one algorithm leaves nothing to negotiate down.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from garrison.core.errors import Refused, Usage

MAX_PEM = 16 * 1024  # bytes; a P-256 public key is 178
MAX_SIGNATURE = 80  # bytes; a DER signature on P-256 is at most 72


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a signing key. The three fields always agree: `key_id` is checked against `pem`.

    Raises `Usage` KEY-PUBLIC when `pem` is not a P-256 public key, `Refused` KEY-ID when it is another key.
    """

    key_id: str
    label: str
    pem: bytes
    _key: ec.EllipticCurvePublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = parse_public(self.pem)
        found = key_id_of(key)
        if found != self.key_id:
            raise Refused(
                "KEY-ID",
                f"the public key called {self.label!r} has id {found[:16]}…, not {self.key_id[:16]}…",
                fix="use the public key that belongs to the signature: garrison key list shows them",
            )
        object.__setattr__(self, "_key", key)

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether `signature` (DER, ECDSA over SHA-256) is this key's over `data`. Never raises."""
        if len(signature) > MAX_SIGNATURE:
            return False
        try:
            self._key.verify(signature, data, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def parse_public(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Raises `Usage` KEY-PUBLIC for anything but a PEM P-256 public key; KEY-ENV for a private one."""
    if b"PRIVATE KEY" in pem[:MAX_PEM]:
        raise Refused(
            "KEY-ENV",
            "a private key was given where a public key belongs",
            fix="delete that file, treat the key as leaked, and create one in the token: garrison key create",
        )
    try:
        key = load_pem_public_key(pem) if len(pem) <= MAX_PEM else None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Usage(
            "KEY-PUBLIC",
            "not a PEM public key on P-256",
            fix="give the .pem file that `garrison key create` wrote under keys/public",
        )
    return key


def key_id_of(key: ec.EllipticCurvePublicKey) -> str:
    """Hexadecimal SHA-256 of the DER SubjectPublicKeyInfo."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_from_pem(pem: bytes, label: str = "") -> PublicKey:
    """Parse `pem` and name it by its own digest. Raises as `parse_public`."""
    return PublicKey(key_id_of(parse_public(pem)), label, pem)


def load_public(path: Path) -> PublicKey:
    """Read a public key file; its label is the file name without `.pem`.

    Raises `Usage` KEY-PUBLIC when it cannot be read or is no P-256 public key, `Refused` KEY-ENV when it
    holds a private one.
    """
    try:
        with path.open("rb") as stream:
            pem = stream.read(MAX_PEM + 1)
    except OSError as error:
        raise Usage(
            "KEY-PUBLIC",
            f"{path}: {error.strerror}",
            fix="give the .pem file that `garrison key create` wrote under keys/public",
        ) from error
    return public_from_pem(pem, path.stem)
