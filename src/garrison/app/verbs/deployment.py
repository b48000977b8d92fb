"""Verbs about what serves: apply, roll back, stop, status, and routes to models run elsewhere."""

from __future__ import annotations

import json
import os
from typing import Any

from garrison.app import serving
from garrison.app.house import House
from garrison.app.route_options import parse_options
from garrison.app.serving import Order
from garrison.app.verbs.base import Call, Verb, authorise
from garrison.artifacts import store as registry
from garrison.artifacts.ownership import check_owner
from garrison.artifacts.registry import get
from garrison.core.actions import Action
from garrison.core.decision import Tier
from garrison.core.digest import Ref, check_name
from garrison.core.errors import Refused, Undecided, Usage
from garrison.core.event import Event, Outcome
from garrison.gateway.upstreams.address import parse_address
from garrison.runtime import store
from garrison.trust.tuf import entries

MAX_HOST = 260  # characters: 253 of a DNS name, a colon and a port
MAX_UNIX = 5 + 107  # bytes: "unix:" and the longest path of a socket, unix(7)
TASKS = frozenset({"chat", "completions", "embeddings", "infer"})


def apply(house: House, call: Call) -> dict[str, Any]:
    ref = Ref.parse(call.text("ref"))
    owner = house.people().owners.get(ref.name, "")
    authorise(house, call.subject, Action.DEPLOY_APPLY, ref.name, owner=owner or "nobody")
    owner = owner or get(house.registry, ref).owner
    check_owner(house.people(), ref.name, owner)
    isolation = call.optional("isolation") or house.settings.isolation
    return serving.deploy(house, Order(ref, call.subject, isolation, Action.DEPLOY_APPLY), call.progress)


def rollback(house: House, call: Call) -> dict[str, Any]:
    """Back to a named earlier version, or to the newest approved one before the one that serves.

    Approval and its end are asked as for any deployment. A version whose approval ended is taken only
    with `accept_expired`, from somebody who could approve it.
    """
    name = check_name(call.text("name"))
    wanted = call.body.get("to")
    if wanted is not None and type(wanted) is not int:
        raise Usage("ARG-MISSING", "to is not a version's number", fix="give a number such as --to 2")
    authorise(house, call.subject, Action.DEPLOY_ROLLBACK, name)
    with house.database.read() as connection:
        current = store.find_deployment(connection, name)
    if current is None:
        raise Refused("DEP-NONE", f"{name} was never deployed", fix=f"garrison serve {name}@VERSION")
    target = _earlier(house, name, wanted, current.ref)
    accepts = call.flag("accept_expired")
    if accepts:
        publisher = get(house.registry, target).publisher
        facts = {"publisher": publisher, "approver": call.subject.name}
        authorise(house, call.subject, Action.ARTIFACT_APPROVE, name, **facts)
    order = Order(target, call.subject, current.isolation, Action.DEPLOY_ROLLBACK, accepts_ended=accepts)
    return serving.deploy(house, order, call.progress)


def _earlier(house: House, name: str, wanted: int | None, current: Ref) -> Ref:
    """The newest version below the place that serves, as the approved list has them; a current one first."""
    floor = serving.floor_of(house, name)
    known = house.registry.approved
    found = [
        one.entry
        for one in entries.listed(known.current(), name)
        if one.environment == known.environment
        and one.entry.counter < floor
        and one.entry.ref != current
        and wanted in (None, one.entry.ref.version)
    ]
    if not found:
        raise Refused(
            "DEP-NO-EARLIER",
            f"there is no approved version of {name} before {current}"
            + (f" numbered {wanted}" if wanted else ""),
            evidence={"serving": str(current)},
            fix=f"garrison approvals list {name} shows what is approved",
        )
    now, policy = house.now(), house.policy.version
    return max(found, key=lambda entry: (entry.is_current(policy, now), entry.counter)).ref


def stop(house: House, call: Call) -> dict[str, Any]:
    name = check_name(call.text("name"))
    authorise(house, call.subject, Action.DEPLOY_STOP, name)
    if house.serving(name) is None:
        raise Refused("DEP-NONE", f"{name} is not serving", fix="garrison deploy status shows what is")
    return {"name": name, "audit_id": serving.stop(house, name, call.subject)}


def status(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "deployments")
    with house.database.read() as connection:
        routes = store.routes(connection)
    return {
        "deployments": serving.states(house),
        "routes": [
            {
                "name": r.name,
                "upstream": r.upstream,
                "tier": r.tier.value,
                "tasks": sorted(r.tasks),
                "options": json.loads(r.options) if r.options else {},
            }
            for r in routes
        ],
    }


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


DEPLOYMENT_VERBS = (
    Verb("deploy.apply", Action.DEPLOY_APPLY, apply),
    Verb("deploy.rollback", Action.DEPLOY_ROLLBACK, rollback),
    Verb("deploy.stop", Action.DEPLOY_STOP, stop),
    Verb("deploy.status", Action.POSTURE_READ, status),
    Verb("route.add", Action.ROUTE_ADD, route_add),
)
