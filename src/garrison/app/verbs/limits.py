"""Verbs about limits on use and about prices. The ledger is where they are kept."""

from __future__ import annotations

import re
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.core.actions import Action
from garrison.core.digest import check_name
from garrison.core.errors import Refused, Usage
from garrison.gateway.counters import DIMENSIONS
from garrison.gateway.limits import EACH, MAX_AMOUNT, MAX_RULES, parse_rule

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


def limit_set(house: House, call: Call) -> dict[str, Any]:
    """Set one limit, or change the one of that name."""
    name = _checked_name(call)
    facts = {"name": name, **{key: call.body[key] for key in _KEYS if call.body.get(key) is not None}}
    try:
        parse_rule(facts)
    except (ValueError, TypeError) as error:
        raise Usage(
            "LIM-SYNTAX",
            f"that is not a limit: {error}",
            fix="garrison limit set --help shows whole examples",
        ) from error
    authorise(house, call.subject, Action.LIMIT_WRITE, name)
    if len(house.people().access.limits) >= MAX_RULES and name not in house.people().access.limits:
        raise Refused("LIM-SYNTAX", f"there are {MAX_RULES} limits", fix="garrison limit remove NAME")
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(event_of(house, call, Action.LIMIT_WRITE, name, limit=facts))
    house.publish_snapshot()
    return {**facts, "audit_id": audit_id}


def limit_remove(house: House, call: Call) -> dict[str, Any]:
    name = _checked_name(call)
    authorise(house, call.subject, Action.LIMIT_WRITE, name)
    if name not in house.people().access.limits:
        raise Usage(
            "LIM-SYNTAX", f"there is no limit {name}", fix="garrison limit list shows those there are"
        )
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(event_of(house, call, Action.LIMIT_WRITE, name, removed=True))
    house.publish_snapshot()
    return {"name": name, "audit_id": audit_id}


def limit_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "limits")
    settings, access = house.settings, house.people().access
    default = {
        "name": "default",
        "identity": EACH,
        "model": EACH,
        "requests_per_minute": settings.requests_per_minute,
        "tokens_per_minute": settings.tokens_per_minute,
        "concurrency": settings.concurrency,
    }
    return {
        "limits": [default, *(dict(access.limits[name]) for name in sorted(access.limits))],
        "prices": [dict(access.prices[name]) for name in sorted(access.prices)],
        "counted": settings.limits_redis or "by this server",
    }


def price_set(house: House, call: Call) -> dict[str, Any]:
    """What a million tokens of a model cost, in millionths of whatever unit the budgets are in."""
    model = check_name(call.text("model"))
    amounts = [call.body.get("input"), call.body.get("output")]
    if any(type(amount) is not int or not 0 <= amount <= MAX_AMOUNT for amount in amounts):
        raise Usage("LIM-SYNTAX", "a price is a number from 0", fix="garrison limit price --help")
    authorise(house, call.subject, Action.LIMIT_WRITE, model)
    facts = {"model": model, "asked": amounts[0], "answered": amounts[1]}
    with house.ledger.transaction() as transaction:
        event = event_of(house, call, Action.LIMIT_WRITE, model, price=True, limit=facts)
        audit_id = transaction.append(event)
    house.publish_snapshot()
    return {**facts, "audit_id": audit_id}


_KEYS = ("identity", "model", "tenant", *DIMENSIONS, "concurrency")


def _checked_name(call: Call) -> str:
    name = call.text("name")
    if not _NAME.fullmatch(name) or name == "default":
        raise Usage(
            "LIM-SYNTAX",
            "that is not a name for a limit",
            fix="use a-z, 0-9, dot and dash; the default ones are settings",
        )
    return name


LIMIT_VERBS = (
    Verb("limit.set", Action.LIMIT_WRITE, limit_set),
    Verb("limit.remove", Action.LIMIT_WRITE, limit_remove),
    Verb("limit.list", Action.POSTURE_READ, limit_list),
    Verb("limit.price", Action.LIMIT_WRITE, price_set),
)
