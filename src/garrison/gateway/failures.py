"""Failed authentication, by source: counted, and slowed down before it costs a signature check each.

Checking a token that nobody has seen costs more than a whole request. A source that showed many bad ones is told to
wait, unless what it shows now is known already to be good.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from garrison.core.errors import Refused

WINDOW_SECONDS = 10.0
MAX_FAILURES = 50  # of one source in a window; a person who mistypes makes three
MAX_SOURCES = 10_000  # remembered; all are forgotten when there are more


@dataclass(slots=True)
class Failures:
    """By source address: when its window ends, and how many there were in it."""

    sources: dict[str, tuple[float, int]] = field(default_factory=dict)

    def check(self, source: str, now: float) -> None:
        """Raises `Refused` LIM-AUTH for a source that failed too often a moment ago."""
        until, count = self.sources.get(source, (0.0, 0))
        if count >= MAX_FAILURES and now < until:
            raise Refused(
                "LIM-AUTH",
                "too many access tokens from this address were not good",
                fix="wait, then send a good one",
                retry_after=until - now,
            )

    def failed(self, source: str, now: float) -> None:
        until, count = self.sources.get(source, (0.0, 0))
        if now >= until:
            until, count = now + WINDOW_SECONDS, 0
        if len(self.sources) >= MAX_SOURCES and source not in self.sources:
            self.sources.clear()
        self.sources[source] = (until, count + 1)
