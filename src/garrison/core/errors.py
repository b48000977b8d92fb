"""The expected ways to fail: what is wrong, what it was judged by, what to do next.

Every expected failure is a `GarrisonError`. Which subclass says whose move it is, and fixes the exit
status that a caller sees (the public contract of every command):

    Refused    1   a control said no
    Usage      2   the request itself is malformed
    Undecided  3   could not tell: a dependency is down, a file is not understood. Never treated as yes.

Anything else that escapes is a defect in Garrison and ends with status 4 at the process boundary.
Errors never carry a secret or a prompt; they carry digests, spans and names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from garrison.core.finding import Finding


class GarrisonError(Exception):
    """An expected failure.

    `code` is stable and explained by `garrison explain CODE`; `what` is one sentence naming the thing
    and the two values that disagree; `fix` is an instruction that the reader can follow now;
    `evidence` holds the facts the decision used; `findings` what a scanner or detector saw.
    """

    exit_status: ClassVar[int] = 4
    http_status: ClassVar[int] = 500

    def __init__(
        self,
        code: str,
        what: str,
        *,
        fix: str,
        evidence: Mapping[str, Any] | None = None,
        findings: Sequence[Finding] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {what}")
        self.code = code
        self.what = what
        self.fix = fix
        self.evidence: dict[str, Any] = dict(evidence or {})
        self.findings = tuple(findings)
        self.retry_after = retry_after
        self.audit_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The one error shape of every door: `{"code", "message", "evidence", "next", "audit_id"}`."""
        evidence = dict(self.evidence)
        if self.findings:
            evidence["findings"] = [finding.as_json() for finding in self.findings]
        return {
            "code": self.code,
            "message": self.what,
            "evidence": evidence,
            "next": self.fix,
            "audit_id": self.audit_id,
        }


class Refused(GarrisonError):
    """A control said no."""

    exit_status = 1
    http_status = 403


class Usage(GarrisonError):
    """The request is malformed: a bad name, a missing option, an unreadable path."""

    exit_status = 2
    http_status = 400


class Undecided(GarrisonError):
    """Could not tell, and so denied: a dependency is down or a file is not understood."""

    exit_status = 3
    http_status = 503


_BY_STATUS: dict[int, type[GarrisonError]] = {1: Refused, 2: Usage, 3: Undecided, 4: GarrisonError}


def from_json(error: Mapping[str, Any], exit_status: int) -> GarrisonError:
    """Rebuild an error that crossed a process boundary, so that both sides print the same words."""
    rebuilt = _BY_STATUS.get(exit_status, GarrisonError)(
        str(error.get("code", "INTERNAL")),
        str(error.get("message", "no message")),
        fix=str(error.get("next", "")),
        evidence=error.get("evidence") if isinstance(error.get("evidence"), dict) else None,
    )
    audit_id = error.get("audit_id")
    rebuilt.audit_id = str(audit_id) if audit_id else None
    return rebuilt
