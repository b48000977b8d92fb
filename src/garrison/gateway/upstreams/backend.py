"""The servers behind one route, from the signed snapshot: kind, address, the model's name there, weight, order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from garrison.core.decision import Tier
from garrison.core.digest import is_digest
from garrison.gateway.upstreams.address import Address, parse_address
from garrison.gateway.upstreams.kinds import KINDS

MAX_BACKENDS = 16  # of one route
_FIELDS = frozenset({"id", "kind", "address", "model", "key", "weight", "order", "tier", "digest"})


@dataclass(frozen=True, slots=True)
class Backend:
    """One place where a model answers. `key` names the secret that the broker adds; empty: none is needed.

    Those of the lowest `order` that are well share the requests by `weight`; the next order is for when none is.
    `tier` is the most sensitive data that may go there.
    """

    id: str
    kind: str
    address: str
    model: str
    tier: Tier
    key: str = ""
    weight: int = 1
    order: int = 0
    digest: str = ""

    @property
    def place(self) -> Address:
        return parse_address(self.address)


def parse_backends(route: dict[str, Any]) -> tuple[Backend, ...]:
    """The servers of a route of the snapshot; none when the route's own address is the only one.

    Raises `ValueError`, `TypeError` or `KeyError`. A server of a lower tier than its route is refused here: no
    retry and no fallback can then cross that boundary.
    """
    items = route.get("upstreams")
    if items is None:
        return ()
    if not isinstance(items, list) or not 0 < len(items) <= MAX_BACKENDS:
        raise ValueError("upstreams")
    found = tuple(_backend(item, route) for item in items)
    if len({backend.id for backend in found}) != len(found):
        raise ValueError("two upstreams of one id")
    return found


def _backend(item: Any, route: dict[str, Any]) -> Backend:
    if not isinstance(item, dict) or not _FIELDS.issuperset(item):
        raise TypeError("upstream")
    texts = {name: item.get(name, "") for name in ("id", "kind", "address", "model", "key", "digest")}
    if not all(isinstance(text, str) for text in texts.values()) or not texts["id"]:
        raise TypeError("upstream")
    if texts["kind"] not in KINDS or (texts["digest"] and not is_digest(texts["digest"])):
        raise ValueError("upstream")
    numbers = {name: item.get(name, default) for name, default in (("weight", 1), ("order", 0))}
    if not all(type(number) is int and 0 <= number <= 1_000 for number in numbers.values()):
        raise ValueError("weight")
    tier, wanted = Tier(item.get("tier", route["tier"])), Tier(route["tier"])
    if tier.rank < wanted.rank:
        raise ValueError("an upstream of a lower tier than its route")
    texts["model"] = texts["model"] or route["name"]
    return Backend(**texts, tier=tier, **numbers)
