"""`garrison explain CODE`: the page on a refusal code."""

from __future__ import annotations

import argparse
import difflib
from typing import Any

from garrison.app.cli import output
from garrison.core.codes import CODES
from garrison.core.errors import Usage


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="what a refusal code means and what to do",
        epilog="example: garrison explain ART-TAMPER",
    )
    parser.add_argument("code", nargs="?", help="such as ART-TAMPER; without it, the list of codes")


def run(args: argparse.Namespace) -> int:
    if args.code is None:
        if args.json:
            output.print_json({"codes": {code: entry.title for code, entry in sorted(CODES.items())}})
        else:
            output.print_table(
                ("CODE", "MEANS"), [(c, e.title) for c, e in sorted(CODES.items())], empty="no codes"
            )
        return 0
    code = args.code.upper()
    entry = CODES.get(code)
    if entry is None:
        near = difflib.get_close_matches(code, CODES, n=1)
        raise Usage(
            "CODE-UNKNOWN",
            f"{args.code!r} is not a code of Garrison",
            fix=f"did you mean garrison explain {near[0]}?" if near else "garrison explain lists every code",
        )
    if args.json:
        output.print_json({"code": code, "title": entry.title, "page": entry.page})
    else:
        output.print_line(f"{code}: {entry.title}\n\n{entry.page.rstrip()}")
    return 0
