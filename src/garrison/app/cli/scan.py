"""`garrison scan PATH`: judge model files on their own, without a server or a data directory."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison import __version__
from garrison.app.cli import output, scan_text
from garrison.artifacts.scan import RULESET, Options, scan_path, scan_stream
from garrison.core.errors import Usage
from garrison.core.finding import Verdict

if TYPE_CHECKING:
    from garrison.artifacts.scan_features import FeatureIndex
    from garrison.artifacts.scan_report import ScanReport

EXIT = {Verdict.CLEAN: 0, Verdict.REFUSED: 1, Verdict.INCOMPLETE: 3}
TIERS = ("public", "internal", "confidential", "personal", "health", "secret")


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "scan",
        help="judge model files: clean, refused or incomplete",
        description="Look for code, escapes and contradictions in model files. Nothing is loaded or run.",
        epilog="""\
examples:
  garrison scan ./fraud
  garrison scan hf-cache:openai-community/gpt2
  garrison scan s3://models/fraud/3
  tar -c ./fraud | garrison scan -
  garrison scan ./models --policy scan-policy.toml --format sarif > scan.sarif
  garrison scan ./models --index scans.db
  garrison scan --judge-again --index scans.db --json > after.json
  garrison scan --find _rebuild_tensor --index scans.db
  garrison scan --explain-diff before.json after.json

Exit: 0 clean, 1 refused, 3 incomplete (something was not understood).""",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a file, a directory, hf-cache:ORG/NAME, s3://BUCKET/PREFIX, or - for a tar or a file on standard input",
    )
    parser.add_argument(
        "--format",
        choices=("text", "json", "sarif"),
        help="text: one line a finding (default); json: the same as --json; sarif: SARIF 2.1.0",
    )
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="what refuses, and what is let pass (TOML)"
    )
    parser.add_argument("--tier", choices=TIERS, help="judge by the policy's section for this tier")
    parser.add_argument("--jobs", type=_jobs, metavar="N", help="files at a time (default: one per core)")
    parser.add_argument(
        "--no-hash", action="store_true", help="structure alone: faster on large files, sha256 stays empty"
    )
    parser.add_argument("--index", type=Path, metavar="FILE", help="keep what was seen in this feature index")
    parser.add_argument(
        "--judge-again", action="store_true", help="judge the index by the rules of now, without the files"
    )
    parser.add_argument(
        "--find", metavar="TEXT", help="which files of the index have a global, operator, ..."
    )
    parser.add_argument(
        "--explain-diff", nargs=2, type=Path, metavar=("OLD", "NEW"), help="what changed between two results"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 clean, 1 refused, 3 incomplete. Raises `Usage` SCAN-PATH, SCAN-POLICY, SCAN-INDEX, SCAN-REPORT."""
    if args.json and args.format not in (None, "json"):
        raise Usage("CLI-USAGE", f"--json and --format {args.format} disagree", fix="give one of them")
    form = "json" if args.json else args.format or "text"
    work = [args.judge_again, args.find is not None, args.explain_diff is not None, bool(args.paths)]
    if sum(work) != 1:
        raise Usage(
            "CLI-USAGE",
            "one thing at a time: paths, --judge-again, --find or --explain-diff",
            fix="garrison scan --help shows an example of each",
        )
    if args.explain_diff is not None:
        return _explain_diff(*args.explain_diff, as_json=form == "json")
    if args.find is not None:
        return _find(args, as_json=form == "json")
    report = _with_policy(args, _judge_again(args) if args.judge_again else _scan(args))
    if form == "json":
        output.print_json(report.as_json())
    elif form == "sarif":
        from garrison.artifacts.sarif import as_sarif  # with the catalogue, 60 ms; wanted for this form alone

        output.print_json(as_sarif(report, __version__))
    else:
        scan_text.show(report)
    return EXIT[report.verdict]


def _scan(args: argparse.Namespace) -> ScanReport:
    options = Options(
        jobs=args.jobs or _cores(),
        hash_files=not args.no_hash,
        keep=args.index is not None,
        fork=args.is_process and not any(path.startswith("s3://") for path in args.paths),
    )
    if args.no_hash and (args.index or args.policy):
        raise Usage(
            "CLI-USAGE",
            "--index and --policy know a file by its digest, and --no-hash leaves it out",
            fix="leave out --no-hash",
        )
    progress = scan_text.Progress() if sys.stderr.isatty() else None
    with _index(args) if args.index else nullcontext() as index:
        try:
            if args.paths == ["-"]:
                report = scan_stream(sys.stdin.buffer, options=options)
            else:
                report = scan_path(args.paths, progress=progress, options=options, environment=os.environ)
        finally:
            if progress is not None:
                progress.clear()
        if index is not None:
            index.store(report)
    return report


def _with_policy(args: argparse.Namespace, report: ScanReport) -> ScanReport:
    if args.policy is None:
        if args.tier is not None:
            raise Usage("CLI-USAGE", "--tier chooses a section of a policy", fix="add --policy FILE")
        return report
    from garrison.artifacts.scan_policy import apply, load_policy  # with the scanners, 60 ms; rarely wanted
    from garrison.core.decision import Tier  # wanted with a policy alone

    tier = Tier(args.tier) if args.tier else None
    return apply(load_policy(args.policy), report, today=datetime.now(UTC).date(), tier=tier)


def _index(args: argparse.Namespace) -> FeatureIndex:
    if args.index is None:
        raise Usage("CLI-USAGE", "this needs a feature index", fix="add --index FILE")
    from garrison.artifacts.scan_features import FeatureIndex  # sqlite3: 10 ms; rarely wanted

    return FeatureIndex(args.index)


def _judge_again(args: argparse.Namespace) -> ScanReport:
    with _index(args) as index:
        return index.judge_again(RULESET, jobs=args.jobs or _cores())


def _find(args: argparse.Namespace, *, as_json: bool) -> int:
    with _index(args) as index:
        rows = index.find(args.find)
    if as_json:
        keys = ("kind", "value", "sha256", "name", "verdict")
        output.print_json({"facts": [dict(zip(keys, row, strict=True)) for row in rows]})
    else:
        shown = [(kind, value, name, sha256[:12], verdict) for kind, value, sha256, name, verdict in rows]
        output.print_table(
            ("KIND", "VALUE", "FILE", "SHA-256", "VERDICT"), shown, empty="no file of the index has it"
        )
    return 0


def _explain_diff(old: Path, new: Path, *, as_json: bool) -> int:
    from garrison.artifacts.scan_diff import explain, load_report  # wanted for this alone

    diff = explain(load_report(old), load_report(new))
    if as_json:
        output.print_json(diff.as_json())
    else:
        scan_text.show_diff(diff)
    return 0


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError("a number from 1 to 64")
    return int(text)


def _cores() -> int:
    return min(64, len(os.sched_getaffinity(0)))
