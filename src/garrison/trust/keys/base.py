"""The protocol of whatever signs: a key with a name that never shows its private half."""

from __future__ import annotations

from typing import Protocol

from garrison.trust.keys.algorithm import Algorithm


class Signer(Protocol):
    """A key with one algorithm.

    `key_id` is the hexadecimal SHA-256 of the DER SubjectPublicKeyInfo, `label` the key's name in its token
    (`release`, `ledger`, `root`, `approver.dana`, ...).
    """

    @property
    def key_id(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def algorithm(self) -> Algorithm: ...

    def public_pem(self) -> bytes:
        """The public half, PEM SubjectPublicKeyInfo."""

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`: DER for the two of ECDSA, raw bytes for RSA and Ed25519.

        Raises `Undecided` KEY-UNAVAILABLE or KEY-PIN when the token does not answer; never a partial result.
        """
