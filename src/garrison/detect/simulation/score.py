"""How well alerts meet what really happened: attacks found, false alerts, and how many requests it took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from garrison.detect.anomaly.alert import Alert
from garrison.detect.simulation.attacks import Attack

LATE = 6 * 3_600.0  # after its end an attack still counts as found
AFTERMATH = 30 * 3_600.0  # and what is said of it is not false: answers that are normal again changed too


@dataclass(frozen=True, slots=True)
class Found:
    """One attack: by which codes it was found, and how many seconds after it began; None when it was not."""

    attack: Attack
    codes: tuple[str, ...]
    after: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """Of one week."""

    found: tuple[Found, ...]
    false: tuple[Alert, ...]
    days: float


def score(attacks: Sequence[Attack], alerts: Iterable[Alert], days: float) -> Score:
    """An alert meets an attack when it names who was part of it, while it went on or soon after."""
    met: dict[str, list[Alert]] = {attack.label: [] for attack in attacks}
    false = []
    for alert in alerts:
        about = [
            attack
            for attack in attacks
            if alert.subject in attack.subjects and attack.begins <= alert.time <= attack.ends + AFTERMATH
        ]
        for attack in about:
            if alert.time <= attack.ends + LATE:
                met[attack.label].append(alert)
        if not about:
            false.append(alert)
    found = []
    for attack in attacks:
        mine = met[attack.label]
        after = min(alert.time for alert in mine) - attack.begins if mine else None
        found.append(Found(attack, tuple(dict.fromkeys(alert.code for alert in mine)), after))
    return Score(tuple(found), tuple(false), days)
