"""A finding: what a scanner, detector or check saw, in the shape that SARIF tools expect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad, ordered by `rank`: `info` and `low` inform, `medium` and above refuse or block."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Verdict(StrEnum):
    """Three answers, never two. `incomplete` is "could not tell" and blocks like `refused`."""

    CLEAN = "clean"
    REFUSED = "refused"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation. `rule_id` is forever; `where` is a path, member or span and never the content."""

    rule_id: str
    severity: Severity
    message: str
    where: str = ""
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "rule_id": self.rule_id,
            "severity": self.severity.value,
            "message": self.message,
            "where": self.where,
            "fix": self.fix,
        }


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a whole: refused beats incomplete beats clean; of nothing at all, incomplete."""
    seen = set(verdicts)
    if Verdict.REFUSED in seen:
        return Verdict.REFUSED
    return Verdict.CLEAN if seen == {Verdict.CLEAN} else Verdict.INCOMPLETE
