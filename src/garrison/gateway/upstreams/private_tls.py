"""TLS to a model server that has an authority of its own, or wants to see a certificate of ours. TLS 1.3 alone.

The certificate and its key are one PEM text that the control process and the broker hold in memory.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

from cryptography import x509

from garrison.trust.ca import load_leaf

MAX_PEM = 65_536  # bytes: some 30 certificates


def private_context(authorities: str, client: str) -> ssl.SSLContext:
    """Exactly the given authorities count, the system's when there are none. Raises `OSError` for unusable PEM."""
    context = ssl.create_default_context(cadata=authorities or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if client:
        load_leaf(context, client.encode("ascii"))
    return context


def check_authorities(pem: str) -> None:
    """Raises `ValueError`, which says why these are no authorities that could be believed today."""
    if not pem.isascii() or len(pem) > MAX_PEM:
        raise ValueError(f"the authority is not PEM of at most {MAX_PEM} bytes")
    if "PRIVATE KEY" in pem:
        raise ValueError("the authority's file holds a private key")
    try:
        found = x509.load_pem_x509_certificates(pem.encode("ascii"))
        private_context(pem, "")
    except (ValueError, OSError):
        raise ValueError("the authority is not a PEM file of certificates") from None
    _check_times(found, "the authority's certificate")


def check_client(pem: str) -> None:
    """Raises `ValueError`, never with what is in the text."""
    if "ENCRYPTED" in pem:  # the library would ask for the password at the terminal
        raise ValueError("holds a key under a password")
    try:
        found = x509.load_pem_x509_certificates(pem.encode("ascii"))
        private_context("", pem)
    except (ValueError, OSError):
        raise ValueError("does not hold a PEM certificate and the private key that fits it") from None
    _check_times(found[:1], "holds a certificate that")


def _check_times(certificates: list[x509.Certificate], what: str) -> None:
    now = datetime.now(UTC)
    if any(now >= each.not_valid_after_utc for each in certificates):
        raise ValueError(f"{what} has expired")
