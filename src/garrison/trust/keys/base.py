"""The protocol of whatever signs: a key with a name that never shows its private half."""

from __future__ import annotations

from typing import Protocol


class Signer(Protocol):
    """ECDSA on P-256 over SHA-256 (FIPS 186-5).

    `key_id` is the hexadecimal SHA-256 of the DER SubjectPublicKeyInfo, `label` the key's role
    (`release`, `ledger`, `root`, `approver.dana`, ...).
    """

    @property
    def key_id(self) -> str: ...

    @property
    def label(self) -> str: ...

    def public_pem(self) -> bytes:
        """The public half, PEM SubjectPublicKeyInfo."""

    def sign(self, data: bytes) -> bytes:
        """The DER signature (r, s) over SHA-256(data).

        Raises `Undecided` KEY-UNAVAILABLE or KEY-PIN when the token does not answer; never a partial result.
        """
