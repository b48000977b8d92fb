"""From where on something counts as unusual: one frozen value, so that a replay can ask "what if"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from garrison.core.errors import Usage
from garrison.detect.anomaly.alert import KINDS
from garrison.detect.anomaly.profile import (
    ACTIVE,
    COUNT,
    DISTINCT,
    EMBEDDED,
    INJECTED,
    LOGPROBS,
    MACHINE,
    NEAR,
    REFUSED,
    REQUESTS,
    SWITCHES,
    TOKENS,
)

MAX_SCORE = 50.0

# Below these counts (in an hour, in a day) nothing is unusual, however quiet it was before.
_FLOORS = {
    REQUESTS: (40, 200),
    TOKENS: (60_000, 250_000),
    LOGPROBS: (15, 40),
    NEAR: (20, 60),
    EMBEDDED: (300, 1_000),
    INJECTED: (2, 3),
    REFUSED: (4, 8),
    SWITCHES: (4, 10),
    MACHINE: (30, 120),
    DISTINCT: (40, 200),
    ACTIVE: (99, 9),
}
# A score is in doublings above what is usual, with what supports it added.
_SCORES = {
    "ANO-EXTRACT": 2.4,
    "ANO-PROBE": 1.9,
    "ANO-LOGPROB": 1.5,
    "ANO-EMBED": 1.6,
    "ANO-JAILBREAK": 1.1,
    "ANO-CAMPAIGN": 1.8,
    "ANO-TOKENS": 2.0,
    "ANO-REFUSED": 1.0,
    "ANO-NEWUSE": 3.0,
    "ANO-SHARED": 1.6,
    "ANO-RAMP": 2.0,
    "ANO-DRIFT": 6.0,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """`scores` by code; `floors` by metric, in an hour and in a day;"""

    scores: Mapping[str, float] = field(default_factory=lambda: MappingProxyType(_SCORES))
    floors: tuple[tuple[float, float], ...] = tuple(_FLOORS[metric] for metric in range(COUNT))
    unknown: tuple[float, float] = (3.0, 10.0)  # without a past floors are higher: of people, of services
    again: float = 86_400.0  # seconds in which the same is not said twice of the same
    lasts: Mapping[str, float] = field(default_factory=dict)  # by code, sooner: what it led to has ended

    def with_scores(self, changes: Mapping[str, float]) -> Limits:
        """Raises `Usage` ANO-POLICY for a code that there is not, or a score out of range."""
        for code, score in changes.items():
            if code not in KINDS or not 0 < score <= MAX_SCORE:
                raise Usage(
                    "ANO-POLICY",
                    f"{code[:40]!a} cannot have the threshold {score:g}",
                    fix=f"give one of {', '.join(KINDS)} a number up to {MAX_SCORE:g}",
                )
        return replace(self, scores=MappingProxyType({**self.scores, **changes}))
