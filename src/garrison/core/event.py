"""An event: the one record of something that happened. Every view is a fold over these."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from garrison.core.actions import Action
from garrison.core.finding import Finding


class Outcome(StrEnum):
    """How it ended. `unknown` is "could not tell" and is treated as denied."""

    ALLOWED = "allowed"
    DENIED = "denied"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Event:
    """Who did what to what, under which digest, and how it ended.

    `actor` is `kind:name` (`user:dana`, `service:gateway`, `anonymous:`); `resource` is a name, a
    name@version or a path; `digest` the manifest digest it concerned; `code` the refusal code if any;
    `data` holds masked facts only: digests, counts, rule ids, never a prompt, an answer or a secret.
    """

    time: datetime
    action: Action
    actor: str
    resource: str
    outcome: Outcome
    code: str = ""
    digest: str = ""
    findings: tuple[Finding, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    trace_id: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "time": format_time(self.time),
            "action": self.action.value,
            "actor": self.actor,
            "resource": self.resource,
            "outcome": self.outcome.value,
            "code": self.code,
            "digest": self.digest,
            "findings": [finding.as_json() for finding in self.findings],
            "data": self.data,
            "trace_id": self.trace_id,
        }


def format_time(moment: datetime) -> str:
    """RFC 3339, UTC, microseconds: `2026-11-22T14:03:00.000000Z`. Sorts as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`; also accepts RFC 3339 without a fraction. Raises ValueError."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(UTC)


def age(span: timedelta) -> str:
    """A span as people read it: 40 s, 3 min, 5 h, 2 d."""
    seconds = max(0, int(span.total_seconds()))
    for size, unit in ((172_800, "d"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds // {'d': 86_400, 'h': 3_600, 'min': 60}[unit]} {unit}"
    return f"{seconds} s"
