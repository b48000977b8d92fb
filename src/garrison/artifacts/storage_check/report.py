"""What a check of a store found, and the one refusal that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from garrison.core.errors import GarrisonError, Refused, Undecided

_WORST_FIRST = ("STO-PUBLIC", "STO-WIDE", "STO-SSE", "STO-BLOCK", "STO-VERSIONING")
MAX_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that is wrong. `quote` is the statement, grant or answer that says so, as it was found."""

    code: str
    what: str
    fix: str
    quote: str = ""

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "what": self.what, "quote": self.quote, "fix": self.fix}


@dataclass(frozen=True, slots=True)
class Report:
    """`passed` are the lines of what is as it should be; `unknown` what could not be looked at, and why."""

    url: str
    passed: tuple[str, ...] = ()
    found: tuple[Found, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def is_public(self) -> bool:
        return any(found.code == "STO-PUBLIC" for found in self.found)

    def as_json(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "passed": list(self.passed),
            "findings": [found.as_json() for found in self.found[:MAX_SHOWN]],
            "unknown": list(self.unknown),
        }

    def error(self) -> GarrisonError | None:
        """The worst finding as a refusal; `Undecided` STO-DENIED when something could not be looked at."""
        if self.found:
            worst = min(self.found, key=lambda found: _WORST_FIRST.index(found.code))
            quote = f": {worst.quote}" if worst.quote else ""
            return Refused(
                worst.code, f"{self.url}: {worst.what}{quote}", fix=worst.fix, evidence=self.as_json()
            )
        if self.unknown:
            return Undecided(
                "STO-DENIED",
                f"{self.url}: {self.unknown[0]}, so it is not known whether it is closed",
                fix="give the check credentials that may read it; docs/storage.md has the smallest policy",
                evidence=self.as_json(),
            )
        return None
