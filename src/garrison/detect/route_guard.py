"""What one route says of orders to the model: its thresholds, its deadline, and whether it only observes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from garrison.detect.tier2 import Guard

BLOCK_RANGE = (0.60, 0.995)  # from where findings are noted: a text without one is never judged by its score
GREY_RANGE = (0.01, 1.0)
DEADLINE_RANGE = (10, 10_000)  # ms
MODES = ("observe", "enforce")


@dataclass(frozen=True, slots=True)
class RouteGuard:
    """None leaves a threshold as it is."""

    block_at: float | None = None
    low: float | None = None
    high: float | None = None
    seconds: float | None = None
    observes: bool = False

    def over(self, guard: Guard) -> Guard:
        said = {
            name: value
            for name in ("block_at", "low", "high", "seconds")
            if (value := getattr(self, name)) is not None
        }
        return replace(guard, observes=self.observes, **said)


AS_EVER = RouteGuard()
WIDEST = RouteGuard(low=GREY_RANGE[0], high=GREY_RANGE[1])  # in doubt on any route


def parse_guard(item: Mapping[str, Any]) -> RouteGuard:
    """From the facts of a route. Raises `ValueError` with what is wrong."""
    mode = item.get("mode", "enforce")
    if mode not in MODES:
        raise ValueError("the mode is observe or enforce")
    block_at, low, high, deadline = (item.get(key) for key in ("block_at", "low", "high", "deadline_ms"))
    for value, (least, most) in ((block_at, BLOCK_RANGE), (low, GREY_RANGE), (high, GREY_RANGE)):
        if value is not None and not (type(value) in (int, float) and least <= value <= most):
            raise ValueError(f"a threshold is from {least} to {most}")
    if (low is None) is not (high is None) or (low is not None and high is not None and low >= high):
        raise ValueError("the grey zone has a lower and a higher end")
    least, most = DEADLINE_RANGE
    if deadline is not None and not (type(deadline) is int and least <= deadline <= most):
        raise ValueError(f"the deadline is {least} to {most} ms")
    seconds = None if deadline is None else deadline / 1_000
    return RouteGuard(block_at, low, high, seconds, observes=mode == "observe")
