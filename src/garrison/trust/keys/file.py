"""A signing key in this process's memory, for development and tests only.

It can only be generated: there is no way to hand it a private key from a file or a variable, because a
key that can be read once can be copied for ever. It is gone when the process ends.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from garrison.trust.keys.algorithm import RSA_BITS, RSA_EXPONENT, Algorithm, pss_padding
from garrison.trust.keys.public import key_id_of, public_pem

_AnyPrivateKey = ec.EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey


class FileSigner:
    """A `Signer` without a token. Production wiring never builds one."""

    __slots__ = ("_key", "algorithm", "key_id", "label")

    def __init__(self, label: str, algorithm: Algorithm = Algorithm.P256) -> None:
        self.label = label
        self.algorithm = algorithm
        self._key = _generate(algorithm)
        self.key_id = key_id_of(self._key.public_key())

    def public_pem(self) -> bytes:
        return public_pem(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            hashed = SHA256() if self.algorithm is Algorithm.P256 else SHA384()
            return self._key.sign(data, ec.ECDSA(hashed))
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(data, pss_padding(), SHA256())
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"FileSigner({self.label!r}, {self.key_id[:16]}…)"


def _generate(algorithm: Algorithm) -> _AnyPrivateKey:
    match algorithm:
        case Algorithm.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case Algorithm.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case Algorithm.RSA_PSS_3072:
            return generate_private_key(RSA_EXPONENT, RSA_BITS)
        case Algorithm.ED25519:
            return Ed25519PrivateKey.generate()
