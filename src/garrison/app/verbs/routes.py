"""Verbs about routes: models behind the gateway that something else serves."""

from __future__ import annotations

import json
import os
from typing import Any

from garrison.app.house import House
from garrison.app.route_options import parse_options
from garrison.app.verbs.base import Call, Verb, authorise
from garrison.artifacts import store as registry
from garrison.core.actions import Action
from garrison.core.decision import Tier
from garrison.core.digest import check_name
from garrison.core.errors import Refused, Undecided, Usage
from garrison.core.event import Event, Outcome
from garrison.gateway.upstreams.address import parse_address
from garrison.runtime import store

MAX_HOST = 260  # characters: 253 of a DNS name, a colon and a port
MAX_UNIX = 5 + 107  # bytes: "unix:" and the longest path of a socket, unix(7)
TASKS = frozenset({"chat", "completions", "embeddings", "infer"})


def route_add(house: House, call: Call) -> dict[str, Any]:
    name = check_name(call.text("name"))
    upstream = _address(call.text("upstream"))
    tasks = frozenset(call.texts("tasks")) or TASKS
    if not tasks <= TASKS:
        raise Usage(
            "ARG-MISSING", f"{sorted(tasks - TASKS)[0]} is not a task", fix=f"choose from {sorted(TASKS)}"
        )
    try:
        tier = Tier(call.text("tier"))
    except ValueError:
        raise Usage(
            "PAT-TIER", "that is not a sensitivity tier", fix=f"choose one of {[t.value for t in Tier]}"
        ) from None
    authorise(house, call.subject, Action.ROUTE_ADD, name)
    with house.database.read() as connection:
        if registry.latest_version(connection, name):
            raise Refused(
                "ROUTE-TAKEN",
                f"{name} is a model in the registry",
                fix="give the route a name of its own, so that nobody takes one for the other",
            )
    options = parse_options(call.facts("options"), name, upstream, tier.value)
    route = store.Route(name, upstream, tier, tasks, options)
    event = Event(
        time=house.now(),
        action=Action.ROUTE_ADD,
        actor=call.subject.actor,
        resource=name,
        outcome=Outcome.ALLOWED,
        data={
            "upstream": upstream,
            "tier": tier.value,
            "tasks": sorted(tasks),
            "via": call.subject.via,
            **({"options": options} if options else {}),
        },
    )
    with house.ledger.transaction() as transaction:
        store.save_route(transaction.connection, route, by=call.subject.actor, now=house.now())
        audit_id = transaction.append(event)
    house.publish_snapshot()
    return {"name": name, "upstream": upstream, "tier": tier.value, "audit_id": audit_id}


def route_remove(house: House, call: Call) -> dict[str, Any]:
    """Take a route away: from the next snapshot on its name is unknown. Requests in progress end as they would."""
    name = check_name(call.text("name"))
    authorise(house, call.subject, Action.ROUTE_REMOVE, name)
    with house.ledger.transaction() as transaction:
        if name not in {route.name for route in store.routes(transaction.connection)}:
            raise Refused("ROUTE-NONE", f"there is no route {name}", fix="garrison route list")
        store.remove_route(transaction.connection, name)
        event = Event(
            time=house.now(),
            action=Action.ROUTE_REMOVE,
            actor=call.subject.actor,
            resource=name,
            outcome=Outcome.ALLOWED,
            data={"via": call.subject.via},
        )
        audit_id = transaction.append(event)
    house.publish_snapshot()
    return {"name": name, "audit_id": audit_id}


def route_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "routes")
    return {"routes": shown(house)}


def shown(house: House) -> list[dict[str, Any]]:
    """Every route with its options; a file of a key is named, never read."""
    with house.database.read() as connection:
        routes = store.routes(connection)
    return [
        {
            "name": route.name,
            "upstream": route.upstream,
            "tier": route.tier.value,
            "tasks": sorted(route.tasks),
            "options": json.loads(route.options) if route.options else {},
        }
        for route in routes
    ]


def _address(url: str) -> str:
    """`unix:/path`, `http://host:port` or `https://host/base`; nothing with a query or credentials in it."""
    if url.startswith("https://"):
        try:
            parse_address(url)
        except Undecided as error:
            raise Usage("ROUTE-ADDRESS", error.what, fix="give https://HOST, or https://HOST/BASE") from None
        return url.rstrip("/")
    rest = url.removeprefix("http://").rstrip("/")
    host, colon, port = rest.rpartition(":")
    has_port = not colon or rest.endswith("]") or (bool(host) and port.isdecimal() and 0 < int(port) < 65_536)
    is_http = (
        url.startswith("http://")
        and bool(rest)
        and not set("/?#@ \\") & set(rest)
        and rest.isprintable()
        and len(rest) <= MAX_HOST
        and has_port
    )
    is_unix = (
        url.startswith("unix:/")
        and url.isprintable()
        and ".." not in url
        and len(os.fsencode(url)) <= MAX_UNIX
    )
    if not is_http and not is_unix:
        raise Usage(
            "ROUTE-ADDRESS",
            "that is not an address of a model server",
            fix="give http://HOST:PORT or unix:/PATH, without a path, a query or a password in it",
        )
    return url.rstrip("/")


ROUTE_VERBS = (
    Verb("route.add", Action.ROUTE_ADD, route_add),
    Verb("route.remove", Action.ROUTE_REMOVE, route_remove),
    Verb("route.list", Action.POSTURE_READ, route_list),
)
