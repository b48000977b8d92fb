"""Verbs about other issuers of tokens: whom to trust, with which conditions, and whether their keys are fresh."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.core.actions import Action
from garrison.core.digest import check_name
from garrison.core.errors import Refused, Usage
from garrison.core.event import format_time
from garrison.trust.issuers import MAX_ISSUERS, parse_issuer


def issuer_add(house: House, call: Call) -> dict[str, Any]:
    """Trust an issuer, once its keys could be fetched. Raises ISS-INVALID, ISS-TAKEN, ISS-FETCH."""
    facts = call.body.get("issuer")
    if not isinstance(facts, dict):
        raise Usage("ISS-INVALID", "there is no issuer in the request", fix="garrison issuer add --help")
    issuer = parse_issuer(facts)
    for model in issuer.models:
        check_name(model)
    authorise(house, call.subject, Action.ISSUER_WRITE, issuer.url)
    known = house.people().access.issuers
    if any(one.name == issuer.name and url != issuer.url for url, one in known.items()):
        raise Refused(
            "ISS-TAKEN",
            f"another issuer is called {issuer.name} here, and its subjects would be taken for those of this one",
            fix="give this one another name: --name NAME",
        )
    if len(known) >= MAX_ISSUERS and issuer.url not in known:
        raise Refused("ISS-TAKEN", f"there are {MAX_ISSUERS} issuers", fix="garrison issuer remove URL")
    call.progress(f"fetching the keys of {issuer.url}")
    keys = house.issuers.fetch(issuer)
    with house.ledger.transaction() as transaction:
        event = event_of(house, call, Action.ISSUER_WRITE, issuer.url, issuer=issuer.as_json())
        audit_id = transaction.append(event)
    house.issuers.follow(house.people().access.issuers)
    house.issuers.take(issuer, keys, house.now().timestamp())
    house.publish_snapshot()
    return {
        **issuer.as_json(),
        "keys": sorted(keys.keys),
        "left_out": list(keys.left_out),
        "audit_id": audit_id,
    }


def issuer_remove(house: House, call: Call) -> dict[str, Any]:
    url = call.text("url")
    authorise(house, call.subject, Action.ISSUER_WRITE, url[:512])
    if url not in house.people().access.issuers:
        raise Usage("ISS-UNKNOWN", "there is no such issuer", fix="garrison issuer list shows who there is")
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(event_of(house, call, Action.ISSUER_WRITE, url, removed=True))
    house.publish_snapshot()
    return {"url": url, "audit_id": audit_id}


def issuer_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "issuers")
    now = house.now().timestamp()
    house.issuers.follow(house.people().access.issuers)
    rows = []
    for one in house.issuers.snapshot():
        until = one.fetched + house.issuers.stale
        state = "away" if one.problem else "ok"
        if one.keys is None or now >= until:
            state = "stale" if one.keys else "never fetched"
        rows.append(
            {
                **one.issuer.as_json(),
                "state": state,
                "keys": sorted(one.keys.keys) if one.keys else [],
                "fetched": _moment(one.fetched),
                "good_until": _moment(until) if one.fetched else None,
                "problem": one.problem,
            }
        )
    return {"issuers": rows}


def _moment(seconds: float) -> str | None:
    return format_time(datetime.fromtimestamp(seconds, UTC)) if seconds else None


ISSUER_VERBS = (
    Verb("issuer.add", Action.ISSUER_WRITE, issuer_add),
    Verb("issuer.remove", Action.ISSUER_WRITE, issuer_remove),
    Verb("issuer.list", Action.POSTURE_READ, issuer_list),
)
