"""`garrison demo`: the whole story on a real model, with real attacks, in about ninety seconds."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from garrison.app import demo
from garrison.app.cli import output


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="watch a real model go from file to answer, and attacks refused",
        epilog="example: garrison demo",
    )
    parser.add_argument("--keep", metavar="DIR", help="keep the demo's files in this directory")
    parser.add_argument("--database", metavar="URL", default="", help="an empty PostgreSQL for its records")


def run(args: argparse.Namespace) -> int:
    """0 when every attack was refused as promised. With `--json` the story goes to standard error."""
    keep = Path(args.keep).absolute() if args.keep else None
    if not args.json:
        return demo.run(keep, args.database)
    with contextlib.redirect_stdout(sys.stderr):
        status = demo.run(keep, args.database)
    output.print_json({"schema": "garrison.demo/1", "held": status == 0})
    return status
