"""What many identities show together: what is usual for their like, networks in common, campaigns, drifting answers."""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from statistics import median
from typing import Any

from garrison.detect.anomaly.profile import ACTIVE, COUNT, DAY, HOUR, Profile
from garrison.detect.anomaly.seen import Seen
from garrison.detect.anomaly.signs import Peers, Sign
from garrison.detect.anomaly.sketch import BYTES

MAX_GROUPS = 1_024
MAX_NETWORKS = 4_096
MAX_MEMBERS = 256  # identities of a group or a model that are told apart in one hour
KEPT = 96  # day peaks of members by which a group knows what is usual
UPPER = 0.9
COMMON = 3  # identities after which a network, or a client, is nobody's own
CAMPAIGN = 6 * HOUR
ALIKE = 4  # bytes of a sketch
DRIFT_KNOWN, DRIFT_MEMBERS, DRIFT_HOURS = 12, 4, 6
DRIFT_SLACK, DRIFT_LEAST = 1.0, 0.12


class Group:
    """The people, or the services, of a tenant."""

    __slots__ = ("attackers", "day", "kept", "known", "peak", "peaks", "today", "totals")

    def __init__(self) -> None:
        self.kept: list[array[float]] = []
        self.known: Peers | None = None
        self.day = 0
        self.today = 0.0
        self.totals: list[float] = []
        self.attackers: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self.peak, self.peaks = 0.0, 0.0

    def day_ended(self, peaks: array[float]) -> None:
        """A member's day, as one example of what is usual."""
        self.kept.append(peaks)
        del self.kept[:-KEPT]
        self.known = None

    def count(self, time: float) -> None:
        day = int(time // DAY)
        if day > self.day:
            if self.day:
                self.totals = [*self.totals[-3:], self.today]
            self.day, self.today, self.known = day, 0.0, None
            self.peaks, self.peak = max(self.peaks * 0.9, self.peak), 0.0
        self.today += 1

    def usual(self) -> Peers:
        if self.known is None:
            awake = [peaks[2 * ACTIVE + 1] for peaks in self.kept]
            self.known = Peers(self._upper(), self._growth(), median(awake) if len(awake) >= 3 else 0.0)
        return self.known

    def _upper(self) -> tuple[tuple[float, float], ...]:
        if len(self.kept) < 3:
            return ()
        at = min(len(self.kept) - 1, int(UPPER * len(self.kept)))
        levels = [sorted(peaks[place] for peaks in self.kept)[at] for place in range(2 * COUNT)]
        return tuple((levels[2 * metric], levels[2 * metric + 1]) for metric in range(COUNT))

    def _growth(self) -> float:
        if len(self.totals) < 3 or min(self.totals) <= 0:
            return 1.0
        return self.totals[-1] / self.totals[-3]

    def attacked(self, seen: Seen) -> list[Sign]:
        """An injection by one of them: how many of them try now, against the most that ever did."""
        known = self.attackers
        known.pop(seen.actor, None)
        known[seen.actor] = (seen.time, seen.sketch)
        while len(known) > MAX_MEMBERS or next(iter(known.values()))[0] < seen.time - CAMPAIGN:
            known.popitem(last=False)
        many = float(len(known))
        self.peak = max(self.peak, many)
        same = float(sum(_alike(sketch, seen.sketch) for _, sketch in known.values()))
        signs = []
        if same >= 3:
            signs.append(
                Sign("identities that tried nearly the same injection", math.log2(same) + 0.5, same, 1.0)
            )
        if many >= 4:
            strength = math.log2(many / max(1.5, self.peaks * 1.2))
            what = "identities that tried injections within hours"
            signs.append(Sign(what, max(0.0, min(4.0, strength)), many, self.peaks))
        return signs


def _alike(one: bytes, other: bytes) -> bool:
    return bool(one) and sum(a == b for a, b in zip(one[:BYTES], other, strict=False)) >= ALIKE


class Drift:
    """The answers of one version of a model, against what each identity usually gets from it."""

    __slots__ = ("above", "below", "hour", "hours", "members")

    def __init__(self) -> None:
        self.hour = 0
        self.members: dict[str, tuple[float, int]] = {}
        self.hours: list[float] = []  # of each hour: the middle shift of its members
        self.above = self.below = 0.0

    def answered(self, seen: Seen, profile: Profile) -> list[Sign]:
        hour, signs = int(seen.time // HOUR), []
        if hour != self.hour:
            signs = self._end_hour()
            self.hour = hour
        shift = _shift(profile, seen)
        if shift is not None and (seen.actor in self.members or len(self.members) < MAX_MEMBERS):
            total, count = self.members.get(seen.actor, (0.0, 0))
            self.members[seen.actor] = (total + shift, count + 1)
        return signs

    def _end_hour(self) -> list[Sign]:
        means = [total / count for total, count in self.members.values() if count >= 3]
        self.members = {}
        if len(means) < DRIFT_MEMBERS:
            return []
        middle = median(means)
        known = self.hours
        if len(known) < DRIFT_HOURS:
            self.hours = [*known, middle]
            return []
        center = median(known)
        spread = max(DRIFT_LEAST, 1.4826 * median(abs(value - center) for value in known))
        step = max(-6.0, min(6.0, (middle - center) / spread))
        self.above = max(0.0, self.above + step - DRIFT_SLACK)
        self.below = max(0.0, self.below - step - DRIFT_SLACK)
        self.hours = [*known[-47:], middle]
        most = max(self.above, self.below)
        word = "longer" if self.above >= self.below else "shorter"
        return (
            [Sign(f"answers {word} than usual, for most who ask", most, middle, center)] if most > 0 else []
        )

    def restart(self) -> None:
        self.above = self.below = 0.0


def _shift(profile: Profile, seen: Seen) -> float | None:
    """How much longer this answer is than this identity's usual one of this model; None while that is unknown."""
    value = math.log1p(seen.answered)
    usual = profile.usual_out or {}
    mean, count = usual.get(seen.model, (value, 0))
    step = 0.02 if count >= DRIFT_KNOWN else 1.0 / (count + 1)
    fresh = (mean + step * (value - mean), count + 1)
    if seen.model not in usual and len(usual) >= 4:
        usual = dict(list(usual.items())[1:])
    profile.usual_out = {**usual, seen.model: fresh}
    return max(-2.0, min(2.0, value - mean)) if count >= DRIFT_KNOWN else None


class Common:
    """Networks and clients by how many identities use them: what several use is nobody's own."""

    def __init__(self) -> None:
        self.users: OrderedDict[str, list[str]] = OrderedDict()

    def seen(self, what: str, actor: str) -> bool:
        """Note it; whether it is common by now."""
        users = self.users.get(what)
        if users is None:
            users = self.users[what] = []
            if len(self.users) > MAX_NETWORKS:
                self.users.popitem(last=False)
        if actor not in users and len(users) < COMMON:
            users.append(actor)
        return len(users) >= COMMON

    def dump(self) -> dict[str, Any]:
        return dict(self.users)
