"""Keys and small values as objects of one PKCS#11 session: made, found, read and used.

Every function takes the session that it works in; who opens it, and under which lock, is `pkcs11.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import pkcs11 as p11
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from garrison.core.errors import Refused
from garrison.trust.keys.algorithm import PSS_SALT_BYTES, RSA_BITS, Algorithm, AnyPublicKey, algorithm_of

DRAFT = "~"  # ends the label of a key that is being made; can't stand in a label of ours

# DER of the object identifiers, as CKA_EC_PARAMS has them.
_P256 = bytes.fromhex("06082a8648ce3d030107")
_P384 = bytes.fromhex("06052b81040022")
_EDWARDS25519 = bytes.fromhex("130c656477617264733235353139")  # the curve by name: PKCS#11 v3.0, 2.3.10
_CURVES: dict[bytes, ec.EllipticCurve] = {_P256: ec.SECP256R1(), _P384: ec.SECP384R1()}


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """What a token has to offer for an algorithm: to make a key and to sign with it."""

    generate: p11.Mechanism
    sign: p11.Mechanism


MECHANISMS = {
    Algorithm.P256: Mechanisms(p11.Mechanism.EC_KEY_PAIR_GEN, p11.Mechanism.ECDSA),
    Algorithm.P384: Mechanisms(p11.Mechanism.EC_KEY_PAIR_GEN, p11.Mechanism.ECDSA),
    Algorithm.RSA_PSS_3072: Mechanisms(p11.Mechanism.RSA_PKCS_KEY_PAIR_GEN, p11.Mechanism.RSA_PKCS_PSS),
    Algorithm.ED25519: Mechanisms(p11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, p11.Mechanism.EDDSA),
}


def find(session: p11.Session, kind: p11.ObjectClass, label: str) -> list[Any]:
    return list(session.get_objects({p11.Attribute.CLASS: kind, p11.Attribute.LABEL: label}))


def read_public(item: Any) -> AnyPublicKey | None:
    """The public key of an object; None when it is of a kind that Garrison does not use."""
    try:
        kind = item[p11.Attribute.KEY_TYPE]
        if kind == p11.KeyType.RSA:
            numbers = RSAPublicNumbers(
                int.from_bytes(item[p11.Attribute.PUBLIC_EXPONENT], "big"),
                int.from_bytes(item[p11.Attribute.MODULUS], "big"),
            )
            key: AnyPublicKey = numbers.public_key()
        elif kind == p11.KeyType.EC:
            curve = _CURVES[item[p11.Attribute.EC_PARAMS]]
            point = _unwrapped(item[p11.Attribute.EC_POINT], 1 + 2 * ((curve.key_size + 7) // 8))
            key = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
        elif kind == p11.KeyType.EC_EDWARDS:
            key = Ed25519PublicKey.from_public_bytes(_unwrapped(item[p11.Attribute.EC_POINT], 32))
        else:
            return None
    except (ValueError, KeyError, UnsupportedAlgorithm, p11.AttributeTypeInvalid):
        return None
    return None if algorithm_of(key) is None else key


def _unwrapped(value: bytes, length: int) -> bytes:
    """CKA_EC_POINT is a DER OCTET STRING around the point; some tokens give the point bare."""
    return value[2:] if len(value) == length + 2 and value[:2] == bytes((4, length)) else value


def generate(session: p11.Session, label: str, algorithm: Algorithm, *, renames: bool) -> None:
    """Make a pair: sensitive, not extractable, for signing only.

    Where the token lets labels be set later, it is made under a draft label and named when it is whole,
    the private half last: a token writes attributes one after the other, and a process that is killed
    then leaves a draft, never a key that has its label but not all its properties.
    """
    draft = label + DRAFT
    for kind in (p11.ObjectClass.PUBLIC_KEY, p11.ObjectClass.PRIVATE_KEY):
        for leftover in find(session, kind, draft):
            leftover.destroy()
    for orphan in find(session, p11.ObjectClass.PUBLIC_KEY, label):
        orphan.destroy()
    options: dict[str, Any] = {
        "store": True,
        "label": draft if renames else label,
        "id": hashlib.sha256(label.encode()).digest()[:8],
        "mechanism": MECHANISMS[algorithm].generate,
        "private_template": {
            p11.Attribute.TOKEN: True,
            p11.Attribute.PRIVATE: True,
            p11.Attribute.SENSITIVE: True,
            p11.Attribute.EXTRACTABLE: False,
            p11.Attribute.SIGN: True,
            p11.Attribute.DECRYPT: False,
            p11.Attribute.UNWRAP: False,
            p11.Attribute.DERIVE: False,
        },
        "public_template": {
            p11.Attribute.VERIFY: True,
            p11.Attribute.ENCRYPT: False,
            p11.Attribute.WRAP: False,
        },
    }
    if algorithm is Algorithm.RSA_PSS_3072:
        public, private = session.generate_keypair(p11.KeyType.RSA, RSA_BITS, **options)
    else:
        for template, names in _NOT_OF_CURVES.items():
            for name in names:
                options[template].pop(name)
        family, curve = _DOMAINS[algorithm]
        domain = session.create_domain_parameters(family, {p11.Attribute.EC_PARAMS: curve}, local=True)
        public, private = domain.generate_keypair(**options)
    if renames:
        public[p11.Attribute.LABEL] = label
        private[p11.Attribute.LABEL] = label


_DOMAINS = {
    Algorithm.P256: (p11.KeyType.EC, _P256),
    Algorithm.P384: (p11.KeyType.EC, _P384),
    Algorithm.ED25519: (p11.KeyType.EC_EDWARDS, _EDWARDS25519),
}
# Keys on curves neither encrypt nor wrap, and some tokens refuse to be told so.
_NOT_OF_CURVES = {
    "private_template": (p11.Attribute.DECRYPT, p11.Attribute.UNWRAP),
    "public_template": (p11.Attribute.ENCRYPT, p11.Attribute.WRAP),
}


def sign(private: Any, algorithm: Algorithm, data: bytes) -> bytes:
    """The signature in the form that verifiers read; hashed here, so that the token gets a digest alone.

    Ed25519 hashes twice and by itself (RFC 8032), so there the token gets the whole message.
    """
    mechanism = MECHANISMS[algorithm].sign
    if algorithm is Algorithm.ED25519:
        return bytes(private.sign(data, mechanism=mechanism))
    if algorithm is Algorithm.RSA_PSS_3072:
        parameters = (p11.Mechanism.SHA256, p11.MGF.SHA256, PSS_SALT_BYTES)
        digest = hashlib.sha256(data).digest()
        return bytes(private.sign(digest, mechanism=mechanism, mechanism_param=parameters))
    digest = hashlib.sha256(data).digest() if algorithm is Algorithm.P256 else hashlib.sha384(data).digest()
    raw: bytes = private.sign(digest, mechanism=mechanism)
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def refuse_copyable(private: Any, label: str) -> None:
    """Raises `Refused` KEY-EXTRACTABLE for a key that could be copied out or came from outside."""
    wanted = {p11.Attribute.SENSITIVE: True, p11.Attribute.EXTRACTABLE: False, p11.Attribute.LOCAL: True}
    wrong = [attribute.name for attribute, value in wanted.items() if bool(private[attribute]) is not value]
    if wrong:
        raise Refused(
            "KEY-EXTRACTABLE",
            f"the key {label!r} can be copied or came from outside this token ({', '.join(wrong)})",
            fix="create a key inside the token (garrison key create) and sign with that one",
        )


def put_data(session: p11.Session, label: str, data: bytes) -> None:
    """Replace the value of that label. The new object is written before old ones go, with a sequence number."""
    old = find(session, p11.ObjectClass.DATA, label)
    last = max((_unpack(item)[0] for item in old), default=0)
    session.create_object(
        {
            p11.Attribute.CLASS: p11.ObjectClass.DATA,
            p11.Attribute.TOKEN: True,
            p11.Attribute.PRIVATE: True,
            p11.Attribute.LABEL: label,
            p11.Attribute.VALUE: _pack(last + 1, data),
        }
    )
    for item in old:
        item.destroy()


def get_data(session: p11.Session, label: str) -> bytes | None:
    kept = [_unpack(item) for item in find(session, p11.ObjectClass.DATA, label)]
    sequence, data = max(kept, default=(0, b""))
    return data if sequence else None


def _pack(sequence: int, data: bytes) -> bytes:
    return sequence.to_bytes(8, "big") + hashlib.sha256(data).digest() + data


def _unpack(item: Any) -> tuple[int, bytes]:
    """(sequence, data) of a kept value; (0, nothing) for one that was half written."""
    value: bytes = item[p11.Attribute.VALUE]
    data = value[40:]
    if value[8:40] != hashlib.sha256(data).digest():
        return 0, b""
    return int.from_bytes(value[:8], "big"), data
