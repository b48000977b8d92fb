"""Rate limits per subject and model: requests, tokens and parallel requests, exact in any 60 seconds.

A sliding window rather than a refilling bucket: a bucket admits up to twice the stated number in its first
minute, and the stated number is a promise. Counts are kept by the second, so a minute is at most one
second longer than sixty and never shorter. Tokens are reserved before the request runs and settled to what
it used, so parallel requests cannot overspend by more than one reservation between them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from garrison.core.errors import Refused

WINDOW_SECONDS = 60.0
MAX_WINDOWS = 20_000  # subject-model pairs remembered; idle ones are forgotten first
DEFAULT_COMPLETION = 1_024  # tokens reserved for an answer whose request sets no maximum


@dataclass(frozen=True, slots=True)
class Limits:
    """What one subject may use of one model; 0 means nothing may pass."""

    requests_per_minute: int
    tokens_per_minute: int
    concurrency: int

    def shared(self, workers: int) -> Limits:
        """One worker's part when `workers` count on their own: never more than the whole, at least one."""
        if workers <= 1:
            return self
        return Limits(
            max(1, self.requests_per_minute // workers),
            max(1, self.tokens_per_minute // workers),
            max(1, self.concurrency // workers),
        )


@dataclass(slots=True, eq=False)
class _Slot:
    """What began within one second. It leaves the window when its last instant is a minute old."""

    ends: float
    requests: int = 0
    tokens: int = 0
    counted: bool = True


@dataclass(slots=True)
class _Window:
    slots: deque[_Slot] = field(default_factory=deque)
    requests: int = 0
    tokens: int = 0
    running: int = 0

    def advance(self, now: float) -> None:
        while self.slots and self.slots[0].ends <= now - WINDOW_SECONDS:
            oldest = self.slots.popleft()
            oldest.counted = False
            self.requests -= oldest.requests
            self.tokens -= oldest.tokens

    def current(self, now: float) -> _Slot:
        if not self.slots or self.slots[-1].ends <= now:
            self.slots.append(_Slot(math.floor(now) + 1.0))
        return self.slots[-1]


@dataclass(slots=True, eq=False)
class Reservation:
    """A place in the window. `settle` once, when the request has ended, with the tokens it used."""

    window: _Window
    slot: _Slot
    tokens: int
    open: bool = True

    def settle(self, tokens: int) -> None:
        if not self.open:
            return
        self.open = False
        self.window.running -= 1
        self.slot.tokens += tokens - self.tokens
        if self.slot.counted:
            self.window.tokens += tokens - self.tokens


class Limiter:
    """Counters of one worker. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float], workers: int = 1) -> None:
        self._clock = clock
        self._workers = workers
        self._windows: dict[tuple[str, str], _Window] = {}

    def reserve(self, subject: str, model: str, tokens: int, limits: Limits) -> Reservation:
        """A place for one request of `tokens` tokens. Raises `Refused` LIM-RATE with `retry_after` seconds."""
        now = self._clock()
        limits = limits.shared(self._workers)
        window = self._windows.get((subject, model))
        if window is None:
            window = self._open((subject, model), now)
        window.advance(now)
        if window.running >= limits.concurrency:
            raise _over("concurrency", limits.concurrency, window.running, 1.0, model)
        if window.requests >= limits.requests_per_minute:
            wait = window.slots[0].ends + WINDOW_SECONDS - now if window.slots else WINDOW_SECONDS
            raise _over("requests_per_minute", limits.requests_per_minute, window.requests, wait, model)
        if window.tokens + tokens > limits.tokens_per_minute:
            wait = _until_free(window, tokens, limits.tokens_per_minute, now)
            raise _over("tokens_per_minute", limits.tokens_per_minute, window.tokens + tokens, wait, model)
        slot = window.current(now)
        slot.requests += 1
        slot.tokens += tokens
        window.requests += 1
        window.tokens += tokens
        window.running += 1
        return Reservation(window, slot, tokens)

    def _open(self, key: tuple[str, str], now: float) -> _Window:
        if len(self._windows) >= MAX_WINDOWS:
            idle = now - WINDOW_SECONDS
            self._windows = {
                known: window
                for known, window in self._windows.items()
                if window.running or (window.slots and window.slots[-1].ends > idle)
            }
        if len(self._windows) >= MAX_WINDOWS:
            raise _over("subjects", MAX_WINDOWS, len(self._windows), WINDOW_SECONDS, key[1])
        window = self._windows[key] = _Window()
        return window


def _until_free(window: _Window, tokens: int, limit: int, now: float) -> float:
    """Seconds until enough reservations have left the window; a whole one when the request alone is too big."""
    excess = window.tokens + tokens - limit
    for slot in window.slots:
        excess -= slot.tokens
        if excess <= 0:
            return slot.ends + WINDOW_SECONDS - now
    return WINDOW_SECONDS


def _over(limit: str, allowed: int, asked: int, wait: float, model: str) -> Refused:
    seconds = max(1, math.ceil(wait))
    return Refused(
        "LIM-RATE",
        f"{limit} for {model} is {allowed}; this request would make it {asked}"
        if limit == "tokens_per_minute"
        else f"{limit} for {model} is {allowed} and used up",
        fix=f"wait {seconds} seconds, ask for fewer tokens, or ask an operator for a higher limit",
        evidence={"limit": limit, "allowed": allowed},
        retry_after=seconds,
    )
