"""`garrison scan PATH`: judge model files on their own, without a server or a data directory."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Any

from garrison.app.cli import output
from garrison.artifacts.scan import scan_path
from garrison.artifacts.scan_report import FileReport, ScanReport
from garrison.core.finding import Finding, Verdict

EXIT = {Verdict.CLEAN: 0, Verdict.REFUSED: 1, Verdict.INCOMPLETE: 3}
MAX_SHOWN = 20  # findings on a screen; --json has all of them


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "scan",
        help="judge model files: clean, refused or incomplete",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Look for code, escapes and contradictions in model files. Nothing is loaded or run.",
        epilog="""\
examples:
  garrison scan ./fraud
  garrison scan model.safetensors tokenizer_config.json --json

Exit: 0 clean, 1 refused, 3 incomplete (something was not understood).""",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file or a directory")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 clean, 1 refused, 3 incomplete. Raises `Usage` SCAN-PATH for a path that is not there."""
    progress = None if args.json or not sys.stderr.isatty() else _show_progress
    try:
        report = scan_path(args.paths, progress=progress)
    finally:
        if progress is not None:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    if args.json:
        output.print_json(report.as_json())
    else:
        _show(report)
    return EXIT[report.verdict]


def _show(report: ScanReport) -> None:
    ranked = sorted(
        ((file, finding) for file in report.files for finding in file.findings),
        key=lambda pair: (-pair[1].severity.rank, pair[0].verdict is not Verdict.INCOMPLETE, pair[0].path),
    )
    for file, finding in ranked[:MAX_SHOWN]:
        _show_finding(file, finding)
    if len(ranked) > MAX_SHOWN:
        output.print_line(f"and {len(ranked) - MAX_SHOWN} more findings; --json lists them")
    counts = {verdict: sum(file.verdict is verdict for file in report.files) for verdict in Verdict}
    parts = [
        f"{count} {verdict.value}" for verdict, count in counts.items() if count and len(report.files) > 1
    ]
    size = output.megabytes(sum(file.size for file in report.files))
    noun = "file" if len(report.files) == 1 else "files"
    words = [report.verdict.value.upper(), f"{len(report.files)} {noun}, {size}", ", ".join(parts)]
    output.print_line("   ".join(word for word in words if word))


def _show_finding(file: FileReport, finding: Finding) -> None:
    label = (
        "incomplete"
        if finding.severity.rank < 2 and file.verdict is not Verdict.CLEAN
        else finding.severity.value
    )
    output.print_line(f"{label:<10}  {finding.rule_id}")
    for name, text in (("where", finding.where or file.path), ("", finding.message), ("fix", finding.fix)):
        lines = textwrap.wrap(output.visible(text), output.WIDTH - 12, break_on_hyphens=False)
        for index, line in enumerate(lines):
            output.print_line(f"  {name if index == 0 else '':<8}  {line}")


def _show_progress(path: str, files: int, size: int) -> None:
    text = output.visible(path)[-40:]
    print(f"\r\033[K{files} files, {size / 1e6:,.0f} MB   {text}", end="", file=sys.stderr, flush=True)
