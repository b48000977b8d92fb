"""Verbs about what is done with values, names of people, canaries in hidden context, and hosts of answers."""

from __future__ import annotations

from typing import Any

from garrison.app.detection import NAMES
from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise
from garrison.app.verbs.dlp import compile_with, record, removed
from garrison.core.actions import Action
from garrison.core.decision import Tier
from garrison.core.errors import Refused, Usage
from garrison.detect.base import Direction, Effect
from garrison.detect.canary import MAX_CANARIES, canary_rules, new_canary
from garrison.detect.custom import NAME
from garrison.detect.handling import CLASSES, MAX_ACTIONS, Treatment, parse_actions
from garrison.detect.hosts import MAX_HOSTS, parse_host
from garrison.detect.own import named


def action_set(house: House, call: Call) -> dict[str, Any]:
    """Say what is done with a class of values, for models of a tier, in one direction."""
    facts = {
        "tier": _one(call, "tier", [tier.value for tier in Tier]),
        "direction": _one(call, "direction", [Direction.INPUT.value, Direction.OUTPUT.value]),
        "class": _one(call, "class", list(CLASSES)),
        "action": _one(call, "action", [treatment.value for treatment in Treatment]),
    }
    key = f"{facts['tier']} {facts['direction']} {facts['class']}"
    authorise(house, call.subject, Action.DLP_WRITE, key)
    parse_actions([facts])
    _room(house.people().access.actions, key, MAX_ACTIONS, "actions")
    return record(house, call, key, facts, handling=facts)


def action_remove(house: House, call: Call) -> dict[str, Any]:
    key = f"{call.text('tier')} {call.text('direction')} {call.text('class')}"
    return removed(house, call, "handling", house.people().access.actions, key)


def canary_add(house: House, call: Call) -> dict[str, Any]:
    """Make a canary; whoever keeps the hidden context puts its value there."""
    name = call.text("name")
    if not NAME.fullmatch(name):
        raise Usage(
            "DLP-PATTERN", "the name is not of a-z, 0-9 and dashes", fix="garrison dlp canary add --help"
        )
    authorise(house, call.subject, Action.DLP_WRITE, name)
    known = house.people().access.canaries
    if name in known:
        raise Usage("DLP-PATTERN", "there is a canary of that name", fix=f"garrison dlp canary remove {name}")
    _room(known, name, MAX_CANARIES, "canaries")
    facts = {"name": name, "value": new_canary()}
    compile_with(house, canaries={**known, name: facts})
    rule = canary_rules(name, facts["value"])[0].id
    return record(house, call, name, {**facts, "rule_id": rule}, canary=facts)


def canary_remove(house: House, call: Call) -> dict[str, Any]:
    return removed(house, call, "canary", house.people().access.canaries)


def host_add(house: House, call: Call) -> dict[str, Any]:
    """From the first one on, answers point to no host that is not on the list."""
    host = parse_host(call.text("name"))
    authorise(house, call.subject, Action.DLP_WRITE, host)
    known = house.people().access.hosts
    _room(known, host, MAX_HOSTS, "hosts")
    facts = {"name": host}
    compile_with(house, hosts={**known, host: facts})
    return record(house, call, host, facts, host=facts)


def host_remove(house: House, call: Call) -> dict[str, Any]:
    return removed(house, call, "host", house.people().access.hosts, parse_host(call.text("name")))


def names_on(house: House, call: Call) -> dict[str, Any]:
    """Look for names of people, too. What is done with them is said as of all personal data."""
    facts = {
        "effect": call.optional("effect") or Effect.REDACT.value,
        "directions": call.texts("directions") or [Direction.INPUT.value, Direction.OUTPUT.value],
    }
    authorise(house, call.subject, Action.DLP_WRITE, NAMES)
    _, rule = named(facts)
    return record(house, call, NAMES, {**facts, "rule_id": rule.id}, names=facts)


def names_off(house: House, call: Call) -> dict[str, Any]:
    return removed(house, call, "names", house.people().access.names, NAMES)


def _one(call: Call, key: str, known: list[str]) -> str:
    value = call.text(key)
    if value not in known:
        raise Usage(
            "DLP-ACTION", f"{key} is none of {', '.join(known)}", fix="garrison dlp action set --help"
        )
    return value


def _room(known: Any, key: str, most: int, what: str) -> None:
    if len(known) >= most and key not in known:
        raise Refused("DLP-FULL", f"there are {most} {what}", fix="garrison dlp list")


RULE_VERBS = (
    Verb("dlp.action.set", Action.DLP_WRITE, action_set),
    Verb("dlp.action.remove", Action.DLP_WRITE, action_remove),
    Verb("dlp.canary.add", Action.DLP_WRITE, canary_add),
    Verb("dlp.canary.remove", Action.DLP_WRITE, canary_remove),
    Verb("dlp.host.add", Action.DLP_WRITE, host_add),
    Verb("dlp.host.remove", Action.DLP_WRITE, host_remove),
    Verb("dlp.names.on", Action.DLP_WRITE, names_on),
    Verb("dlp.names.off", Action.DLP_WRITE, names_off),
)
