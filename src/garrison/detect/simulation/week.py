"""A whole simulated week: ordinary use, oddities and attacks, in the order of time, with labels beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from garrison.detect.anomaly.sketch import KEY_BYTES, Sketcher
from garrison.detect.simulation.attacks import DRIFTS, Attack, stage
from garrison.detect.simulation.oddities import Oddities
from garrison.detect.simulation.organisation import Organisation, Shape
from garrison.detect.simulation.requests import Asked

DAYS = 7


@dataclass(frozen=True, slots=True)
class Week:
    """`asked` is in order; `attacks` what really happened."""

    shape: str
    seed: int
    days: int
    asked: list[Asked]
    attacks: list[Attack]

    def events(self) -> Iterator[dict[str, Any]]:
        """As a gateway would have recorded them."""
        sketcher = Sketcher(self.seed.to_bytes(KEY_BYTES, "big"))
        return (one.event(sketcher) for one in self.asked)


def simulate(shape: Shape, seed: int, days: int = DAYS) -> Week:
    """The same for the same shape and seed, on every machine."""
    random = Random(f"{shape.name} {seed}")  # noqa: S311 - a simulation is repeated, nothing secret is drawn
    house = Organisation.make(shape, random)
    oddities = Oddities(house, days)
    attacks, asked = stage(house, days, random, seed)
    asked += oddities.extra()
    for day in range(days):
        for member in house.members:
            for one in house.ordinary(member, day, oddities.busy(member, day)):
                asked.append(oddities.as_is(one, day))
    asked = [_drifted(one, attacks) for one in asked]
    asked.sort(key=lambda one: one.time)
    return Week(shape.name, seed, days, asked, attacks)


def _drifted(asked: Asked, attacks: list[Attack]) -> Asked:
    for attack in attacks:
        if attack.kind != "drift" or not attack.begins <= asked.time < attack.ends:
            continue
        if f"model:{asked.model}@{asked.version}" in attack.subjects:
            return replace(asked, answer=asked.answer * DRIFTS[attack.strength], label=attack.label)
    return asked
