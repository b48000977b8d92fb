"""Verbs about exceptions: a rule that is wrong for one model stops blocking it, until a day, with an owner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.core.actions import Action
from garrison.core.digest import check_name
from garrison.core.errors import Refused, Usage
from garrison.core.event import format_time, parse_time
from garrison.detect.base import Direction
from garrison.detect.classifier import tier1_rule
from garrison.detect.many_shot import RULE as MANY_SHOT
from garrison.detect.rulepack import built_in_rules
from garrison.detect.signatures import HIDDEN_RULES
from garrison.detect.tier2 import tier2_rule
from garrison.gateway.snapshot import MAX_EXCEPTIONS

LONGEST = timedelta(days=90)  # an exception that nobody looks at again is a hole


def guard_except(house: House, call: Call) -> dict[str, Any]:
    """Except rules for a model until a day, all or none, or end that with `remove`."""
    rules, model = list(dict.fromkeys(call.texts("rules") or [call.text("rule")])), call.text("model")
    authorise(house, call.subject, Action.GUARD_EXCEPT, check_name(model))
    known = house.people().access.exceptions
    if call.flag("remove"):
        if not all(_key(rule, model) in known for rule in rules):
            raise Usage(
                "GRD-EXCEPT", "there is no such exception", fix="garrison guard exceptions lists them"
            )
        return _record(house, call, rules, {"model": model}, removed=True)
    blocking = _rules(house)
    if wrong := [rule for rule in rules if rule not in blocking]:
        raise Usage(
            "GRD-EXCEPT",
            f"{wrong[0][:80]!a} blocks nothing here",
            fix="garrison guard explain ID names those that do",
        )
    owner = call.text("owner")
    if not house.people().knows(owner):
        raise Refused(
            "GOV-OWNER", f"{owner[:40]!a} is not known here", fix=f"garrison user add {owner} --role user"
        )
    if len(known.keys() | {_key(rule, model) for rule in rules}) > MAX_EXCEPTIONS:
        raise Refused("GRD-EXCEPT", f"there are {len(known)} exceptions", fix="garrison guard exceptions")
    until = format_time(_until(call.text("until"), house.now()))
    return _record(house, call, rules, {"model": model, "owner": owner, "until": until})


def guard_exceptions(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "exceptions")
    now, known = house.now(), house.people().access.exceptions
    rows = [dict(known[key]) for key in sorted(known)]
    return {"exceptions": [{**row, "ended": parse_time(row["until"]) <= now} for row in rows]}


def _key(rule: str, model: str) -> str:
    return f"{rule} {model}"


def _record(
    house: House, call: Call, rules: Sequence[str], facts: dict[str, str], **more: Any
) -> dict[str, Any]:
    with house.ledger.transaction() as transaction:
        for rule in rules:
            key, told = _key(rule, facts["model"]), {"rule": rule, **facts}
            audit_id = transaction.append(
                event_of(house, call, Action.GUARD_EXCEPT, key, exception=told, **more)
            )
    house.publish_snapshot()
    return {"rules": list(rules), **facts, "audit_id": audit_id}


def _until(text: str, now: datetime) -> datetime:
    try:
        until = parse_time(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError:
        raise Usage("GRD-EXCEPT", "--until is not a day such as 2027-03-01", fix="give a day") from None
    if not now < until <= now + LONGEST:
        raise Usage(
            "GRD-EXCEPT", f"an exception ends within {LONGEST.days} days from now", fix="give a nearer day"
        )
    return until


def _rules(house: House) -> frozenset[str]:
    """Every rule that may block a request."""
    access = house.people().access
    known = {rule.id for rule in built_in_rules() if rule.kind in ("injection", "jailbreak")}
    known |= {tier1_rule(way) for way in (Direction.INPUT, Direction.DOCUMENT)} | HIDDEN_RULES | {MANY_SHOT}
    known |= {tier2_rule(way) for way in (Direction.INPUT, Direction.DOCUMENT)}
    known |= {f"dlp.custom.{name}" for name in access.patterns}
    return frozenset(known | {f"dlp.copy.{name}" for name in access.copies})


GUARD_VERBS = (
    Verb("guard.except", Action.GUARD_EXCEPT, guard_except),
    Verb("guard.exceptions", Action.POSTURE_READ, guard_exceptions),
)
