"""Show bad certificates at every hop between services, in both directions, and count how many are taken.

The hops over TCP are the gateway's listener (a workload's certificate) and a client of it (the gateway's own). Every
other hop is a Unix socket of this user's: the kernel says who is at the other end, and there is no certificate.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from garrison.trust.ca import TokenPrivateKey, builder, key_usage
from garrison.trust.keys.base import Signer
from garrison.trust.mtls import PREFIX

SECONDS = 10.0
NOBODY = "mesh-check"  # the workload that the certificates name; it has no account
_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Bad:
    """One certificate with its key, and what is wrong with it."""

    defect: str
    pem: bytes


@dataclass(slots=True)
class Forge:
    """Makes certificates that are right but for one thing. `client` says which end they are for."""

    authority: x509.Certificate
    signer: Signer
    now: datetime
    client: bool
    host: str = "127.0.0.1"

    def good(self) -> Bad:
        return self._made("none")

    def all(self) -> Iterator[Bad]:
        day = timedelta(days=1)
        other = ec.generate_private_key(ec.SECP256R1())
        yield self._made("expired", begins=self.now - 2 * day, ends=self.now - day)
        yield self._made("not yet valid", begins=self.now + day, ends=self.now + 2 * day)
        yield self._made("wrong CA", signing=other)
        yield self._made("self-signed", is_self_signed=True)
        yield self._made("wrong SAN", san="spiffe://elsewhere/admin" if self.client else "other.example")
        yield self._made("wrong usage", usage=_SERVER if self.client else _CLIENT)
        yield self._made("weak key", key=rsa.generate_private_key(65_537, 1_024))  # noqa: S505 - weak on purpose

    def _made(
        self,
        defect: str,
        *,
        begins: datetime | None = None,
        ends: datetime | None = None,
        signing: ec.EllipticCurvePrivateKey | None = None,
        is_self_signed: bool = False,
        san: str = "",
        usage: x509.ObjectIdentifier | None = None,
        key: _Key | None = None,
    ) -> Bad:
        key = key or ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NOBODY)])
        issuer = name if is_self_signed else self.authority.subject
        until = ends or self.now + timedelta(hours=1)
        leaf = (
            builder(name, issuer, key.public_key(), self.now, until, begins)
            .add_extension(x509.SubjectAlternativeName([self._name(san)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(digital_signature=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([usage or (_CLIENT if self.client else _SERVER)]), critical=False
            )
            .add_extension(self._issuer_id(key if is_self_signed else signing), critical=False)
            .sign(key if is_self_signed else signing or TokenPrivateKey(self.signer), SHA256())
        )
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Bad(defect, secret + leaf.public_bytes(Encoding.PEM))

    def _name(self, san: str) -> x509.GeneralName:
        if self.client:
            return x509.UniformResourceIdentifier(san or PREFIX + NOBODY)
        return x509.DNSName(san or "localhost")

    def _issuer_id(self, key: _Key | None) -> x509.AuthorityKeyIdentifier:
        if key is not None:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        known = self.authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def at_the_gateway(host: str, port: int, ca: Path, shown: Bad) -> str:
    """What a client with this certificate meets: `tls` when it is turned away there, else the HTTP status."""
    context = client_context(ca)
    with tempfile.TemporaryDirectory() as place, contextlib.suppress(ssl.SSLError):
        file = Path(place) / "client.pem"
        file.touch(0o600)
        file.write_bytes(shown.pem)
        context.set_ciphers("DEFAULT@SECLEVEL=0")  # this end would refuse to show a weak key
        context.load_cert_chain(file)
    connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    try:
        connection.request("GET", "/v1/models")
        with connection.getresponse() as answer:
            return str(answer.status)
    except (OSError, http.client.HTTPException):
        return "tls"
    finally:
        connection.close()


def by_a_client(ca: Path, shown: Bad) -> str:
    """Whether a client of ours goes on with a server that shows this certificate: `tls` or `accepted`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "server.pem"
        file.touch(0o600)
        file.write_bytes(shown.pem)
        context.load_cert_chain(file)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        serving = threading.Thread(target=_serve_once, args=(listener, context))
        serving.start()
        try:
            with (
                socket.create_connection(listener.getsockname()[:2], timeout=SECONDS) as raw,
                client_context(ca).wrap_socket(raw, server_hostname="localhost"),
            ):
                return "accepted"
        except (ssl.SSLError, ConnectionError):
            return "tls"
        finally:
            serving.join()


def client_context(ca: Path) -> ssl.SSLContext:
    """How services of ours call each other: TLS 1.3, the local authority, the name checked."""
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    return context


def check(forge: Callable[[bool], Forge], host: str, port: int, ca: Path) -> list[dict[str, Any]]:
    """Both directions of the hop over TCP: each defect with what was met. A good certificate has to be let in."""
    rows = []
    for client in (True, False):
        making = forge(client)
        meets = {
            bad.defect: at_the_gateway(host, port, ca, bad) if client else by_a_client(ca, bad)
            for bad in (making.good(), *making.all())
        }
        control = meets.pop("none")
        taken = [defect for defect, met in meets.items() if met in ("200", "accepted")]
        rows.append(
            {
                "hop": "client -> gateway" if client else "gateway -> client",
                "transport": "TLS 1.3, client certificate" if client else "TLS 1.3, server certificate",
                "good_certificate": "let in" if control in ("401", "accepted") else f"turned away: {control}",
                "tried": len(meets),
                "accepted": taken,
                "met": meets,
            }
        )
    return rows


def _serve_once(listener: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError):
        raw, _ = listener.accept()
        with raw, contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as wrapped:
            wrapped.recv(1)
