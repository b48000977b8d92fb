"""Drift: every imported version compared with its source again. Same, changed, or could not tell.

Run it by hand (`garrison drift`) or from a scheduler (`check_all`): each version leaves one event. A
source that cannot be reached is never "same"; one that is gone is a change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from garrison.artifacts import imports
from garrison.artifacts.import_store import Entry
from garrison.artifacts.lineage.files import nowhere
from garrison.artifacts.lineage.imported import differences
from garrison.artifacts.registry import Registry, event_of
from garrison.core.actions import Action
from garrison.core.decision import Subject
from garrison.core.errors import Refused, Undecided
from garrison.core.event import Outcome, format_time
from garrison.core.finding import Finding, Severity

GONE = frozenset({"LIN-GONE"})
MAX_EVENT_FINDINGS = 20


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer for one version: `same`, `drifted` (with findings) or `unknown` (with what was in the way)."""

    entry: Entry
    verdict: str
    findings: tuple[Finding, ...] = ()
    why: str = ""
    code: str = ""
    audit_id: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "ref": str(self.entry.ref),
            "digest": self.entry.digest,
            "kind": self.entry.locator.kind,
            "source": dict(self.entry.locator.place),
            "imported": format_time(self.entry.imported),
            "verdict": self.verdict,
            "findings": [finding.as_json() for finding in self.findings],
            "why": self.why,
            "code": self.code,
            "audit_id": self.audit_id,
        }


def check_all(
    registry: Registry,
    data: Path,
    subject: Subject,
    name: str | None = None,
    progress: Callable[[str], None] = lambda _text: None,
) -> tuple[Checked, ...]:
    """Compare every imported version (or those of one name) with its source. Retired ones are left out."""
    done = []
    for entry in imports.find(registry, name):
        if entry.is_retired:
            continue
        progress(f"comparing {entry.ref} with {entry.locator}")
        done.append(_recorded(registry, subject, check(entry, data)))
    return tuple(done)


def check(entry: Entry, data: Path) -> Checked:
    """Read the source again, keeping nothing, and say what is not as it was."""
    since = format_time(entry.imported)
    try:
        now = imports.reader(entry.locator, data, entry.state)(nowhere)
    except (Refused, Undecided) as error:
        if error.code in GONE:
            gone = Finding(
                "DRIFT-SOURCE",
                Severity.HIGH,
                f"{entry.locator} is gone at the source: {error.what}; imported {since}",
                str(entry.locator)[:200],
                "ask who deleted it; Garrison still has the imported bytes and the record of the run",
            )
            return Checked(entry, "drifted", (gone,))
        if error.code == "LIN-DIGEST":  # the source contradicts its own digests: its bytes were changed
            changed = Finding(
                "DRIFT-CONTENT",
                Severity.CRITICAL,
                f"{error.what}; imported {since}",
                str(error.evidence.get("path", ""))[:200],
                error.fix,
            )
            return Checked(entry, "drifted", (changed,))
        return Checked(entry, "unknown", why=error.what, code=error.code)
    found = differences(entry.state, now.state, since)
    return Checked(entry, "drifted" if found else "same", found)


def verdict(checked: tuple[Checked, ...]) -> str:
    """One word for all: a change beats "could not tell", and that beats "same"."""
    seen = {item.verdict for item in checked}
    return next((word for word in ("drifted", "unknown") if word in seen), "same")


def _recorded(registry: Registry, subject: Subject, checked: Checked) -> Checked:
    entry = checked.entry
    outcomes = {"same": Outcome.ALLOWED, "drifted": Outcome.DENIED, "unknown": Outcome.UNKNOWN}
    event = event_of(
        registry,
        subject,
        Action.ARTIFACT_DRIFT,
        entry.ref,
        entry.digest,
        {"verdict": checked.verdict, "from": entry.locator.kind, "source": str(entry.locator)[:500]},
    )
    code = checked.code or (checked.findings[0].rule_id if checked.findings else "")
    event = replace(
        event,
        outcome=outcomes[checked.verdict],
        code=code,
        findings=checked.findings[:MAX_EVENT_FINDINGS],
    )
    with registry.ledger.transaction() as transaction:
        return replace(checked, audit_id=transaction.append(event))
