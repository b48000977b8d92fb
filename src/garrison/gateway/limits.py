"""Rate limits per subject and model: requests, tokens and parallel requests, exact in any 60 seconds.

A sliding window rather than a refilling bucket: a bucket admits up to twice the stated number in its first
minute, and the stated number is a promise. Tokens are reserved before the request runs and settled to what
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


@dataclass(slots=True)
class _Window:
    entries: deque[Reservation] = field(default_factory=deque)
    tokens: int = 0
    running: int = 0


@dataclass(slots=True, eq=False)
class Reservation:
    """A place in the window. `settle` once, when the request has ended, with the tokens it used."""

    window: _Window
    since: float
    tokens: int
    counted: bool = True
    open: bool = True

    def settle(self, tokens: int) -> None:
        if not self.open:
            return
        self.open = False
        self.window.running -= 1
        if self.counted:
            self.window.tokens += tokens - self.tokens
        self.tokens = tokens


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
        entries = window.entries
        while entries and entries[0].since <= now - WINDOW_SECONDS:
            self._expire(window)
        if window.running >= limits.concurrency:
            raise _over("concurrency", limits.concurrency, window.running, 1.0, model)
        if len(entries) >= limits.requests_per_minute:
            wait = entries[0].since + WINDOW_SECONDS - now if entries else WINDOW_SECONDS
            raise _over("requests_per_minute", limits.requests_per_minute, len(entries), wait, model)
        if window.tokens + tokens > limits.tokens_per_minute:
            wait = _until_free(window, tokens, limits.tokens_per_minute, now)
            raise _over("tokens_per_minute", limits.tokens_per_minute, window.tokens + tokens, wait, model)
        reservation = Reservation(window, now, tokens)
        entries.append(reservation)
        window.tokens += tokens
        window.running += 1
        return reservation

    def _expire(self, window: _Window) -> None:
        oldest = window.entries.popleft()
        window.tokens -= oldest.tokens
        oldest.counted = False

    def _open(self, key: tuple[str, str], now: float) -> _Window:
        if len(self._windows) >= MAX_WINDOWS:
            idle = now - WINDOW_SECONDS
            self._windows = {
                known: window
                for known, window in self._windows.items()
                if window.running or (window.entries and window.entries[-1].since > idle)
            }
        if len(self._windows) >= MAX_WINDOWS:
            raise _over("subjects", MAX_WINDOWS, len(self._windows), WINDOW_SECONDS, key[1])
        window = self._windows[key] = _Window()
        return window


def _until_free(window: _Window, tokens: int, limit: int, now: float) -> float:
    """Seconds until enough reservations have left the window; a whole one when the request alone is too big."""
    excess = window.tokens + tokens - limit
    for entry in window.entries:
        excess -= entry.tokens
        if excess <= 0:
            return entry.since + WINDOW_SECONDS - now
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
