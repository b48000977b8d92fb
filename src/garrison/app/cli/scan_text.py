"""A scan for people: one line a finding, what to do about each rule, and the verdict; progress on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from garrison.app.cli import output
from garrison.artifacts.scan import Step
from garrison.artifacts.scan_report import FileReport, ScanReport
from garrison.core.finding import Finding, Severity, Verdict

if TYPE_CHECKING:
    from garrison.artifacts.scan_diff import ScanDiff

MAX_SHOWN = 100  # lines of findings; --json has all of them
MAX_FIXES = 12
REFRESH_SECONDS = 0.1
FILE_COST = 64 << 10  # a small file takes about as long as this many bytes of a large one
_ORDER = ("refused", "incomplete", "suppressed", "note")


def show(report: ScanReport) -> None:
    """The findings that count first; every suppressed one is shown as that."""
    lines = [pair for file in report.files for pair in _labelled(file, report)]
    lines.sort(key=lambda pair: (_ORDER.index(pair[0]), -pair[1].severity.rank))
    for label, finding in lines[:MAX_SHOWN]:
        words = (finding.where, finding.rule_id, finding.message)
        output.print_line(f"{label:<10}  " + "  ".join(output.visible(word) for word in words))
    if len(lines) > MAX_SHOWN:
        output.print_line(f"and {len(lines) - MAX_SHOWN} more findings; --json lists them")
    for missing in report.unconfined:
        output.print_line(f"note        files were read without {output.visible(missing)}")
    _show_policy(report)
    _show_fixes(lines)
    output.print_line(_summary(report))


def _labelled(file: FileReport, report: ScanReport) -> Iterator[tuple[str, Finding]]:
    policy = report.policy or {}
    refuse, accepted = policy.get("refuse", ()), policy.get("accept_incomplete", ())
    for index, finding in enumerate(file.findings):
        is_gap = finding.severity is Severity.LOW and finding.rule_id in file.gaps
        if index in file.suppressed:
            yield "suppressed", finding
        elif finding.severity.rank >= Severity.MEDIUM.rank or finding.rule_id in refuse:
            yield "refused", finding
        elif is_gap and finding.rule_id not in accepted:
            yield "incomplete", finding
        else:
            yield "note", finding


def _show_policy(report: ScanReport) -> None:
    for row in (report.policy or {}).get("suppressions", ()):
        state = row["state"]
        what = f"{row['rule']} of sha256:{row['digest'][:12]}"
        tail = f"until {row['until']} by {output.visible(row['owner'])}: {output.visible(row['reason'])}"
        output.print_line(f"policy      {state}  {what}  {tail}")


def _show_fixes(lines: list[tuple[str, Finding]]) -> None:
    fixes: dict[str, dict[str, None]] = {}
    for label, finding in lines:
        if label in ("refused", "incomplete") and finding.fix:
            fixes.setdefault(finding.fix, {})[finding.rule_id] = None
    if not fixes:
        return
    output.print_line()
    for fix, rules in list(fixes.items())[:MAX_FIXES]:
        output.print_pairs([("to do", f"{fix}  ({', '.join(rules)})")])
    if len(fixes) > MAX_FIXES:
        output.print_line(f"            and {len(fixes) - MAX_FIXES} more; --json has them")
    first = next(iter(next(iter(fixes.values()))))
    output.print_line(f"explain     garrison explain {first}\n")


def _summary(report: ScanReport) -> str:
    counts = {verdict: sum(file.verdict is verdict for file in report.files) for verdict in Verdict}
    parts = [
        f"{count} {verdict.value}" for verdict, count in counts.items() if count and len(report.files) > 1
    ]
    suppressed = sum(len(file.suppressed) for file in report.files)
    if suppressed:
        parts.append(f"{suppressed} findings suppressed")
    size = output.megabytes(sum(file.size for file in report.files))
    noun = "file" if len(report.files) == 1 else "files"
    words = [report.verdict.value.upper(), f"{len(report.files)} {noun}, {size}", ", ".join(parts)]
    return "   ".join(word for word in words if word)


def show_diff(diff: ScanDiff) -> None:
    """One line a file, its findings below it, and the rules that made the difference."""
    same = "the same rules" if diff.before == diff.after else f"rules {diff.before} -> {diff.after}"
    for change in diff.changes:
        verdicts = (
            change.before
            if change.before == change.after
            else f"{change.before or '-'} -> {change.after or '-'}"
        )
        output.print_line(f"{change.kind:<10}  {output.visible(change.path)}  {verdicts}")
        for sign, lines in (("-", change.gone), ("+", change.come)):
            for line in lines:
                output.print_line(f"            {sign} {output.visible(line)}")
    for rule, count in diff.because_of().items():
        output.print_line(f"rule        {rule}  {count:+d} files")
    output.print_line(f"{len(diff.changes)} files changed; {same}")


class Progress:
    """Files, rate and time left on one line of the terminal, a few times a second."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._shown = 0.0

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._shown < REFRESH_SECONDS and step.files < step.all_files:
            return
        self._shown = now
        passed = max(now - self._begun, 1e-6)
        done = step.size + step.files * FILE_COST
        left = passed * (step.all_size + step.all_files * FILE_COST - done) / max(done, 1)
        text = (
            f"{step.files}/{step.all_files} files  {step.size / 1e6 / passed:,.0f} MB/s  "
            f"{left:,.0f} s left  {output.visible(step.path)[-30:]}"
        )
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
