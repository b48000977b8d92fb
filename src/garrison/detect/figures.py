"""Figures with their doubt: a rate and its Wilson interval, and the area under a curve of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_Z = 1.959964  # 95 % of a normal distribution lie within this many deviations


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `of`. Without anything to count, the rate is unknown and the interval is everything."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval at 95 %: right also near 0 and 1 and for few observations."""
        if not self.of:
            return 0.0, 1.0
        share, square = self.hits / self.of, _Z * _Z
        middle = share + square / (2 * self.of)
        spread = _Z * math.sqrt(share * (1 - share) / self.of + square / (4 * self.of * self.of))
        scale = 1 + square / self.of
        return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)

    def as_json(self) -> dict[str, Any]:
        low, high = self.interval
        value = self.value
        rate = None if value is None else round(value, 4)
        return {"hits": self.hits, "of": self.of, "rate": rate, "low": round(low, 4), "high": round(high, 4)}


def area(attacks: Sequence[float], harmless: Sequence[float]) -> float | None:
    """How often an attack scores above a harmless text, ties counting half; None when a side is empty."""
    if not attacks or not harmless:
        return None
    ordered = sorted([(score, True) for score in attacks] + [(score, False) for score in harmless])
    total, at = 0.0, 0
    while at < len(ordered):
        end = at
        while end < len(ordered) and ordered[end][0] == ordered[at][0]:
            end += 1
        rank = (at + 1 + end) / 2
        total += rank * sum(1 for score, attack in ordered[at:end] if attack)
        at = end
    return (total - len(attacks) * (len(attacks) + 1) / 2) / (len(attacks) * len(harmless))


def limit_for(harmless: Sequence[float], rate: float) -> float:
    """The lowest threshold that at most `rate` of these scores reach. 1.01 when none is low enough."""
    allowed = int(rate * len(harmless))
    ordered = sorted(harmless, reverse=True)
    if len(ordered) <= allowed:
        return 0.0
    return min(1.01, ordered[allowed] + 1e-6)  # scores have six digits
