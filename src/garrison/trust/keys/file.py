"""A signing key in this process's memory, for development and tests only.

It can only be generated: there is no way to hand it a private key from a file or a variable, because a
key that can be read once can be copied for ever. It is gone when the process ends.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from garrison.trust.keys.public import key_id_of, public_pem


class FileSigner:
    """A `Signer` without a token. Production wiring never builds one."""

    __slots__ = ("_key", "key_id", "label")

    def __init__(self, label: str) -> None:
        self.label = label
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.key_id = key_id_of(self._key.public_key())

    def public_pem(self) -> bytes:
        return public_pem(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, ec.ECDSA(SHA256()))

    def __repr__(self) -> str:
        return f"FileSigner({self.label!r}, {self.key_id[:16]}…)"
