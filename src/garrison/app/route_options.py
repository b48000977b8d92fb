"""What `route add` may say beside an address: the vendor's kind, its key, how answers are inspected, more servers.

The options are kept as the canonical JSON of a closed set of fields, told by the ledger with the route. They name
the file of a key, never the key.
"""

from __future__ import annotations

import json
from typing import Any

from garrison.app.broker import read_client, read_key
from garrison.core.digest import canonical_json
from garrison.core.errors import GarrisonError, Usage
from garrison.gateway.rules import parse_rules
from garrison.gateway.upstreams.address import parse_address
from garrison.gateway.upstreams.kinds import KINDS
from garrison.gateway.upstreams.private_tls import check_authorities

PLAIN = ("stream", "found", "images", "unsure", "traces")
_SERVER = frozenset(
    {"id", "kind", "address", "model", "weight", "order", "tier", "key_file", "region", "digest"}
    | {"ca", "client_file"}
)
_BROKERED = ("key_file", "region", "ca", "client_file")  # what the broker is told, and no worker


def parse_options(options: dict[str, Any], name: str, upstream: str, tier: str) -> str:
    """The options as they are kept; empty when there are none. Raises `Usage` ROUTE-OPTION, `Refused` ROUTE-KEY."""
    given = {key: value for key, value in options.items() if value not in (None, "", False, [])}
    kept = {key: given[key] for key in PLAIN if key in given}
    servers = given.get("upstreams") or ([_single(given, upstream)] if _needs_kind(given, upstream) else [])
    if servers:
        kept["upstreams"] = [_server(server) for server in servers]
    try:
        parse_rules(_route(name, upstream, tier, kept)[0], broker="unix:/checked")
        for server in kept.get("upstreams", []):
            parse_address(server["address"])
    except (ValueError, TypeError, KeyError, GarrisonError) as error:
        raise Usage(
            "ROUTE-OPTION",
            f"these options make no route: {error}",
            fix="garrison route add --help shows one of each kind",
        ) from None
    return canonical_json(kept).decode() if kept else ""


def _needs_kind(given: dict[str, Any], upstream: str) -> bool:
    return bool(given.keys() & {"kind", "model", *_BROKERED}) or upstream.startswith("https://")


def _single(given: dict[str, Any], upstream: str) -> dict[str, Any]:
    known = {key: value for key, value in given.items() if key in ("model", *_BROKERED)}
    return {"id": "main", "kind": given.get("kind", "openai"), "address": upstream, **known}


def _server(server: Any) -> dict[str, Any]:
    if not isinstance(server, dict) or not _SERVER.issuperset(server) or server.get("kind") not in KINDS:
        raise Usage(
            "ROUTE-OPTION",
            f"a server has other fields than {', '.join(sorted(_SERVER))}, or a kind that is not known",
            fix=f"choose a kind of {', '.join(sorted(KINDS))}",
        )
    if "key_file" in server:
        if not str(server["key_file"]).startswith("/"):
            raise Usage("ROUTE-OPTION", "a key file is named by its whole path", fix="begin it with /")
        read_key(str(server["key_file"]))  # refused here rather than by every request
        if not str(server.get("address", "")).startswith("https://") and not _is_here(server):
            raise Usage(
                "ROUTE-OPTION",
                "a key is sent over https:// only",
                fix="give the https:// address of the server",
            )
    if "ca" in server or "client_file" in server:
        _check_tls(server)
    return server


def _check_tls(server: dict[str, Any]) -> None:
    """Raises `Usage` ROUTE-OPTION, `Refused` ROUTE-KEY."""
    if not str(server.get("address", "")).startswith("https://"):
        raise Usage(
            "ROUTE-OPTION",
            "certificates are for https:// only",
            fix="give the https:// address of the server",
        )
    if server["kind"] != "openai" and "key_file" not in server:
        raise Usage("ROUTE-OPTION", f"{server['kind']} wants a key too", fix="add --key-file FILE")
    if "client_file" in server:
        if not str(server["client_file"]).startswith("/"):
            raise Usage(
                "ROUTE-OPTION", "a client certificate is named by its whole path", fix="begin it with /"
            )
        read_client(str(server["client_file"]))
    if "ca" in server:
        try:
            check_authorities(str(server["ca"]))
        except ValueError as error:
            raise Usage(
                "ROUTE-OPTION", str(error), fix="give the PEM file of the server's authority with --ca"
            ) from None


def _is_here(server: dict[str, Any]) -> bool:
    return str(server.get("address", "")).startswith(("http://127.0.0.1:", "http://localhost:"))


def snapshot_route(
    name: str, upstream: str, tier: str, options: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the snapshot says of a route with options, and the keys that the broker needs for it."""
    return _route(name, upstream, tier, json.loads(options) if options else {})


def _route(
    name: str, upstream: str, tier: str, kept: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    route: dict[str, Any] = {"name": name, "address": upstream, "tier": tier}
    route |= {key: kept[key] for key in PLAIN if key in kept}
    keys: dict[str, Any] = {}
    shown = []
    for server in kept.get("upstreams", []):
        facts = {key: value for key, value in server.items() if key not in _BROKERED}
        if any(name in server for name in ("key_file", "ca", "client_file")):
            key = facts["key"] = f"{name}.{server['id']}"
            keys[key] = {
                "kind": server["kind"],
                "address": server["address"],
                "models": [server.get("model") or name],
                **{each: server.get(each, "") for each in _BROKERED},
            }
        shown.append(facts)
    if shown:
        route["upstreams"] = shown
    return route, keys
