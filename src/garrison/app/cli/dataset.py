"""`garrison dataset`: data sets registered, hashed, scanned and linked to the models they made."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import link, output
from garrison.core.decision import Tier
from garrison.core.digest import short
from garrison.core.errors import Refused

MAX_SHOWN = 12  # files of a data set; --json lists them all


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("dataset", help="register, list, show and verify training data")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    register = verbs.add_parser(
        "register",
        help="hash, scan, judge and sign a file or a directory of data",
        epilog="example: garrison dataset register ./reviews --as reviews@2 --owner dana --tier internal",
    )
    register.add_argument("path", metavar="PATH", help="a file or a directory; it stays where it is")
    register.add_argument("--as", dest="ref", required=True, metavar="NAME@VERSION")
    register.add_argument("--owner", required=True, help="who answers for the data")
    register.add_argument(
        "--tier", required=True, choices=[tier.value for tier in Tier], help="sensitivity of the data"
    )
    register.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="MODEL@V",
        help="a published model that was trained on it, repeatable",
    )
    register.set_defaults(run=run_register)
    listing = verbs.add_parser("list", help="list data sets", epilog="example: garrison dataset list")
    listing.set_defaults(run=run_list)
    show = verbs.add_parser(
        "show",
        help="files, rows, what stood out, models trained on it",
        epilog="example: garrison dataset show reviews@2",
    )
    show.add_argument("ref", metavar="NAME@VERSION", help="such as reviews@2")
    show.set_defaults(run=run_show)
    verify = verbs.add_parser(
        "verify",
        help="compare the files with what was registered",
        epilog="examples:\n  garrison dataset verify reviews@2\n  garrison dataset verify reviews@2 ./copy",
    )
    verify.add_argument("ref", metavar="NAME@VERSION", help="such as reviews@2")
    verify.add_argument("path", nargs="?", metavar="PATH", help="where they are (default: where they were)")
    verify.set_defaults(run=run_verify)


def run_register(args: argparse.Namespace) -> int:
    result = link.call(
        args,
        "dataset.register",
        source=link.absolute(args.path),
        ref=args.ref,
        owner=args.owner,
        tier=args.tier,
        models=args.link,
    )
    if args.json:
        output.print_json(result)
        return 0
    state = "unchanged: registered already" if result["unchanged"] else "immutable"
    output.print_pairs([("stored", f"{result['ref']}   {state}"), *_summary(result)])
    if result["audit_id"]:
        output.print_pairs([("audit", result["audit_id"])])
    return 0


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "dataset.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("DATA SET", "TIER", "OWNER", "REGISTERED", "DIGEST"),
        [
            (row["ref"], row["tier"], row["owner"], row["created"][:10], short(row["digest"]))
            for row in result["datasets"]
        ],
        empty="no data sets yet: garrison dataset register PATH --as NAME@1 --owner WHO --tier internal",
    )
    return 0


def run_show(args: argparse.Namespace) -> int:
    result = link.call(args, "dataset.show", ref=args.ref)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs([("data set", result["ref"]), *_summary(result)])
    for entry in result["files"][:MAX_SHOWN]:
        output.print_line(
            f"  {entry['size']:>13,}  {short(entry['digest'])}  {output.fitted(output.visible(entry['path']), 44)}"
        )
    if len(result["files"]) > MAX_SHOWN:
        output.print_line(f"  and {len(result['files']) - MAX_SHOWN} more; --json lists them")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    path = link.absolute(args.path) if args.path else None
    try:
        result = link.call(args, "dataset.verify", ref=args.ref, path=path)
    except Refused as error:
        if error.code != "DATA-TAMPER" or args.json or "paths" not in error.evidence:
            raise
        rows = [*_changes(error), ("next", error.fix), ("explain", f"garrison explain {error.code}")]
        output.print_refusal(error, [*rows, *([("audit", error.audit_id)] if error.audit_id else [])])
        return error.exit_status
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("verified", f"{result['ref']}   {result['digest']}"),
            ("files", f"{result['files']} files, {output.megabytes(result['size'])}, all as registered"),
            ("path", result["path"]),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def _summary(result: dict[str, Any]) -> list[tuple[str, str]]:
    report = result["report"]
    models = ", ".join(model["ref"] for model in result["models"]) or "none known"
    return [
        ("digest", result["digest"]),
        ("owner", f"{result['owner']}   tier {result['tier']}"),
        ("source", result["source"]),
        ("rows", f"{report['rows']:,} in {len(result['files'])} files, {report['duplicates']:,} repeated"),
        *(
            ("flag", f"{row['rule_id']}: {row['message']}{'; ' + row['where'] if row['where'] else ''}")
            for row in report["findings"]
        ),
        ("models", models),
    ]


def _changes(error: Refused) -> list[tuple[str, str]]:
    lines = []
    for row in error.evidence["paths"][:MAX_SHOWN]:
        of = f" with {row['holds']}" if row["change"] == "swapped" else ""
        rows = f"   rows {', '.join(map(str, row['rows'][:5]))}" if "rows" in row else ""
        lines.append(("file", f"{row['path']}   {row['change']}{of}{rows}"))
    more = error.evidence["changes"] - MAX_SHOWN
    return [*lines, ("more", f"{more} files; --json lists them")] if more > 0 else lines
