"""Certificates in a model signature: from the signer's up to an authority that the caller trusts.

A bundle brings its chain; only what `--ca` names is believed. Judged now, not at a time that the bundle
says: without a trusted time stamp a thief of an expired key writes any time there. So an expired
certificate is refused, which the specification asks for as well (8.2).

    authorities = load_authorities([Path("ca.pem")], now)
    key = signing_key(authorities, certificates)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from garrison.core.errors import Refused, Usage
from garrison.core.event import format_time
from garrison.trust.keys.algorithm import algorithm_of
from garrison.trust.keys.public import PublicKey, public_from_pem, public_pem
from garrison.trust.oms_listing import not_read_here

MAX_CHAIN = 8  # certificates in a bundle; two or three are usual
MAX_CERTIFICATE = 16 * 1024  # bytes of DER
MAX_CA_FILE = 1024 * 1024  # a file of system roots is a quarter of it
MIN_RSA_BITS = 2048
_HASHES = {"sha256", "sha384", "sha512"}  # SHA-1 certificates can be forged
_KNOWN_CRITICAL = {x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid}


@dataclass(frozen=True, slots=True)
class Authorities:
    """The certificates whose word counts, and the time at which to judge."""

    certificates: tuple[x509.Certificate, ...]
    now: datetime


def load_authorities(paths: Iterable[Path], now: datetime) -> Authorities:
    """Read PEM files of one or more CA certificates each. Raises `Usage` ART-CA."""
    found: list[x509.Certificate] = []
    for path in paths:
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_CA_FILE + 1)
            if len(data) > MAX_CA_FILE:
                raise ValueError("too large")
            found += x509.load_pem_x509_certificates(data)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "not a PEM file of certificates"
            raise Usage(
                "ART-CA", f"cannot use {path} as a CA: {why}", fix="give a PEM file with the CA's certificate"
            ) from error
    return Authorities(tuple(found), now)


def signing_key(authorities: Authorities, chain: Sequence[bytes]) -> PublicKey:
    """The key of the first certificate, once a path from it to an authority holds.

    Raises ValueError for bytes that are no certificates, `Refused` ART-CHAIN for a chain that does not
    hold, `Undecided` ART-SIGNATURE-FORM for a key of a kind that is not used here.
    """
    if not 0 < len(chain) <= MAX_CHAIN or any(len(der) > MAX_CERTIFICATE for der in chain):
        raise ValueError(f"expected one to {MAX_CHAIN} certificates of at most {MAX_CERTIFICATE:,} bytes")
    leaf, *others = [x509.load_der_x509_certificate(der) for der in chain]
    _check_leaf(leaf)
    _climb(leaf, others, authorities)
    key = leaf.public_key()
    if algorithm_of(key) is None:
        raise not_read_here("is by a certificate whose key is not EC P-256, P-384, RSA 3072 or Ed25519")
    return public_from_pem(public_pem(key), _name(leaf))  # type: ignore[arg-type]  # algorithm_of has narrowed it


def _climb(leaf: x509.Certificate, others: list[x509.Certificate], authorities: Authorities) -> None:
    """From certificate to issuer until an authority is reached; each certificate of the bundle once."""
    at, below, unused = leaf, 0, list(others)
    while True:
        _check_valid(at, authorities.now)
        if at in authorities.certificates:
            return  # an authority may vouch for a signer by naming its very certificate
        trusted = _issuer(at, authorities.certificates, below)
        if trusted is not None:
            _check_valid(trusted, authorities.now)
            return
        offered = _issuer(at, unused, below)
        if offered is None:
            raise _refused(f"no trusted CA has issued the certificate of {_name(at)}")
        unused.remove(offered)
        at, below = offered, below + 1


def _issuer(
    certificate: x509.Certificate, candidates: Sequence[x509.Certificate], below: int
) -> x509.Certificate | None:
    for candidate in candidates:
        if candidate.subject != certificate.issuer or not _may_issue(candidate, below):
            continue
        try:
            certificate.verify_directly_issued_by(candidate)
        except (InvalidSignature, ValueError, TypeError):
            continue
        if (
            certificate.signature_hash_algorithm is None
            or certificate.signature_hash_algorithm.name in _HASHES
        ):
            return candidate
    return None


def _may_issue(certificate: x509.Certificate, below: int) -> bool:
    """Whether it is a CA (RFC 5280, 4.2.1.3 and 4.2.1.9) with `below` more of them under it, of a sound key."""
    key = certificate.public_key()
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return False
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < 256:
        return False
    try:
        _check_critical(certificate)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError, Refused):
        return False
    deep_enough = constraints.path_length is None or constraints.path_length >= below
    return constraints.ca and usage.key_cert_sign and deep_enough


def _check_leaf(certificate: x509.Certificate) -> None:
    """A certificate for signing code or documents; one for a web server says nothing about models."""
    try:
        _check_critical(certificate)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        may_sign = usage.digital_signature
    except x509.ExtensionNotFound:
        may_sign = True  # an absent extension restricts nothing (RFC 5280, 4.2.1.3)
    except (x509.DuplicateExtension, ValueError) as error:
        raise ValueError("a certificate with unreadable extensions") from error
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        may_sign = may_sign and ExtendedKeyUsageOID.CODE_SIGNING in purposes
    except x509.ExtensionNotFound:
        pass
    if not may_sign:
        raise _refused(f"the certificate of {_name(certificate)} is not for signing code")


def _check_critical(certificate: x509.Certificate) -> None:
    """What is critical and not understood here is refused (RFC 5280, 4.2), such as name constraints."""
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            raise _refused(f"the certificate of {_name(certificate)} has a critical condition not read here")


def _check_valid(certificate: x509.Certificate, now: datetime) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now <= end:
        raise _refused(
            f"the certificate of {_name(certificate)} is valid from {format_time(start)} to {format_time(end)}"
        )


def _name(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return ascii(str(found[0].value))[1:-1][:200] if found else "a certificate without a name"


def _refused(why: str) -> Refused:
    return Refused(
        "ART-CHAIN",
        f"the signer's certificate does not count: {why}",
        fix="name the CA that issued it with --ca FILE, or ask the publisher to sign again",
    )
