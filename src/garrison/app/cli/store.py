"""`garrison store …`: where model files are kept: is it closed, whole, encrypted?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("store", help="check, verify and encrypt the store of model files")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    check = verbs.add_parser(
        "check",
        help="is a bucket, repository or directory closed to others?",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  garrison store check
  garrison store check s3://models
  garrison store check https://git.example/team/model

Without an argument: the store of this data directory. Of a bucket: its policy,
ACLs, encryption and versions.""",
    )
    check.add_argument("url", nargs="?", metavar="URL", help="s3://bucket[/prefix], https://… or a directory")
    check.add_argument("--endpoint", default="", metavar="URL", help="an S3 service that is not AWS")
    check.add_argument("--no-objects", action="store_true", help="leave out looking at each object")
    check.set_defaults(run=run_check)
    verify = verbs.add_parser(
        "verify",
        help="hash every object of every version again",
        epilog="example: garrison store verify --repair",
    )
    verify.add_argument("--repair", action="store_true", help="lay files out again whose objects are sound")
    verify.set_defaults(run=run_verify)
    encrypt = verbs.add_parser(
        "encrypt",
        help="encrypt a plain local store (with the server stopped)",
        epilog="example: garrison store encrypt",
    )
    encrypt.set_defaults(run=run_encrypt)
    rekey = verbs.add_parser(
        "rekey",
        help="a new wrapping key for every object",
        epilog="example: garrison store rekey",
    )
    rekey.set_defaults(run=run_rekey)


def run_check(args: argparse.Namespace) -> int:
    """0 when nothing is wrong. Raises STO-* with every finding as evidence."""
    if args.url is None:
        result = link.call_or_alone(args, "store.check")
    else:
        report = _inspect(args)
        error = report.error()
        if error is not None:
            if not args.json:
                for found in report.found:
                    output.print_line(f"{found.code}  {output.visible(found.what)}")
                    if found.quote:
                        output.print_line(f"  {output.visible(found.quote)}")
            raise error
        result = report.as_json()
    if args.json:
        output.print_json(result)
        return 0
    output.print_line(output.visible(result["url"]))
    for line in result["passed"]:
        output.print_line(f"  {line}")
    return 0


def _inspect(args: argparse.Namespace) -> Any:
    """A report of what the address leads to. What it needs is imported where it is needed: see commands.py."""
    if args.url.startswith("s3://"):
        from garrison.app.stores import place  # SQLAlchemy and the token: 0.4 s

        found = place(args.url, args.endpoint)
        from garrison.artifacts.storage_check import bucket  # boto3: 0.4 s, and an extra

        return bucket.inspect(found, objects=not args.no_objects)
    if args.url.startswith(("https://", "http://")):
        from garrison.artifacts.storage_check.web import inspect_url  # 20 ms

        return inspect_url(args.url)
    from garrison.artifacts.storage_check.directory import inspect_directory  # 5 ms

    return inspect_directory(Path(args.url.removeprefix("file://")))


def run_verify(args: argparse.Namespace) -> int:
    result = link.call_or_alone(args, "store.verify", repair=args.repair)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs([("verified", f"{len(result['versions'])} versions, every object hashed again")])
    return 0


def run_encrypt(args: argparse.Namespace) -> int:
    result = link.without_server(args, "store.encrypt")
    if args.json:
        output.print_json(result)
        return 0
    said = "was encrypted already" if result["unchanged"] else f"{result['objects']} objects encrypted"
    output.print_pairs(
        [
            ("store", f"{said}: {result['encryption']}, keys wrapped in the token"),
            ("next", "the old blocks of the disk may still hold plain bytes: docs/storage.md"),
        ]
    )
    return 0


def run_rekey(args: argparse.Namespace) -> int:
    result = link.call_or_alone(args, "store.rekey")
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("key", f"{result['key']} wraps {result['wrapped']} data keys"),
            ("destroyed", ", ".join(result["destroyed"]) or "none"),
            ("audit", result["audit_id"]),
        ]
    )
    return 0
