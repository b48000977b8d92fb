"""What changed between two scans: which files, which verdicts, which findings came and went, by which rules."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.core.errors import Usage

MAX_SIZE = 1 << 30  # a report of 200,000 files with findings
_FIX = "garrison scan DIR --json > FILE writes one"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file whose answer is another one now. `kind`: added, removed, content, verdict or findings."""

    path: str
    kind: str
    before: str
    after: str
    gone: tuple[str, ...]
    come: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "kind": self.kind,
            "before": self.before,
            "after": self.after,
            "gone": list(self.gone),
            "come": list(self.come),
        }


@dataclass(frozen=True, slots=True)
class ScanDiff:
    """The two rulesets and every change; `because_of` counts the rules whose findings came or went."""

    before: str
    after: str
    changes: tuple[FileChange, ...]

    def because_of(self) -> dict[str, int]:
        """Rule -> files in which it now speaks (positive) or no longer does (negative)."""
        total: Counter[str] = Counter()
        for change in self.changes:
            if change.kind in ("verdict", "findings"):
                total.update({line.split(" ", 1)[0] for line in change.come})
                total.subtract({line.split(" ", 1)[0] for line in change.gone})
        return {rule: count for rule, count in sorted(total.items()) if count}

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": "garrison.scan-diff/1",
            "before": self.before,
            "after": self.after,
            "rules": self.because_of(),
            "changes": [change.as_json() for change in self.changes],
        }


def load_report(path: Path) -> dict[str, Any]:
    """A `garrison.scan/1` document. Raises `Usage` SCAN-REPORT for anything else."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SIZE + 1)
        report = json.loads(data) if len(data) <= MAX_SIZE else None
    except OSError as error:
        raise Usage("SCAN-REPORT", f"{str(path)!r} cannot be read: {error.strerror}", fix=_FIX) from error
    except (ValueError, RecursionError) as error:
        raise Usage("SCAN-REPORT", f"{str(path)!r} is not JSON", fix=_FIX) from error
    if not isinstance(report, dict) or report.get("schema") != "garrison.scan/1" or not _is_shaped(report):
        raise Usage("SCAN-REPORT", f"{str(path)!r} is not the result of a scan (garrison.scan/1)", fix=_FIX)
    return report


def explain(before: Mapping[str, Any], after: Mapping[str, Any]) -> ScanDiff:
    """Two documents in the public shape to what is different, in the order of paths."""
    old, new = ({file["path"]: file for file in report["files"]} for report in (before, after))
    changes = [_change(path, old.get(path), new.get(path)) for path in sorted({*old, *new})]
    return ScanDiff(
        str(before.get("ruleset", "unknown")),
        str(after.get("ruleset", "unknown")),
        tuple(change for change in changes if change is not None),
    )


def _change(path: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> FileChange | None:
    was, now = (_findings(file) for file in (old, new))
    gone, come = tuple(sorted(was - now)), tuple(sorted(now - was))
    before, after = (file["verdict"] if file else "" for file in (old, new))
    if old is None or new is None:
        kind = "added" if old is None else "removed"
    elif old["sha256"] != new["sha256"] and old["sha256"] and new["sha256"]:
        kind = "content"
    elif before != after:
        kind = "verdict"
    elif gone or come:
        kind = "findings"
    else:
        return None
    return FileChange(path, kind, before, after, gone, come)


def _findings(file: Mapping[str, Any] | None) -> set[str]:
    """Each finding as one line; that it is suppressed is part of what it says."""
    return {
        f"{row['rule_id']} {row['where']} {row['message']}"
        + (f" [suppressed until {row['suppressed']['until']}]" if "suppressed" in row else "")
        for row in (file["findings"] if file else ())
    }


def _is_shaped(report: Mapping[str, Any]) -> bool:
    files = report.get("files")
    return isinstance(files, list) and all(
        isinstance(file, dict)
        and all(isinstance(file.get(key), str) for key in ("path", "verdict", "sha256"))
        and isinstance(file.get("findings"), list)
        and all(
            isinstance(row, dict)
            and all(isinstance(row.get(key), str) for key in ("rule_id", "where", "message"))
            for row in file["findings"]
        )
        for file in files
    )
