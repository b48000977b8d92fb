"""`garrison eval`: evaluation reports as signed attachments of a version."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import link, output
from garrison.core.digest import short

MAX_SHOWN = 12  # scores of one report; --json lists them all


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("eval", help="attach, list and verify evaluation reports")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    attach = verbs.add_parser(
        "attach",
        help="sign a report and attach it to a version",
        epilog="example: garrison eval attach fraud@3 results.json --suite holdout",
    )
    attach.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
    attach.add_argument(
        "report", metavar="REPORT", help="JSON with scores: any, lm-evaluation-harness or MLflow"
    )
    attach.add_argument("--suite", metavar="NAME", help="what was evaluated (default: the file's name)")
    attach.set_defaults(run=run_attach)
    listing = verbs.add_parser(
        "list", help="the reports of a version or a name", epilog="example: garrison eval list fraud"
    )
    listing.add_argument("ref", metavar="NAME[@VERSION]", help="such as fraud or fraud@3")
    listing.set_defaults(run=run_list)
    verify = verbs.add_parser(
        "verify",
        help="check that no score was changed",
        epilog="examples:\n  garrison eval verify fraud@3\n  garrison eval verify fraud@3 results.json",
    )
    verify.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
    verify.add_argument("copy", nargs="?", metavar="REPORT", help="a copy to hold against what was signed")
    verify.set_defaults(run=run_verify)


def run_attach(args: argparse.Namespace) -> int:
    result = link.call(args, "eval.attach", ref=args.ref, report=link.absolute(args.report), suite=args.suite)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("attached", f"{result['label']} to {result['ref']}   {short(result['digest'])}"),
            ("report", f"{result['suite']}   {result['format']}   {short(result['report'])}"),
            *_scores(result),
            ("renewed", ", ".join(result["renewed"])),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "eval.list", ref=args.ref)
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("VERSION", "SUITE", "FORM", "SCORES", "REPORT"),
        [
            (row["ref"], row["suite"], row["format"], len(row["metrics"]), short(row["report"]))
            for row in result["reports"]
        ],
        empty=f"no reports yet: garrison eval attach {args.ref if '@' in args.ref else args.ref + '@1'} REPORT.json",
    )
    return 0


def run_verify(args: argparse.Namespace) -> int:
    copy = link.absolute(args.copy) if args.copy else None
    result = link.call(args, "eval.verify", ref=args.ref, copy=copy)
    if args.json:
        output.print_json(result)
        return 0
    pairs = [("verified", f"{result['ref']}   {len(result['reports'])} reports, every score as signed")]
    for report in result["reports"]:
        pairs += [("report", f"{report['suite']}   {short(report['report'])}"), *_scores(report)]
    output.print_pairs(pairs)
    return 0


def _scores(report: dict[str, Any]) -> list[tuple[str, str]]:
    shown = [("", f"{row['name']} = {row['value']}") for row in report["metrics"][:MAX_SHOWN]]
    more = len(report["metrics"]) - MAX_SHOWN
    return [*shown, ("", f"and {more} more")] if more > 0 else shown
