"""Proxies in front of the gateway that may say who calls: an allow-list of certificates, and nobody else.

A listed proxy shows its client certificate, issued by our authority. It may name the caller in one header (who is
then called `PROXY|CALLER` and has what the entry gives, never an account of ours), and pass on the certificate that
its client showed. It is never taken for a caller itself. From anybody else the first header is refused and the second
is not read.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from garrison.core.decision import Subject
from garrison.trust.identity import MAX_NAME, Principal, refusal
from garrison.trust.mtls import Shown, read_shown
from garrison.trust.roles import ROLES, kind_of

CALLER = b"x-garrison-caller"
CLIENT = b"x-forwarded-client-cert"  # Envoy's, with the key Cert; other proxies are configured to write it so
MAX_PROXIES = 64
MAX_KNOWN = 8_192  # callers remembered per snapshot
MAX_CERTIFICATE = 8_192  # characters of one that is passed on; one of ours is about 1,200
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,31}\Z")
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_CALLER = re.compile(rb"[!-~]{1,95}\Z")  # one visible word: `PROXY|CALLER` stays a name of at most 128
_PEM = re.compile(rb'(?:[^";,]*;)*Cert="([A-Za-z0-9%%+/=\-_.]{1,%d})"(?:;[^";,]*)*\Z' % MAX_CERTIFICATE)
_KEYS = frozenset({"name", "workload", "certificate", "roles", "models", "clients"})


@dataclass(frozen=True, slots=True)
class Proxy:
    """One entry. It is known by `workload` (the name in its SPIFFE id), or by `certificate` (SHA-256, hex) alone.

    Callers that it names get `roles` and `models`; without a role it may name nobody. `clients` says that the
    certificates of its own clients count as if they had been shown here.
    """

    name: str
    workload: str
    certificate: str
    roles: frozenset[str]
    models: frozenset[str]
    clients: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "workload": self.workload,
            "certificate": self.certificate,
            "roles": sorted(self.roles),
            "models": sorted(self.models),
            "clients": self.clients,
        }


@dataclass(frozen=True, slots=True)
class Proxies:
    """All of a snapshot. `known` keeps the principal of a caller, so that its decisions are remembered too."""

    all: tuple[Proxy, ...] = ()
    known: dict[tuple[str, bytes, str], Principal] = field(default_factory=dict)

    def of(self, shown: Shown) -> Proxy | None:
        """The entry of who showed this certificate."""
        for proxy in self.all:
            if proxy.certificate:
                if proxy.certificate == _hex(shown.thumbprint):
                    return proxy
            elif proxy.workload == shown.name:
                return proxy
        return None


NONE = Proxies()


@dataclass(frozen=True, slots=True)
class Through:
    """What a request says by the connection it came over: whose certificate counts, and who was named."""

    proxy: Proxy | None
    certificate: bytes  # of the client, in DER; never the proxy's own
    caller: Principal | None = None


def parse_proxy(value: Any) -> Proxy:
    """An entry of the snapshot or the ledger. Raises `ValueError` or `TypeError` with words for an operator."""
    if not isinstance(value, dict) or set(value) != _KEYS:
        raise ValueError("it has other fields than " + ", ".join(sorted(_KEYS)))
    name, workload, certificate = value["name"], value["workload"], value["certificate"]
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError("the name is not a-z, 0-9, dot and dash, at most 32")
    if not isinstance(workload, str) or not isinstance(certificate, str) or len(workload) > MAX_NAME:
        raise TypeError("workload and certificate are words")
    if bool(workload) == bool(certificate) or (certificate and not _HASH.match(certificate)):
        raise ValueError(
            "it is known by a workload or by the SHA-256 of a certificate (64 hex digits), by one"
        )
    roles, models = _words(value["roles"]), _words(value["models"])
    if not roles <= ROLES.keys() or "admin" in roles:
        raise ValueError("a role that is not there, or admin")
    if not isinstance(value["clients"], bool):
        raise TypeError("clients is true or false")
    return Proxy(name, workload, certificate, roles, models, value["clients"])


def parse_proxies(values: Any) -> Proxies:
    """Raises `ValueError` or `TypeError`."""
    if not isinstance(values, list) or len(values) > MAX_PROXIES:
        raise TypeError("proxies")
    return Proxies(tuple(parse_proxy(value) for value in values)) if values else NONE


def look_through(
    headers: Mapping[bytes, bytes],
    certificate: bytes,
    proxies: Proxies,
    wall: float,
    revoked: tuple[frozenset[str], frozenset[str]],
) -> Through:
    """Who stands behind the connection. Raises `Refused` TOK-PROXY or TOK-REVOKED, answered with 401."""
    shown = read_shown(certificate) if certificate and proxies.all else None
    proxy = proxies.of(shown) if shown is not None else None
    if proxy is None or shown is None:
        if CALLER in headers:
            raise refusal("TOK-PROXY", "proxy")
        return Through(None, certificate)
    own = Principal(Subject("service", shown.name or proxy.name), shown.expires, shown.cert_id)
    if shown.expires <= wall or own.is_withdrawn(*revoked):
        raise refusal("TOK-REVOKED" if shown.expires > wall else "TOK-EXPIRED", "proxy", proxy.name)
    client = _client(headers.get(CLIENT), proxy)
    if CALLER not in headers:
        return Through(proxy, client)
    if b"authorization" in headers or b"x-api-key" in headers or not proxy.roles:
        raise refusal("TOK-PROXY", "two identities" if proxy.roles else "proxy", proxy.name)
    principal = _caller(headers[CALLER], proxy, shown, proxies)
    if principal.is_withdrawn(*revoked):
        raise refusal("TOK-REVOKED", "revoked", principal.subject.name)
    return Through(proxy, client, principal)


def _caller(value: bytes, proxy: Proxy, shown: Shown, proxies: Proxies) -> Principal:
    key = (proxy.name, value, shown.cert_id)
    known = proxies.known.get(key)
    if known is not None:
        return known
    if not _CALLER.match(value):
        raise refusal("TOK-PROXY", "shape", proxy.name)
    name = f"{proxy.name}|{value.decode('ascii')}"
    subject = Subject(kind_of(proxy.roles), name, proxy.roles, proxy.models, via=f"proxy {proxy.name}")
    if len(proxies.known) >= MAX_KNOWN:
        proxies.known.clear()
    # It ends with the proxy's certificate, and goes when that is revoked.
    found = proxies.known[key] = Principal(subject, shown.expires, shown.cert_id)
    return found


def _client(value: bytes | None, proxy: Proxy) -> bytes:
    """The certificate of the proxy's client in DER, when it may pass one on. Raises `Refused` TOK-PROXY."""
    if value is None or not value or not proxy.clients:
        return b""
    # More than one element, or anything else than exactly one certificate, could be read in two ways.
    found = _PEM.match(value)
    pem = unquote_to_bytes(found.group(1)) if found is not None else b""
    lines = pem.strip().splitlines()
    if (
        len(lines) < 3
        or lines[0] != b"-----BEGIN CERTIFICATE-----"
        or lines[-1] != b"-----END CERTIFICATE-----"
    ):
        raise refusal("TOK-PROXY", "certificate", proxy.name)
    try:
        return b64decode(b"".join(lines[1:-1]), validate=True)
    except ValueError:
        raise refusal("TOK-PROXY", "certificate", proxy.name) from None


def _hex(thumbprint: str) -> str:
    return b64decode(thumbprint + "=", altchars=b"-_").hex()


def _words(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > MAX_NAME or not all(isinstance(one, str) for one in value):
        raise TypeError("roles and models are lists of words")
    return frozenset(value)
