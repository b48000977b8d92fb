"""Which hosts a server connects to by itself: those that somebody named, and no other.

What a command names for once (an import, a push) is not here: it connects when it is typed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from garrison.app.house import House
from garrison.runtime.store import Route, routes
from garrison.storage.database_record import read_record

LOCAL = frozenset({"", "localhost", "127.0.0.1", "::1"})


def outbound_hosts(house: House) -> dict[str, list[str]]:
    """Each host that is not this machine, with what it was named for: `{"logs.example": ["sink siem"]}`."""
    found: dict[str, list[str]] = {}
    for what, address in sorted(_named(house)):
        host = _host(address)
        if host not in LOCAL and what not in found.setdefault(host, []):
            found[host].append(what)
    return found


def _named(house: House) -> Iterator[tuple[str, str]]:
    settings, access = house.settings, house.people().access
    with house.database.read() as connection:
        for route in routes(connection):
            yield from ((f"route {route.name}", address) for address in _addresses(route))
    for name, sink in access.sinks.items():
        yield f"sink {name}", str(sink.get("url", ""))
    for issuer in access.issuers.values():
        yield f"issuer {issuer.name}", issuer.url
        yield f"issuer {issuer.name}", f"//{issuer.keys_host}"
    yield "limits_redis", settings.limits_redis
    if database := read_record(settings.data):
        yield "database", database.address
    if settings.store.startswith("s3://"):
        yield "store", settings.s3_endpoint or "https://s3.amazonaws.com"


def _addresses(route: Route) -> list[str]:
    """Where a route leads: its own address unless its options name several servers."""
    servers = json.loads(route.options or "{}").get("upstreams", [])
    return [str(server["address"]) for server in servers] or [route.upstream]


def _host(address: str) -> str:
    parts = urlsplit(address)
    return "" if parts.scheme in ("unix", "file") else (parts.hostname or "")
