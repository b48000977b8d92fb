"""`garrison lineage template`: the file in which a publisher says how a model was made."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import output
from garrison.artifacts.lineage.template import TEMPLATE


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("lineage", help="say how a model was made")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    template = verbs.add_parser(
        "template",
        help="print a lineage.toml with every key explained",
        epilog="example: garrison lineage template > lineage.toml",
    )
    template.set_defaults(run=run_template)


def run_template(args: argparse.Namespace) -> int:
    if args.json:
        output.print_json({"template": TEMPLATE})
    else:
        output.print_line(TEMPLATE.rstrip("\n"))
    return 0
