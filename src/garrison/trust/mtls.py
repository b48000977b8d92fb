"""Client certificates of workloads: issued short by the local authority, known by one SPIFFE name, bound to tokens.

The TLS layer has checked chain, dates, purpose and strength before anything here looks; this file reads names. A
certificate names exactly one workload of this authority's trust domain, or none.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from garrison.core.errors import Refused, Usage
from garrison.trust.ca import TokenPrivateKey, authority_id, builder, key_usage
from garrison.trust.keys.base import Signer

DOMAIN = "garrison"  # the trust domain of the local authority (SPIFFE ID, section 2.1)
PREFIX = f"spiffe://{DOMAIN}/"
CLIENT_LIFETIME = timedelta(hours=24)  # also the longest: a revocation is remembered for a day
MAX_REQUEST = 16 * 1024  # bytes of a signing request; one is about 500
MIN_RSA_BITS = 3_072
_CURVES = (ec.SECP256R1, ec.SECP384R1)


@dataclass(frozen=True, slots=True)
class Shown:
    """A client certificate that TLS accepted. `name` is the workload's, empty when it names none of ours."""

    thumbprint: str  # base64url of the SHA-256, as tokens are bound to it (RFC 8705 section 3.1)
    cert_id: str  # what it is revoked by
    name: str
    expires: float


def issue_client(
    authority: x509.Certificate,
    signer: Signer,
    request: bytes,
    name: str,
    now: datetime,
    ttl: timedelta = CLIENT_LIFETIME,
) -> x509.Certificate:
    """A client certificate for the key in a PKCS#10 request; everything else in the request is left out.

    Raises `Usage` CERT-REQUEST, `Refused` CERT-WEAK or CA-TTL.
    """
    if not timedelta(0) < ttl <= CLIENT_LIFETIME:
        raise Refused(
            "CA-TTL",
            f"a client certificate does not live {ttl}",
            fix="ask for at most 24h; certificates are renewed, not kept",
        )
    try:
        asked = x509.load_pem_x509_csr(request[:MAX_REQUEST])
        is_own = asked.is_signature_valid
        key = asked.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        is_own = False
    if not is_own:
        raise Usage(
            "CERT-REQUEST",
            "that is not a signing request whose key signed it (PKCS#10, PEM)",
            fix="openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout KEY -subj / -out CSR",
        )
    strong = (
        (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES))
        or (isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS)
        or isinstance(key, Ed25519PublicKey)
    )
    if not strong:
        raise Refused(
            "CERT-WEAK",
            "the key of the signing request is of no strong kind",
            fix=f"use EC P-256 or P-384, Ed25519, or RSA of at least {MIN_RSA_BITS} bits",
        )
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | Ed25519PublicKey)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    ends = min(now + ttl, authority.not_valid_after_utc)
    return (
        builder(subject, authority.subject, key, now, ends)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(PREFIX + name)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(authority_id(authority), critical=False)
        .sign(TokenPrivateKey(signer), SHA256())
    )


@lru_cache(maxsize=1_024)
def read_shown(der: bytes) -> Shown:
    """What a certificate says. Never raises: one that cannot be read names nobody."""
    digest = hashlib.sha256(der)
    thumbprint = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
    cert_id = digest.hexdigest()[:32]
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        expires = certificate.not_valid_after_utc.timestamp()
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return Shown(thumbprint, cert_id, "", 0.0)
    # SPIFFE X509-SVID section 2: exactly one URI.
    name = uris[0].removeprefix(PREFIX) if len(uris) == 1 and uris[0].startswith(PREFIX) else ""
    return Shown(thumbprint, cert_id, name, expires)
