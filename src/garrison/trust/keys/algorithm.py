"""The four algorithms that a signing key may have, and what each of them means. There is no fifth.

    p256           ECDSA on P-256 over SHA-256 (FIPS 186-5); the default, and what every token can do
    p384           ECDSA on P-384 over SHA-384
    rsa-pss-3072   RSASSA-PSS, 3072 bits, exponent 65537, SHA-256, MGF1 with SHA-256, salt of 32 bytes (RFC 8017)
    ed25519        Ed25519, pure (RFC 8032)

Nothing is negotiated: the algorithm follows from the key, and never from what a message says of itself.
"""

from __future__ import annotations

from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

AnyPublicKey = ec.EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey

RSA_BITS = 3072
RSA_EXPONENT = 65_537
PSS_SALT_BYTES = 32  # the length of the hash, as RFC 8017 section 9.1 advises


class Algorithm(StrEnum):
    P256 = "p256"
    P384 = "p384"
    RSA_PSS_3072 = "rsa-pss-3072"
    ED25519 = "ed25519"

    @property
    def display(self) -> str:
        return _TITLES[self]

    @property
    def is_interchangeable(self) -> bool:
        """Whether `model_signing` verifies bundles by such a key: it reads elliptic curves of ECDSA alone."""
        return self in (Algorithm.P256, Algorithm.P384)


_TITLES = {
    Algorithm.P256: "EC P-256",
    Algorithm.P384: "EC P-384",
    Algorithm.RSA_PSS_3072: "RSA-PSS 3072",
    Algorithm.ED25519: "Ed25519",
}
_MAX_SIGNATURE = {  # bytes; the two of ECDSA are DER, whose length varies
    Algorithm.P256: 72,
    Algorithm.P384: 104,
    Algorithm.RSA_PSS_3072: 384,
    Algorithm.ED25519: 64,
}


def algorithm_of(key: object) -> Algorithm | None:
    """The algorithm of a public key; None when Garrison uses no such keys. Size, curve and exponent count."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1):
            return Algorithm.P256
        return Algorithm.P384 if isinstance(key.curve, ec.SECP384R1) else None
    if isinstance(key, RSAPublicKey):
        fits = key.key_size == RSA_BITS and key.public_numbers().e == RSA_EXPONENT
        return Algorithm.RSA_PSS_3072 if fits else None
    return Algorithm.ED25519 if isinstance(key, Ed25519PublicKey) else None


def pss_padding() -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=PSS_SALT_BYTES)


def is_signature(key: AnyPublicKey, algorithm: Algorithm, data: bytes, signature: bytes) -> bool:
    """Whether `signature` is that key's over `data`, by the one algorithm that the key has. Never raises."""
    if len(signature) > _MAX_SIGNATURE[algorithm]:
        return False
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            hashed = SHA256() if algorithm is Algorithm.P256 else SHA384()
            key.verify(signature, data, ec.ECDSA(hashed))
        elif isinstance(key, RSAPublicKey):
            key.verify(signature, data, pss_padding(), SHA256())
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return True
