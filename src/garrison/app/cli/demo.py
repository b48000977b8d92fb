"""`garrison demo`: the whole story on a real model, with real attacks, in about ninety seconds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from garrison.app import demo


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="watch a real model go from file to answer, and attacks refused",
        epilog="example: garrison demo",
    )
    parser.add_argument("--keep", metavar="DIR", help="keep the demo's files in this directory")


def run(args: argparse.Namespace) -> int:
    return demo.run(Path(args.keep).absolute() if args.keep else None)
