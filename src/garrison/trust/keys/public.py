"""Public keys: parsed once, named by their own digest, used to verify - and marked when they were revoked.

Exactly four kinds are accepted (`algorithm.py`); which one a signature has to be follows from the key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from garrison.core.errors import Refused, Usage
from garrison.trust.keys.algorithm import Algorithm, AnyPublicKey, algorithm_of, is_signature

MAX_PEM = 16 * 1024  # bytes; an RSA public key of 3072 bits is 624


@dataclass(frozen=True, slots=True)
class Revocation:
    """Why a key's signatures stopped counting, and the few that still do.

    `kept` has the hexadecimal SHA-256 of every signed message (with its DSSE type) that the ledger had
    recorded before `since`. A time inside a message counts for nothing: a thief writes any time there.
    """

    reason: str
    since: datetime
    kept: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a signing key. The three fields always agree: `key_id` is checked against `pem`.

    Raises `Usage` KEY-PUBLIC when `pem` is not a public key of a known kind, `Refused` KEY-ID when it is
    another key.
    """

    key_id: str
    label: str
    pem: bytes
    revocation: Revocation | None = None
    algorithm: Algorithm = field(init=False, compare=False)
    _key: AnyPublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = parse_public(self.pem)
        found = key_id_of(key)
        if found != self.key_id:
            raise Refused(
                "KEY-ID",
                f"the public key called {self.label!r} has id {found[:16]}…, not {self.key_id[:16]}…",
                fix="use the public key that belongs to the signature: garrison key list shows them",
            )
        algorithm = algorithm_of(key)
        assert algorithm is not None  # parse_public refused the others
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "algorithm", algorithm)

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `data`, by the key's own algorithm. Never raises."""
        return is_signature(self._key, self.algorithm, data, signature)


def parse_public(pem: bytes) -> AnyPublicKey:
    """Raises `Usage` KEY-PUBLIC for anything but a PEM public key of a known kind; KEY-ENV for a private one."""
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
    if algorithm_of(key) is None:
        raise Usage(
            "KEY-PUBLIC",
            "not a PEM public key of a kind that Garrison uses (EC P-256 or P-384, RSA 3072, Ed25519)",
            fix="give the .pem file that `garrison key create` wrote under keys/public",
        )
    return key  # type: ignore[return-value]  # algorithm_of knows exactly the types of AnyPublicKey


def key_id_of(key: AnyPublicKey) -> str:
    """Hexadecimal SHA-256 of the DER SubjectPublicKeyInfo."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def public_pem(key: AnyPublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_from_pem(pem: bytes, label: str = "") -> PublicKey:
    """Parse `pem` and name it by its own digest. Raises as `parse_public`."""
    return PublicKey(key_id_of(parse_public(pem)), label, pem)


def load_public(path: Path) -> PublicKey:
    """Read a public key file; its label is the file name without `.pem`.

    Raises `Usage` KEY-PUBLIC when it cannot be read or is no public key, `Refused` KEY-ENV when it holds a
    private one.
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
