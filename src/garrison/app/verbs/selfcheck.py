"""Verbs by which the server attacks itself: every route without a token, every hop with bad certificates."""

from __future__ import annotations

import http.client
import stat
from typing import Any

from garrison.app import mesh
from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.core.actions import Action
from garrison.core.event import Outcome
from garrison.gateway.doors import DOORS, MODELS
from garrison.trust.ca import ensure_ca

SECONDS = 10.0
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD")
PROBES = ("/livez", "/readyz")
OTHERS = (
    "/",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/admin",
    "/v1",
    "/v1/keys",
    "/v1/token.issue",
    "/health",
    "/info",
)
# What somebody without a token may try instead of one.
CREDENTIALS: tuple[dict[str, str], ...] = (
    {},
    {"Authorization": "Bearer "},
    {"Authorization": "Basic YWRtaW46YWRtaW4="},
    {
        "X-Forwarded-User": "admin",
        "X-Real-IP": "127.0.0.1",
        "X-Forwarded-For": "127.0.0.1",
        "Forwarded": "for=127.0.0.1",
    },
    {"X-API-Key": "", "X-Garrison-As": "root", "X-Forwarded-Client-Cert": "URI=spiffe://garrison/admin"},
)
_BODY = b'{"model": "x", "messages": [{"role": "user", "content": "hello"}], "input": "x", "prompt": "x"}'


def selftest(house: House, call: Call) -> dict[str, Any]:
    """Ask the gateway for everything without a token. Any answer 2xx but those of the probes is a finding."""
    authorise(house, call.subject, Action.GATEWAY_SELFTEST, "gateway")
    host, port = _own_address(house)
    context = mesh.client_context(house.settings.data / "ca.pem")
    routes = [*DOORS, MODELS, f"{MODELS}/x", *OTHERS]
    tried, opened, probes = 0, [], {}
    for target in (*routes, *PROBES):
        for method in METHODS:
            for credentials in CREDENTIALS:
                connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
                try:
                    body = _BODY if method in ("POST", "PUT") else None
                    headers = {"Content-Type": "application/json", **credentials}
                    connection.request(method, target, body=body, headers=headers)
                    with connection.getresponse() as answer:
                        status, length = answer.status, len(answer.read(1_024))
                finally:
                    connection.close()
                tried += 1
                if target in PROBES:
                    probes[target] = {"status": status, "bytes": length}
                elif 200 <= status < 300:
                    opened.append(f"{method} {target}")
    found = sorted(set(opened))
    facts: dict[str, Any] = {"tried": tried, "routes": len(routes), "answered": found}
    event = event_of(house, call, Action.GATEWAY_SELFTEST, "gateway", **facts)
    if found:
        event.data["reason"] = "something is answered without a token"
    audit_id = house.record(event)
    return {**facts, "probes": probes, "audit_id": audit_id}


def mesh_check(house: House, call: Call) -> dict[str, Any]:
    """Show bad certificates at each hop. Sockets of this machine are looked at for who may open them."""
    authorise(house, call.subject, Action.MESH_CHECK, "mesh")
    host, port = _own_address(house)
    signer, now, ca = house.token.signer("ca"), house.now(), house.settings.data / "ca.pem"
    authority = ensure_ca(ca, signer, now)
    rows = mesh.check(lambda client: mesh.Forge(authority, signer, now, client), host, port, ca)
    sockets = [
        _socket_row(path.name, path.stat().st_mode) for path in sorted(house.settings.run.rglob("*.sock"))
    ]
    is_whole = all(not row["accepted"] and row["good_certificate"] == "let in" for row in rows)
    is_whole = is_whole and all(row["closed"] for row in sockets)
    facts = {
        "accepted": sum(len(row["accepted"]) for row in rows),
        "tried": sum(row["tried"] for row in rows),
    }
    outcome = Outcome.ALLOWED if is_whole else Outcome.DENIED
    audit_id = house.record(house.event(Action.MESH_CHECK, "mesh", outcome=outcome, **facts))
    return {"hops": rows, "sockets": sockets, "whole": is_whole, "audit_id": audit_id}


def mesh_rotate(house: House, call: Call) -> dict[str, Any]:
    """New certificates for the gateway's workers now: each is replaced by one that answers already."""
    authorise(house, call.subject, Action.CERT_ISSUE, "gateway")
    house.rotate()
    return {"audit_id": house.record(event_of(house, call, Action.CERT_ISSUE, "gateway", rotated=True))}


def _socket_row(name: str, mode: int) -> dict[str, Any]:
    closed = not mode & (stat.S_IRWXG | stat.S_IRWXO)
    return {
        "socket": name,
        "mode": f"{stat.S_IMODE(mode):04o}",
        "closed": closed,
        "peer": "uid by the kernel",
    }


def _own_address(house: House) -> tuple[str, int]:
    host, port = house.settings.listen_address
    return ("127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host), port  # noqa: S104 - it is compared


SELFCHECK_VERBS = (
    Verb("gateway.selftest", Action.GATEWAY_SELFTEST, selftest),
    Verb("mesh.rotate", Action.CERT_ISSUE, mesh_rotate),
    Verb("mesh.check", Action.MESH_CHECK, mesh_check),
)
