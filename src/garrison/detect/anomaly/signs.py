"""From a profile to scores: which signs there are of which kind of misuse, how strong each is, and why.

Pure. A sign's strength is in doublings above the highest that is usual for this identity, or for its like when
it is new. No sign alone can say more than `CAP`, so one odd number does not become certainty.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from garrison.detect.anomaly.limits import Limits
from garrison.detect.anomaly.profile import (
    ACTIVE,
    DISTINCT,
    EMBEDDED,
    HOUR,
    INJECTED,
    LOGPROBS,
    MACHINE,
    METRICS,
    NEAR,
    REFUSED,
    REQUESTS,
    SWITCHES,
    TOKENS,
    Profile,
)

CAP = 4.0
NEW_NETWORK, NEW_CLIENT, NEW_MODEL, OFF_HOURS = 1, 2, 4, 8
_NOVEL = (
    (NEW_NETWORK, "a network of its own that was never used before", 1.6),
    (NEW_CLIENT, "a client program that was never used before", 0.9),
    (NEW_MODEL, "a model that was never asked before", 0.5),
    (OFF_HOURS, "hours at which it was never active", 1.0),
)
NOVEL_FOR = 12 * HOUR
NOVEL_REQUESTS = 6.0  # a single request from elsewhere is a trip, not a take-over
_RAMP_STEP, _RAMP_REQUESTS = 1.2, 150
_FLAT = 0.9  # of somebody who is active beyond the hours of its like a day as the one before breaks no ramp
_LONG_HOURS, _LONG_ENOUGH = 1.5, 0.5


class Sign(NamedTuple):
    what: str
    strength: float
    now: float
    usual: float


class Peers(NamedTuple):
    """What is usual for the like of an identity: by metric, hourly and daily; empty when nobody knows yet.

    `growth` is how much all of them together grew since the day before, and three days before.
    """

    usual: tuple[tuple[float, float], ...] = ()
    growth: float = 1.0
    awake: float = 0.0  # active hours in a day, of the middle one of them: few of them cannot raise it


def judge(
    profile: Profile, peers: Peers, limits: Limits, *, is_service: bool
) -> Iterator[tuple[str, float, list[Sign]]]:
    """The codes whose score reaches its limit, each with the signs it was made of, strongest first."""
    sign = _Signs(profile, peers, limits, is_service)
    novel = [*sign.novelty(), sign.round_the_clock()]
    machine = _capped(sign.of(MACHINE), 1.5)
    distinct, near, logprobs = sign.of(DISTINCT), sign.of(NEAR), sign.of(LOGPROBS)
    found = {
        "ANO-EXTRACT": _with(distinct, [machine, _capped(logprobs, 1.0), *novel]),
        "ANO-PROBE": _with(near, [_capped(machine, 0.8), *novel]),
        "ANO-LOGPROB": _with(logprobs, [_capped(machine, 0.6), *novel]),
        "ANO-EMBED": _with(sign.of(EMBEDDED), [_capped(machine, 0.6), *novel]),
        "ANO-JAILBREAK": _with(sign.of(INJECTED), []),
        "ANO-TOKENS": _with(sign.of(TOKENS), [_capped(sign.of(REQUESTS), 0.5)]),
        "ANO-REFUSED": _with(sign.of(REFUSED), novel),
        "ANO-SHARED": _with(sign.of(SWITCHES), []),
        "ANO-RAMP": _with(sign.ramp(), [machine, novel[-1]]) or _with(sign.slow_ramp(), [sign.long_hours()]),
        "ANO-NEWUSE": sign.new_use(novel, distinct),
    }
    for code, signs in found.items():
        score = sum(one.strength for one in signs)
        if signs and score >= limits.scores[code]:
            yield code, score, sorted(signs, key=lambda one: -one.strength)


def _with(main: Sign | None, others: list[Sign | None]) -> list[Sign]:
    """The main sign and what supports it; nothing without a main sign that says something by itself."""
    if main is None or main.strength < 0.7:
        return []
    return [main, *(one for one in others if one is not None and one.strength > 0)]


def _capped(sign: Sign | None, most: float) -> Sign | None:
    return None if sign is None else sign._replace(strength=min(most, sign.strength))


class _Signs:
    """The profile as signs; `slack` is how far above the usual still is usual, more when few days are known."""

    __slots__ = ("_is_service", "_limits", "_peers", "_profile", "_slack")

    def __init__(self, profile: Profile, peers: Peers, limits: Limits, is_service: bool) -> None:
        self._is_service = is_service
        self._profile, self._peers, self._limits = profile, peers, limits
        self._slack = 1.25 + 1.0 / (profile.days or 1)

    def of(self, metric: int) -> Sign | None:
        """How far a metric is above what is usual, the hour or the day, whichever says more."""
        hourly, daily = self._level(metric, daily=False), self._level(metric, daily=True)
        best = hourly if hourly[0] >= daily[0] else daily
        if best[0] <= 0:
            return None
        return Sign(f"{METRICS[metric]} {'in an hour' if best is hourly else 'in a day'}", *best)

    def _level(self, metric: int, *, daily: bool) -> tuple[float, float, float]:
        profile = self._profile
        now = profile.daily(metric) if daily else profile.hourly(metric)
        floor = self._limits.floors[metric][daily]
        if now <= floor:
            return 0.0, now, 0.0
        usual = profile.usual(metric, daily=daily)
        if not profile.days:
            usual = self._peers.usual[metric][daily] if self._peers.usual else 0.0
            floor *= (
                self._limits.unknown[self._is_service] if self._is_service or not self._peers.usual else 1.0
            )
        above = math.log2(now / max(usual * self._slack, floor))
        return max(0.0, min(CAP, above)), now, usual

    def novelty(self) -> list[Sign | None]:
        profile = self._profile
        if not profile.new or profile.days < 2 or profile.last - profile.new_since > NOVEL_FOR:
            return []
        part = 0.5 if self._is_service else 1.0  # programs are moved and rescheduled
        return [Sign(what, strength * part, 1.0, 0.0) for bit, what, strength in _NOVEL if profile.new & bit]

    def round_the_clock(self) -> Sign | None:
        """Active in more hours of a day than it ever was: people sleep."""
        strength, now, usual = self._level(ACTIVE, daily=True)
        if not strength or self._is_service or not self._profile.days:
            return None
        return Sign("active hours in a day", min(2.0, 0.4 + 3 * strength), now, usual)

    def long_hours(self) -> Sign | None:
        """Active in far more hours of a day than its like; its own past knows them by then."""
        usual, now = self._peers.awake, self._profile.daily(ACTIVE)
        if self._is_service or not usual or now <= usual * _LONG_HOURS:
            return None
        strength = min(1.5, 2.5 * math.log2(now / (usual * _LONG_HOURS)))
        return Sign("active hours in a day, beyond those of its like", strength, now, usual)

    def new_use(self, novel: list[Sign | None], distinct: Sign | None) -> list[Sign]:
        """From elsewhere and in another way: what is new, with how much was asked as the lesser part."""
        signs = [one for one in novel if one is not None]
        if self._profile.hourly(REQUESTS) < NOVEL_REQUESTS or not self._profile.new & NEW_NETWORK:
            return []
        more = _capped(distinct, 1.0)
        return [*signs, *([more] if more is not None else [])]

    def ramp(self) -> Sign | None:
        """Every day more than the day before, three days in a row, while the others do not grow like that."""
        totals = self._profile.totals
        last = list(totals[-4:])
        if len(last) < 4 or last[-1] < _RAMP_REQUESTS or last[0] <= 0:
            return None
        if any(after < before * _RAMP_STEP for before, after in pairwise(last)):
            return None
        usual = last[0] * max(1.0, self._peers.growth) * 1.5
        return Sign(
            "requests a day, three days growing", min(2.2, math.log2(last[-1] / usual)), last[-1], last[0]
        )

    def slow_ramp(self) -> Sign | None:
        """As `ramp`, over as many days as it goes on, of somebody who hardly sleeps: that others grow is no excuse."""
        totals, hours = self._profile.totals, self.long_hours()
        if hours is None or hours.strength < _LONG_ENOUGH or totals[-1] < _RAMP_REQUESTS:
            return None
        days = 0
        for before, after in pairwise(reversed(totals)):
            if after <= 0 or before < after * _FLAT:
                break
            days += 1
        if days < 3:
            return None
        first = totals[-1 - days]
        strength = min(2.2, math.log2(totals[-1] / (first * 1.5)))
        return Sign(f"requests a day, {days} days growing", strength, totals[-1], first)
