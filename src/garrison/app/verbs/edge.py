"""Verbs of edge sites: at home, who they are and what is built for them; on a device, what it takes and tells."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from garrison.app import edge_device
from garrison.app.house import House
from garrison.app.verbs import edge_home
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.app.verbs.edge_home import ADDED, REMOVED, ROTATED, Wish
from garrison.core.actions import Action
from garrison.core.digest import Ref
from garrison.core.errors import Usage
from garrison.core.event import format_time
from garrison.runtime.edge.enrolment import parse_card


def site_add(house: House, call: Call) -> dict[str, Any]:
    return _change(house, call, ADDED)


def site_rotate(house: House, call: Call) -> dict[str, Any]:
    """The device made itself another key; bundles from now on are for that one."""
    return _change(house, call, ROTATED)


def _change(house: House, call: Call, change: str) -> dict[str, Any]:
    card = parse_card(call.facts("card"))
    authorise(house, call.subject, Action.EDGE_SITE, card.site)
    audit_id = edge_home.change_site(house, call, card, change)
    return {"site": card.site, "key_id": card.key_id, "audit_id": audit_id}


def site_remove(house: House, call: Call) -> dict[str, Any]:
    """No bundle is built for it any more; those that it has go on until they are stale."""
    name = call.text("site")
    authorise(house, call.subject, Action.EDGE_SITE, name)
    with house.ledger.read() as connection:
        card = edge_home.site_named(connection, name).card
    audit_id = edge_home.change_site(house, call, card, REMOVED)
    return {"site": name, "key_id": card.key_id, "audit_id": audit_id}


def site_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.KEY_READ, "edge")
    with house.ledger.read() as connection:
        return {"sites": [site.as_json() for site in edge_home.sites(connection).values()]}


def build(house: House, call: Call) -> dict[str, Any]:
    """A bundle, or with no `ref` a notice."""
    text = call.optional("ref")
    ref = None if text is None else Ref.parse(text)
    authorise(house, call.subject, Action.EDGE_BUILD, "notice" if ref is None else ref.name)
    seconds = call.body.get("expires")
    if type(seconds) is not int:
        raise Usage("EDGE-EXPIRES", "how long the bundle is good is missing", fix="--expires 30d")
    bounded = timedelta(seconds=max(0, min(seconds, 10**9)))
    return edge_home.build(house, call, Wish(call.text("site"), ref, bounded, Path(call.text("destination"))))


def take(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.EDGE_IMPORT, "edge")
    return edge_home.take_events(house, call, Path(call.text("source")))


def enrol(house: House, call: Call) -> dict[str, Any]:
    site = call.text("site")
    authorise(house, call.subject, Action.EDGE_ENROL, site)
    made, facts = edge_device.enrol(house, site, Path(call.text("source")), Path(call.text("unlock")))
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(event_of(house, call, Action.EDGE_ENROL, site, **facts))
    return {"card": made.card.as_json(), **facts, "audit_id": audit_id}


def accept(house: House, call: Call) -> dict[str, Any]:
    """Judge a bundle or notice on this device and remember it: what it withdraws ends within seconds."""
    authorise(house, call.subject, Action.EDGE_RUN, "bundle")
    judged = edge_device.judge(house, Path(call.text("source")))
    if call.flag("only_judge"):
        return _told(judged)
    edge_device.remember(house, judged)
    head = judged.accepted.head
    facts = {"sequence": head.sequence, "site": head.site, "expires": format_time(head.expires)}
    resource = "notice" if head.ref is None else str(head.ref)
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(
            event_of(house, call, Action.EDGE_RUN, resource, head.digest, remembered=True, **facts)
        )
    return {**_told(judged), "audit_id": audit_id}


def _told(judged: edge_device.Judged) -> dict[str, Any]:
    head = judged.accepted.head
    return {
        "site": head.site,
        "sequence": head.sequence,
        "ref": None if head.ref is None else str(head.ref),
        "digest": head.digest,
        "expires": format_time(head.expires),
        "withdrawn": len(judged.accepted.memory.revoked),
        "key_id": judged.accepted.opened.key_id,
    }


def forward(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.EDGE_FORWARD, "ledger")
    after = call.body.get("after")
    if after is not None and (type(after) is not int or after < 0):
        raise Usage("ARG-MISSING", "after is not a number of an event", fix="--after 120")
    with house.ledger.transaction() as transaction:  # before the file: it is in it
        audit_id = transaction.append(event_of(house, call, Action.EDGE_FORWARD, "ledger"))
    return {**edge_device.forward(house, Path(call.text("destination")), after), "audit_id": audit_id}


EDGE_VERBS = (
    Verb("edge.site.add", Action.EDGE_SITE, site_add),
    Verb("edge.site.rotate", Action.EDGE_SITE, site_rotate),
    Verb("edge.site.remove", Action.EDGE_SITE, site_remove),
    Verb("edge.site.list", Action.KEY_READ, site_list),
    Verb("edge.build", Action.EDGE_BUILD, build),
    Verb("edge.import", Action.EDGE_IMPORT, take),
    Verb("edge.enrol", Action.EDGE_ENROL, enrol),
    Verb("edge.accept", Action.EDGE_RUN, accept),
    Verb("edge.forward", Action.EDGE_FORWARD, forward),
)
