"""Failed logins over a sliding window: by source, by identity that was proved, and by everybody together. Pure.

    logins = Logins(LoginLimits())
    for failure in failures:
        floods = logins.feed(failure)

A name that somebody only claimed is never here: the gateway notes an identity when a signature proved it. So nothing
that an outsider sends makes a list of who has an account, and nobody can raise an alert about somebody else.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from math import inf

MAX_SUBJECTS = 10_000  # sources and identities remembered; who failed longest ago is forgotten first
EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """So many failures within `seconds` are a flood; of everybody together it takes `together` times as many."""

    failures: int = 20
    seconds: float = 300.0
    together: int = 10
    again: float = 3_600.0  # seconds in which the same is not said twice of the same


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed login. `source` is an address; `identity` is empty unless it was proved."""

    time: float
    source: str
    reason: str
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Flood:
    """`subject` is `source:ADDRESS`, `identity:NAME` or `everybody`; `reasons` by how often, `sources` how many."""

    subject: str
    time: float
    count: int
    reasons: tuple[tuple[str, int], ...]
    sources: int


@dataclass(slots=True)
class Logins:
    limits: LoginLimits
    windows: OrderedDict[str, deque[Failure]] = field(default_factory=OrderedDict)
    raised: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def feed(self, failure: Failure) -> list[Flood]:
        limit, found = self.limits.failures, []
        subjects = [(EVERYBODY, limit * self.limits.together)]
        if failure.source:
            subjects.append((f"source:{failure.source}", limit))
        if failure.identity:
            subjects.append((f"identity:{failure.identity}", limit))
        for subject, most in subjects:
            window = self._window(subject, most)
            window.append(failure)
            is_flood = len(window) == most and failure.time - window[0].time <= self.limits.seconds
            if is_flood and failure.time - self.raised.get(subject, -inf) >= self.limits.again:
                self.mark(subject, failure.time)
                found.append(_flood(subject, window))
        return found

    def mark(self, subject: str, time: float) -> None:
        """It was said of this subject at that time."""
        self.raised.pop(subject, None)
        self.raised[subject] = time
        if len(self.raised) > MAX_SUBJECTS:
            self.raised.popitem(last=False)

    def _window(self, subject: str, most: int) -> deque[Failure]:
        window = self.windows.get(subject)
        if window is None:
            window = self.windows[subject] = deque(maxlen=most)
            if len(self.windows) > MAX_SUBJECTS:
                self.windows.popitem(last=False)
        else:
            self.windows.move_to_end(subject)
        return window


def _flood(subject: str, window: deque[Failure]) -> Flood:
    reasons = Counter(one.reason for one in window)
    return Flood(
        subject,
        window[-1].time,
        len(window),
        tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        len({one.source for one in window}),
    )
