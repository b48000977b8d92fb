"""What stands in front of a plane in tests: certificates of its authority, and a client that shows them."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.gateway.rig import WAIT, Answer, Rig, chat, parse_answer, read_answer

from garrison.trust.ca import LocalAuthority, issue_server, open_authority, server_context
from garrison.trust.keys.file import FileSigner
from garrison.trust.mtls import issue_client, read_shown


@dataclass(frozen=True)
class Shown:
    """A certificate with its key, in one PEM file and apart."""

    certificate: x509.Certificate
    path: Path
    key: Path

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.der).hexdigest()

    @property
    def thumbprint(self) -> str:
        return read_shown(self.der).thumbprint

    @property
    def id(self) -> str:
        return read_shown(self.der).cert_id

    @property
    def passed_on(self) -> str:
        return f'Cert="{quote(self.certificate.public_bytes(Encoding.PEM), safe="")}"'


@dataclass
class Front:
    """A plane over TLS, the authority that it believes, and what proxies and clients need of it."""

    rig: Rig
    room: Path
    authority: LocalAuthority
    made: dict[str, Shown] = field(default_factory=dict)

    @property
    def ca(self) -> Path:
        return self.room / "ca.pem"

    def client(self, name: str, **ttl: Any) -> Shown:
        """A client certificate for `spiffe://garrison/NAME`; another one for each call with a lifetime."""
        if name in self.made and not ttl:
            return self.made[name]
        key = ec.generate_private_key(ec.SECP256R1())
        request = (
            x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
        ).public_bytes(Encoding.PEM)
        signed = issue_client(
            self.authority.certificate,
            self.authority.signer,
            request,
            name,
            datetime.now(UTC),
            timedelta(hours=1),
        )
        self.made[name] = self._kept(
            f"client-{name}-{len(self.made)}", signed.public_bytes(Encoding.PEM), key
        )
        return self.made[name]

    def server(self) -> Shown:
        """A certificate for a proxy's own listener."""
        issued = issue_server(
            self.authority.certificate,
            self.authority.signer,
            "front",
            dns=["localhost"],
            ips=["127.0.0.1"],
            now=datetime.now(UTC),
        )
        path, key = self.room / "front.pem", self.room / "front.key"
        path.write_bytes(issued.chain)
        key.write_bytes(issued.key)
        return Shown(x509.load_pem_x509_certificate(issued.chain), path, key)

    def _kept(self, stem: str, pem: bytes, private: ec.EllipticCurvePrivateKey) -> Shown:
        path, key = self.room / f"{stem}.pem", self.room / f"{stem}.key"
        path.write_bytes(pem)
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Shown(x509.load_pem_x509_certificate(pem), path, key)

    def context(self, shown: Shown | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        if shown is not None:
            context.load_cert_chain(shown.path, shown.key)
        return context

    def trusts(self, **changes: Any) -> None:
        """Publish an allow-list of one: the proxy `front`, which names callers."""
        entry = {
            "name": "front",
            "workload": "front",
            "certificate": "",
            "roles": ["user"],
            "models": [],
            "clients": False,
        }
        self.rig.published(proxies=[{**entry, **changes}])

    def ask(
        self,
        body: Any = None,
        *,
        shown: Shown | None = None,
        path: str = "/v1/chat/completions",
        token: str | None = None,
        method: str = "POST",
        **headers: str,
    ) -> Answer:
        """One request over TLS, with a certificate when there is one."""
        data = self.rig.request(
            chat() if body is None else body, path=path, token=token, method=method, **headers
        )
        return parse_answer(self.raw(data, shown))

    def raw(self, data: bytes, shown: Shown | None = None) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", self.rig.port), timeout=WAIT) as plain,
            self.context(shown).wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.sendall(data)
            return read_answer(client)


def front_of(make_rig: Callable[..., Rig], room: Path, **settings: Any) -> Front:
    """A plane whose listener speaks TLS 1.3 and takes certificates of its authority."""
    room.mkdir(exist_ok=True)
    authority = open_authority(FileSigner("ca"), room / "ca.pem")
    tls = server_context(authority.issue_server(["localhost", "127.0.0.1"], hours=1))
    return Front(make_rig(tls=tls, **settings), room, authority)


def said(answer: Answer) -> dict[str, Any]:
    return dict(json.loads(answer.body)["error"])
