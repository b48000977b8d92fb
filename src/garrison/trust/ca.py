"""The local certificate authority: its key is in the token, its leaves live minutes to days, in memory.

ECDSA P-256 throughout, path length 0 (RFC 5280), TLS 1.3 only (RFC 8446). A leaf's private key is made
in this process, handed to OpenSSL through a memory file and never touches a disk.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from garrison.core.errors import Refused, Usage
from garrison.trust.keys.base import Signer
from garrison.trust.keys.public import key_id_of, parse_public

CA_LIFETIME = timedelta(days=730)
CA_RENEWAL = timedelta(
    days=60
)  # a certificate with less left than this is renewed at start, same key and name
LEAF_LIFETIME = timedelta(days=7)
MAX_LEAF_LIFETIME = timedelta(days=30)
BACKDATE = timedelta(minutes=5)  # clocks of clients may be this far behind
MAX_CA_FILE = 64 * 1024  # bytes; a certificate of ours is below 1 KiB


@dataclass(frozen=True, slots=True)
class Issued:
    """A leaf: PEM chain (leaf, then CA), PEM private key in memory only, and when it ends."""

    chain: bytes
    key: bytes = field(repr=False)
    not_after: datetime


@dataclass(frozen=True, slots=True)
class LocalAuthority:
    """The CA certificate together with the key that signs for it and a clock."""

    certificate: x509.Certificate
    signer: Signer
    now: Callable[[], datetime]

    def issue_server(self, names: Sequence[str], *, hours: float) -> Issued:
        """A leaf for host names and addresses, mixed as people write them. Raises CA-NAME, CA-TTL."""
        ips = [name for name in names if _is_address(name)]
        dns = [name for name in names if not _is_address(name)]
        ttl = timedelta(hours=hours)
        return issue_server(
            self.certificate, self.signer, "garrison", dns=dns, ips=ips, now=self.now(), ttl=ttl
        )


def open_authority(
    signer: Signer, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> LocalAuthority:
    """The authority whose certificate is at `path`, made on first use. Raises `Refused` CA-MISMATCH."""
    return LocalAuthority(ensure_ca(path, signer, now()), signer, now)


def ensure_ca(path: Path, signer: Signer, now: datetime) -> x509.Certificate:
    """The CA certificate at `path`, made on first use and renewed with the same key before it ends.

    Raises `Refused` CA-MISMATCH when the file there is something else than a certificate of this key:
    replacing it silently would change whom clients trust.
    """
    known = _read(path, signer)
    if known is not None and known.not_valid_after_utc - now > CA_RENEWAL:
        return known
    certificate = _self_signed(signer, now)
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(certificate.public_bytes(Encoding.PEM))
    draft.replace(path)
    return certificate


def issue_server(
    authority: x509.Certificate,
    signer: Signer,
    common_name: str,
    *,
    dns: Sequence[str] = (),
    ips: Sequence[str] = (),
    now: datetime,
    ttl: timedelta = LEAF_LIFETIME,
) -> Issued:
    """A server certificate for names and addresses, signed by the CA's key in the token.

    Raises `Usage` CA-NAME for a leaf without a usable name, `Refused` CA-TTL for one that lives too long.
    """
    if not timedelta(0) < ttl <= MAX_LEAF_LIFETIME:
        raise Refused(
            "CA-TTL",
            f"a leaf certificate does not live {ttl}",
            fix=f"ask for at most {MAX_LEAF_LIFETIME.days} days; leaves are renewed, not kept",
        )
    try:
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
        names += [x509.IPAddress(ip_address(address)) for address in ips]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        if not names:
            raise ValueError("no name")
    except ValueError as error:
        raise Usage(
            "CA-NAME",
            f"not names that a certificate can carry: {common_name!r} {list(dns)} {list(ips)}",
            fix="give at least one DNS name or IP address; a common name has 1 to 64 characters",
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    ends = min(now + ttl, authority.not_valid_after_utc)
    certificate = (
        builder(subject, authority.subject, key.public_key(), now, ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority_id(authority), critical=False)
        .sign(TokenPrivateKey(signer), SHA256())
    )
    certificate.verify_directly_issued_by(authority)
    chain = certificate.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
    return Issued(chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), ends)


def server_context(issued: Issued) -> ssl.SSLContext:
    """TLS 1.3 and nothing else, with the leaf's key loaded from memory."""
    descriptor = memory_file(issued)
    try:
        return server_context_from(descriptor)
    finally:
        os.close(descriptor)


def memory_file(issued: Issued) -> int:
    """A descriptor of an anonymous memory file that holds key and chain; the caller closes it.

    It is closed in children unless it is named to them (`pass_fds`), as is done for gateway workers.
    """
    descriptor = os.memfd_create("garrison-tls", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(issued.key + issued.chain)
    return descriptor


def server_context_from(descriptor: int) -> ssl.SSLContext:
    """The context from an inherited `memory_file`. The descriptor stays open and can be used again."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    path = f"/proc/self/fd/{descriptor}"
    context.load_cert_chain(path)
    # A client may show a certificate, and then it has to be one that our authority issued for clients.
    with open(path, "rb") as file:
        last = file.read(MAX_CA_FILE).rpartition(b"-----BEGIN CERTIFICATE-----")
    context.load_verify_locations(cadata=(last[1] + last[2]).decode("ascii"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    return context


def load_leaf(context: ssl.SSLContext, pem: bytes) -> None:
    """Give a context its certificate and key, which lie in memory alone."""
    descriptor = os.memfd_create("garrison-tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class TokenPrivateKey(ec.EllipticCurvePrivateKey):
    """A `Signer` in the shape that `cryptography` asks of a private key. It signs; it has nothing to show."""

    def __init__(self, signer: Signer) -> None:
        public = parse_public(signer.public_pem())
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise TypeError("the CA signs with ECDSA")
        self._signer = signer
        self._public = public

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        if not isinstance(signature_algorithm, ec.ECDSA) or not isinstance(
            signature_algorithm.algorithm, SHA256
        ):
            raise TypeError("keys in the token sign with ECDSA over SHA-256 only")
        return self._signer.sign(bytes(data))

    # The arguments of the next two are cryptography's to name; there is nothing to do with them.
    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:  # noqa: ARG002 - named by cryptography
        raise TypeError("a key in the token signs and does nothing else")

    def private_numbers(self) -> NoReturn:
        raise TypeError("a private key does not leave its token")

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:  # noqa: ARG002 - named by cryptography
        raise TypeError("a private key does not leave its token")

    def __copy__(self) -> TokenPrivateKey:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> TokenPrivateKey:
        return self


def _read(path: Path, signer: Signer) -> x509.Certificate | None:
    """The certificate at `path` if it is this key's; None when there is no file."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream:
            certificate = x509.load_pem_x509_certificate(stream.read(MAX_CA_FILE))
        public = certificate.public_key()
        if isinstance(public, ec.EllipticCurvePublicKey) and key_id_of(public) == signer.key_id:
            certificate.verify_directly_issued_by(certificate)
            return certificate
        problem = "it belongs to another key"
    except (OSError, ValueError, TypeError) as error:
        problem = f"it can't be read as a certificate ({type(error).__name__})"
    raise Refused(
        "CA-MISMATCH",
        f"{path} is not the certificate of the CA key in the token: {problem}",
        fix="if the token was replaced on purpose, move that file away, start again, and give clients the new one",
    )


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _self_signed(signer: Signer, now: datetime) -> x509.Certificate:
    key = TokenPrivateKey(signer)
    # The key's own id makes the name unique, so that two machines' authorities are never mixed up.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Garrison local CA {signer.key_id[:12]}")])
    return (
        builder(name, name, key.public_key(), now, now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, SHA256())
    )


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | Ed25519PublicKey,
    now: datetime,
    ends: datetime,
    begins: datetime | None = None,
) -> x509.CertificateBuilder:
    """What every certificate of ours begins with."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - BACKDATE)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def authority_id(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def key_usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names})


def fingerprint(certificate: x509.Certificate) -> str:
    """`sha256:<hex>` of the DER certificate, as people compare it."""
    return "sha256:" + hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
