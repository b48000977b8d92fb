"""`garrison sign DIR`: sign bare files with the key in the token, without publishing them.

Through the server when one runs on the data directory; otherwise the token is opened here, under the lock
that a server takes, and the event goes into the ledger all the same.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.core.decision import Tier
from garrison.core.digest import short
from garrison.core.errors import Usage
from garrison.storage.local import write_atomically
from garrison.trust.sidecars import SIGNATURE_SUFFIX, STATEMENT_SUFFIX
from garrison.trust.stray_keys import refuse_key_file, refuse_offered_keys

VERB = "artifact.sign"


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "sign",
        help="scan and sign a directory with the key in the token",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Scan every file below DIR, then write DIR.sig and DIR.release.json beside it.",
        epilog="""\
example:
  garrison sign ./fraud --as fraud@3 --owner dana

DIR.sig is an OpenSSF Model Signing bundle; DIR.release.json binds the name and
version. garrison verify DIR accepts both. Nothing is published or approved.""",
    )
    parser.add_argument("path", metavar="DIR", help="the model's directory")
    parser.add_argument(
        "--as", dest="ref", required=True, metavar="NAME@VERSION", help="what these files are"
    )
    parser.add_argument("--owner", help="who answers for the model (default: who signs)")
    parser.add_argument(
        "--tier",
        choices=[tier.value for tier in Tier],
        help="sensitivity of its data (default: internal)",
    )
    parser.add_argument("--out", metavar="PREFIX", type=Path, help="write PREFIX.sig and PREFIX.release.json")
    parser.add_argument("--key", metavar="FILE", help="refused: a key in a file can be copied")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when both files are written. Raises KEY-ENV, SIGN-OUT and what scanning and signing refuse."""
    if args.key is not None:
        refuse_key_file(args.key)
    refuse_offered_keys(os.environ, Path.cwd())
    source = Path(link.absolute(args.path))
    prefix = Path(os.path.abspath(args.out if args.out is not None else source))
    if not prefix.name:
        raise _unwritable(prefix, "the name of the files is missing")
    signature, statement = (
        prefix.with_name(prefix.name + suffix) for suffix in (SIGNATURE_SUFFIX, STATEMENT_SUFFIX)
    )
    _check_place(Path(os.path.realpath(source)), Path(os.path.realpath(prefix.parent)))
    body = {"source": str(source), "ref": args.ref, "owner": args.owner, "tier": args.tier}
    result = link.call_or_alone(args, VERB, **body)
    try:
        write_atomically(signature, result["bundle"].encode(), mode=0o644)
        write_atomically(statement, result["statement"].encode(), mode=0o644)
    except OSError as error:
        raise _unwritable(prefix.parent, str(error.strerror)) from error
    result |= {"bundle": str(signature), "statement": str(statement)}
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("scanned", f"{result['files']} files, {output.megabytes(result['size'])}   clean"),
            ("signed", f"{result['ref']}   {short(result['digest'])}"),
            ("key", f"{result['key']} {result['key_id'][:16]}…"),
            ("bundle", signature),
            ("statement", statement),
            ("next", f"garrison verify {args.path} --as {result['ref']}"),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def _check_place(source: Path, parent: Path) -> None:
    """The two files lie beside the directory, never in it: they would be unsigned files of the model."""
    if not parent.is_dir():
        raise _unwritable(parent, "there is no such directory")
    if parent.is_relative_to(source):
        raise Usage(
            "SIGN-OUT",
            f"{parent} is inside the directory that is signed",
            fix="name a place beside the directory with --out PREFIX",
        )


def _unwritable(parent: Path, why: str) -> Usage:
    return Usage(
        "SIGN-OUT",
        f"cannot write the signatures in {parent}: {why}",
        fix="name a place that you may write to with --out PREFIX",
    )
