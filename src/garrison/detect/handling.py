"""What is done with a value, by the tier of the model, direction and class: allow, mask, tokenise, redact, block.

Without a word about a class the defaults of `inspect.EFFECTS` hold. Decided here; `redact` and the gateway do it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from garrison.core.decision import Tier
from garrison.core.errors import Usage
from garrison.detect.base import Direction, Effect
from garrison.detect.rulepack import Rule
from garrison.detect.tokens import Vault

CLASSES = ("secret", "pii")
SHOWN = 4  # characters of a masked value that stay, at most a quarter of it
MAX_ACTIONS = 64
_FIX = "garrison dlp action set --help shows what may be said"


class Treatment(StrEnum):
    """`allow` notes only; `mask` leaves the last characters; `tokenise` is undone in the answer."""

    ALLOW = "allow"
    MASK = "mask"
    TOKENISE = "tokenise"
    REDACT = "redact"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class How:
    """The treatment of one text: effects for the rules, what stands in a value's place, what ends the text."""

    effects: tuple[tuple[str, Effect], ...]
    relabel: Callable[[Rule, str], str]
    blocking: frozenset[str]

    def ends(self, kind: str) -> bool:
        return kind.partition(".")[0] in self.blocking


Plan = Mapping[Direction, Mapping[str, Treatment]]
NO_PLAN: Plan = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Actions:
    """Every plan, by tier."""

    plans: Mapping[str, Plan] = field(default_factory=dict)

    def of(self, tier: str) -> Plan:
        return self.plans.get(tier, NO_PLAN)


def parse_actions(items: Iterable[Mapping[str, Any]]) -> Actions:
    """Raises `Usage` DLP-ACTION for what may not be said; `ValueError`, `KeyError` for what is not one."""
    plans: dict[str, dict[Direction, dict[str, Treatment]]] = {}
    for count, item in enumerate(items):
        if count >= MAX_ACTIONS:
            raise _refused(f"there are more than {MAX_ACTIONS}")
        tier, way = Tier(item["tier"]).value, Direction(item["direction"])
        kind, treatment = str(item["class"]), Treatment(item["action"])
        if kind not in CLASSES:
            raise _refused(f"a class is one of {', '.join(CLASSES)}")
        if treatment is Treatment.TOKENISE and (kind != "pii" or way is not Direction.INPUT):
            raise _refused("only personal data in a request is tokenised: a secret never comes back")
        plans.setdefault(tier, {}).setdefault(way, {})[kind] = treatment
    return Actions(plans)


def needs_vault(treatments: Mapping[str, Treatment] | None) -> bool:
    return treatments is not None and Treatment.TOKENISE in treatments.values()


def how(
    treatments: Mapping[str, Treatment] | None, vault: Vault | None = None, *, alone: bool = False
) -> How | None:
    """None when nothing is said: the defaults hold. `alone`: what nothing is said of is only noted."""
    if not treatments:
        return None

    def relabel(rule: Rule, value: str) -> str:
        treatment = treatments.get(rule.kind.partition(".")[0])
        if treatment is Treatment.MASK:
            return masked(value)
        if treatment is Treatment.TOKENISE and vault is not None:
            return vault.token_for(rule.kind, value) or rule.label
        return rule.label

    effects = dict.fromkeys((*CLASSES, "proprietary", "exfiltration"), Effect.NOTE) if alone else {}
    for kind, treatment in treatments.items():
        effects[kind] = Effect.NOTE if treatment is Treatment.ALLOW else Effect.REDACT
    return How(
        tuple(sorted(effects.items())),
        relabel,
        frozenset(k for k, t in treatments.items() if t is Treatment.BLOCK),
    )


def masked(value: str) -> str:
    """`4111 1111 1111 1234` -> `**** **** **** 1234`: its form and its last characters."""
    stay = min(SHOWN, sum(char.isalnum() for char in value) // 4)
    signs: list[str] = []
    for char in reversed(value):
        if not char.isalnum():
            signs.append(char)
        elif stay:
            stay -= 1
            signs.append(char)
        else:
            signs.append("*")
    return "".join(reversed(signs))


def _refused(why: str) -> Usage:
    return Usage("DLP-ACTION", f"that cannot be done with a value: {why}", fix=_FIX)
