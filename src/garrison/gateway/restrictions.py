"""What an alert leads to at the gateway: an identity is slowed down, refused, or has to be approved, until a moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from garrison.core.errors import Refused
from garrison.core.event import parse_time
from garrison.gateway.counters import DIMENSIONS
from garrison.gateway.limits import ANY, Counted, Rule

MAX_RESTRICTIONS = 10_000
KINDS = ("throttle", "block", "approval")


@dataclass(frozen=True, slots=True)
class Restriction:
    """Of one alert. `until` is text for people and `ends` seconds since 1970; `model` is empty for all of them."""

    alert: str
    identity: str
    model: str
    kind: str
    until: str
    ends: float
    rule: Rule


Restrictions = Mapping[str, tuple[Restriction, ...]]  # by actor


def restrict(known: Iterable[Restriction], counted: Counted, wall: float) -> Counted:
    """The rules that a request is under, those of alerts added. Raises `Refused` ANO-BLOCKED or ANO-APPROVAL."""
    rules = counted.rules
    for one in known:
        if wall >= one.ends or (one.model and one.model != counted.model):
            continue
        if one.kind == "throttle":
            rules = (*rules, (one.rule, one.alert))
            continue
        must_wait = one.kind == "approval"
        raise Refused(
            "ANO-APPROVAL" if must_wait else "ANO-BLOCKED",
            f"use by this identity looked unusual (alert {one.alert}); "
            + ("a person has to approve that it goes on" if must_wait else "nothing is answered for now"),
            fix=f"wait until {one.until}, or ask an operator and name the alert",
            evidence={"alert": one.alert, "until": one.until},
            retry_after=max(1, int(one.ends - wall)),
        )
    return counted if rules is counted.rules else Counted(rules, counted.price, counted.model)


def explained(error: Refused, known: Iterable[Restriction]) -> Refused:
    """A refusal by a limit, told as what it is when an alert set the limit."""
    for one in known:
        if error.evidence.get("rule") == one.alert:
            return Refused(
                "ANO-SLOWED",
                f"use by this identity looked unusual (alert {one.alert}); it may ask "
                f"{one.rule.caps[0]} times a minute for now",
                fix=f"wait {error.retry_after} seconds for each, or until {one.until}; "
                "or ask an operator and name the alert",
                evidence={"alert": one.alert, "until": one.until},
                retry_after=error.retry_after,
            )
    return error


def parse_restrictions(items: Any) -> Restrictions:
    """As the snapshot has them. Raises ValueError, TypeError or KeyError."""
    if not isinstance(items, list) or len(items) > MAX_RESTRICTIONS:
        raise TypeError("restrictions")
    found: dict[str, tuple[Restriction, ...]] = {}
    for item in items:
        texts = [item[name] for name in ("alert", "identity", "model", "action", "until")]
        alert, identity, model, kind, until = texts
        if not all(isinstance(text, str) for text in texts) or kind not in KINDS:
            raise ValueError("restriction")
        amount = item["per_minute"]
        if type(amount) is not int or amount < 0:
            raise TypeError("per_minute")
        caps = (amount, *(None for _ in DIMENSIONS[1:]))
        rule = Rule(alert, ANY, ANY, ANY, caps)
        one = Restriction(alert, identity, model, kind, until, parse_time(until).timestamp(), rule)
        found[identity] = (*found.get(identity, ()), one)
    return found
