"""A JSON Web Key Set (RFC 7517) read as keys with exactly one algorithm each.

What could be misread is not read: secret keys, private members, weak keys, key ids that stand twice. Such keys are
named in `left_out` and never used.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from garrison.trust import strict_json

MAX_JWKS = 256 * 1024  # bytes; a set of ten RSA keys with certificates is 40 kB
MAX_KEYS = 100
MAX_KID = 256  # characters
MIN_RSA_BITS, MAX_RSA_BITS = 2_048, 8_192  # NIST SP 800-131A; and what is still cheap to check
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_PUBLIC = {"EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "RSA": ("n", "e")}
# RFC 8725 section 3.1: one algorithm a key. Where the set does not say which, its kind does.
_BY_CURVE = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "Ed25519"}
_FOR_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

AnyKey = ECKey | OKPKey | RSAKey


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """One public key and the names of the one algorithm that it verifies (Ed25519 has two names, RFC 9864)."""

    kid: str
    algorithms: tuple[str, ...]
    key: AnyKey
    members: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        return {"kid": self.kid, "alg": self.algorithms[0], **self.members}


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys by id, and why others are not used."""

    keys: Mapping[str, VerifyKey]
    left_out: tuple[str, ...] = ()


def parse_jwks(data: bytes, allowed: Collection[str]) -> KeySet:
    """Raises ValueError when it is not a key set at all."""
    document = strict_json.loads(data, MAX_JWKS)
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list) or len(found) > MAX_KEYS:
        raise ValueError("not a list of keys")
    return key_set(found, allowed)


def key_set(items: list[Any], allowed: Collection[str]) -> KeySet:
    """The keys of a parsed list. `allowed` are the algorithms of this issuer."""
    keys: dict[str, VerifyKey] = {}
    left_out: list[str] = []
    doubled: set[str] = set()
    for place, item in enumerate(items):
        read = _key(item, allowed)
        if isinstance(read, str):
            left_out.append(f"key {place}: {read}")
        elif read.kid in keys:
            doubled.add(read.kid)
        else:
            keys[read.kid] = read
    for kid in doubled:
        del keys[kid]
        left_out.append("a key id stands twice: neither key is used")
    return KeySet(keys, tuple(left_out))


def _key(item: Any, allowed: Collection[str]) -> VerifyKey | str:
    """The key, or why it is not used."""
    if not isinstance(item, dict) or not all(isinstance(name, str) for name in item):
        return "not an object"
    kind, kid = item.get("kty"), item.get("kid", "")
    if kind not in _PUBLIC:
        return "not an RSA, EC or OKP key"
    if PRIVATE & set(item):
        return "its private half was published"
    if item.get("use", "sig") != "sig" or "verify" not in item.get("key_ops", ["verify"]):
        return "not for signatures"
    if not isinstance(kid, str) or len(kid) > MAX_KID:
        return "its id is not a short text"
    algorithm = _algorithm(item)
    names = ("Ed25519", "EdDSA") if algorithm in ("Ed25519", "EdDSA") else (algorithm,)
    if not set(names) & set(allowed):
        return f"its algorithm {algorithm or 'is not known and'} is not allowed for this issuer"[:120]
    members = {name: item[name] for name in _PUBLIC[kind] if isinstance(item.get(name), str)}
    try:
        bits = _bits(members["n"]) if kind == "RSA" else MIN_RSA_BITS
        if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            return f"an RSA key of {bits} bits"
        key = _import(kind, {"kty": kind, **members})
    except (JoseError, ValueError, TypeError, KeyError):
        return "its numbers make no key"
    return VerifyKey(kid, names, key, {"kty": kind, **members})


def _algorithm(item: Mapping[str, Any]) -> str:
    """What the key is for: as it says, if its kind can do that, else what its kind says."""
    said = item.get("alg")
    if item["kty"] == "RSA":
        return said if said in _FOR_RSA else "" if said else "RS256"
    natural = _BY_CURVE.get(str(item.get("crv")), "")
    if said in (None, natural) or (natural == "Ed25519" and said == "EdDSA"):
        return natural
    return ""


def _bits(modulus: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4)), "big").bit_length()


def _import(kind: str, members: dict[str, Any]) -> AnyKey:
    if kind == "EC":
        return ECKey.import_key(members)
    return OKPKey.import_key(members) if kind == "OKP" else RSAKey.import_key(members)
