"""What is remembered of one identity (or of a kind of identities): counts that fade, and the peaks of past days.

About a kilobyte. Each metric is counted twice, over about an hour and about a day; a count halves by itself and
so needs no list of times. What is usual is the highest that these counts were on the days before.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

HOUR, DAY = 3_600.0, 86_400.0
FADE_HOUR, FADE_DAY = HOUR, DAY / 2  # time constants: what is older than three of them no longer counts
WHOLE_DAY = 8 * HOUR  # a first day that was shorter says nothing of what is usual
DAYS = 7  # of peaks that are kept
RECENT = 24  # sketches a new one is compared with
SKETCH = 10  # bytes of one
NAMES = 6  # networks, clients and models told apart, each

# The metrics, in the order of the arrays. Order is part of the stored form: append only.
REQUESTS, TOKENS, LOGPROBS, NEAR, EMBEDDED, INJECTED, REFUSED, SWITCHES, MACHINE, DISTINCT, ACTIVE = range(11)
METRICS = (
    "requests",
    "tokens",
    "logprobs",
    "near-duplicates",
    "embedded texts",
    "injections",
    "refusals",
    "network changes",
    "machine-paced requests",
    "distinct requests",
    "active hours",
)
COUNT = len(METRICS)


class Profile:
    """One identity. Mutable on purpose: it is changed with every request."""

    __slots__ = (
        "begun",
        "clients",
        "day",
        "days",
        "gap",
        "hours",
        "last",
        "models",
        "networks",
        "new",
        "new_since",
        "now",
        "peaks",
        "recent",
        "recent_at",
        "today",
        "totals",
        "usual_out",
    )

    def __init__(self, time: float) -> None:
        self.begun = self.last = time
        self.day = int(time // DAY)
        self.days = 0  # earlier days with requests
        self.now = array("d", bytes(8 * 2 * COUNT))  # by metric: over an hour, then over a day
        self.today = array("f", bytes(4 * 2 * COUNT))  # the highest of each since midnight
        self.peaks: list[array[float]] = []  # of earlier days, newest last
        self.totals = array("f", [0.0])  # requests by day, today last
        self.hours = bytearray(48)  # earlier days with requests, by hour of working days and of weekends
        self.networks: tuple[str, ...] = ()
        self.clients: tuple[str, ...] = ()
        self.models: tuple[str, ...] = ()
        self.new = 0  # bits: what was new lately
        self.new_since = 0.0
        self.gap = 0.0  # the usual logarithm of the time between two requests, lately
        self.recent: bytearray | None = None  # sketches, a ring
        self.recent_at = 0
        self.usual_out: dict[str, tuple[float, int]] | None = (
            None  # by model: log length of answers, of how many
        )

    def advance(self, time: float, floors: Sequence[float]) -> None:
        """Let the counts fade until `time`, and keep the peaks of a day that has ended.

        `floors` are, by metric, hourly and daily, what is never unusual.
        """
        passed = time - self.last
        if passed > 0:
            hourly, daily = math.exp(-passed / FADE_HOUR), math.exp(-passed / FADE_DAY)
            now = self.now
            for at in range(0, 2 * COUNT, 2):
                if now[at + 1]:
                    now[at] *= hourly
                    now[at + 1] *= daily
            self.last = time
        day = int(time // DAY)
        if day > self.day:
            self._end_day(day, floors)

    def _end_day(self, day: int, floors: Sequence[float]) -> None:
        """What was unusual does not become usual at midnight: a day counts at most twice what was known before."""
        if self.totals[-1]:
            if self.days:
                for at, floor in enumerate(floors):
                    self.today[at] = min(self.today[at], max(floor, 2 * max(peak[at] for peak in self.peaks)))
            self.peaks.append(self.today)
            del self.peaks[:-DAYS]
            if (self.day + 1) * DAY - self.begun >= WHOLE_DAY:
                self.days += 1
        self.today = array("f", self.now)
        for _ in range(min(day - self.day, DAYS)):
            self.totals.append(0.0)
        del self.totals[: -DAYS - 1]
        self.day = day

    def add(self, metric: int, amount: float) -> None:
        at, now, today = 2 * metric, self.now, self.today
        hour = now[at] = now[at] + amount
        daily = now[at + 1] = now[at + 1] + amount
        if hour > today[at]:
            today[at] = hour
        if daily > today[at + 1]:
            today[at + 1] = daily

    def hourly(self, metric: int) -> float:
        return self.now[2 * metric]

    def daily(self, metric: int) -> float:
        return self.now[2 * metric + 1]

    def usual(self, metric: int, *, daily: bool) -> float:
        """The highest on the days before; the second highest once there are enough, so that one odd day says little."""
        at = 2 * metric + daily
        past = sorted((peak[at] for peak in self.peaks), reverse=True)
        if not past:
            return 0.0
        return past[1] * 1.15 if len(past) >= 5 and past[0] > 3 * past[1] else past[0]

    def mark_hour(self, time: float) -> None:
        """This hour is one of its hours; counted once a day, by its high bit."""
        at = hour_of(time)
        if self.hours[at] < 127:
            self.hours[at] += 1

    def is_off_hours(self, time: float) -> bool:
        """Nothing was ever seen at this hour of such days, nor in those beside it."""
        at = hour_of(time)
        base, hour = at // 24 * 24, at % 24
        weekend_unknown = base == 24 and not any(self.hours[24:])
        base = 0 if weekend_unknown else base
        near = (self.hours[base + (hour + step) % 24] for step in (-2, -1, 0, 1, 2))
        return not any(near)

    def dump(self) -> list[Any]:
        """As JSON; `load` is the inverse."""
        return [
            self.begun,
            self.last,
            self.day,
            self.days,
            [round(value, 3) for value in self.now],
            [round(value, 2) for value in self.today],
            [[round(value, 2) for value in peak] for peak in self.peaks],
            list(self.totals),
            self.hours.hex(),
            list(self.networks),
            list(self.clients),
            list(self.models),
            self.new,
            self.new_since,
            round(self.gap, 4),
            None if self.recent is None else self.recent.hex(),
            self.recent_at,
            self.usual_out,
        ]

    @classmethod
    def load(cls, facts: list[Any]) -> Profile:
        """Raises ValueError, TypeError or AttributeError for what `dump` did not make."""
        begun, last, day, days, now, today, peaks, totals, hours, *names = facts[:12]
        made = cls(float(begun))
        made.last, made.day, made.days = float(last), int(day), int(days)
        made.now, made.today = _array("d", now), _array("f", today)
        made.peaks = [_array("f", peak) for peak in peaks][-DAYS:]
        made.totals = array("f", [float(value) for value in totals][-DAYS - 1 :] or [0.0])
        made.hours = bytearray.fromhex(hours)
        made.networks, made.clients, made.models = (tuple(map(str, each))[:NAMES] for each in names)
        new, since, gap, recent, recent_at, usual = facts[12:]
        made.new, made.new_since, made.gap = int(new), float(since), float(gap)
        made.recent = None if recent is None else bytearray.fromhex(recent)
        made.recent_at = int(recent_at) % RECENT
        if usual:
            made.usual_out = {str(model): (float(mean), int(count)) for model, (mean, count) in usual.items()}
        if len(made.hours) != 48 or (made.recent is not None and len(made.recent) != SKETCH * RECENT):
            raise ValueError("profile")
        return made


def _array(kind: str, values: list[Any]) -> array[float]:
    made = array(kind, [float(value) for value in values])
    if len(made) != 2 * COUNT:
        raise ValueError("metrics")
    return made


def hour_of(time: float) -> int:
    """The place of an hour in `Profile.hours`. Day 0 of 1970 was a Thursday."""
    weekend = (int(time // DAY) + 3) % 7 >= 5
    return int(time % DAY // HOUR) + (24 if weekend else 0)
