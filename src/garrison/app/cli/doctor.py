"""`garrison doctor`: what this machine can do for Garrison, and what is missing. Needs no server."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from garrison.app.cli import output
from garrison.runtime.machine import Examination, examine
from garrison.runtime.sandboxes.ladder import DEFAULT_LEVEL

_SIGNS = {True: "ok", False: "MISSING", None: ""}


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="what this machine offers, the isolation it can reach, and what is missing",
        epilog="example: garrison doctor --json",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when the default isolation level works here, 3 otherwise."""
    found = examine()
    if args.json:
        output.print_json(_as_json(found))
    else:
        _show(found)
    return 0 if _default_works(found) else 3


def _default_works(found: Examination) -> bool:
    return any(level.ok for level in found.levels if level.level == DEFAULT_LEVEL)


def _as_json(found: Examination) -> dict[str, Any]:
    return {
        "schema": "garrison.doctor/1",
        "features": [feature.as_json() for feature in found.features],
        "levels": [
            {"level": level.level, "ok": level.ok, "missing": list(level.missing), "notes": list(level.notes)}
            for level in found.levels
        ],
        "default": DEFAULT_LEVEL,
        "highest": found.highest,
        "contacts": [],
    }


def _show(found: Examination) -> None:
    for feature in found.features:
        output.print_line(
            output.visible(f"{feature.name:<11} {feature.value:<40} {_SIGNS[feature.ok]}".rstrip())
        )
        if feature.ok is False:
            output.print_line(f"{'':<11} {output.visible(feature.meaning)}")
    output.print_line()
    output.print_table(
        ("ISOLATION", "HERE", "MISSING"),
        [(level.level, "yes" if level.ok else "no", "; ".join(level.missing)) for level in found.levels],
        empty="no levels",
    )
    output.print_line()
    output.print_line(f"highest level here: {found.highest or 'none'}   default: {DEFAULT_LEVEL}")
    if found.next is not None:
        output.print_line(f"for {found.next.level}: {'; '.join(found.next.missing)}")
    for note in dict.fromkeys(note for level in found.levels for note in level.notes):
        output.print_line(textwrap.fill(f"note: {note}", output.WIDTH, subsequent_indent="  "))
