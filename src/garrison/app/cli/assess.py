"""`garrison assess`: a standard item by item, each with its control, a check that runs now, its tests and its limit."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.assessment import STANDARD, assess
from garrison.app.cli import output
from garrison.detect.inspect import Inspector


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "assess",
        help="a standard, item by item, with a check of each control that runs now",
        description="Run the check of every item; no server is needed.",
        epilog="example: garrison assess --standard owasp-llm-2026",
    )
    parser.add_argument("--standard", choices=(STANDARD,), default=STANDARD, help="which one")
    parser.add_argument("--strict", action="store_true", help="exit 1 also for an item without a control")


def run(args: argparse.Namespace) -> int:
    """0 when no check fails, 1 when one does, 3 when one could not be decided."""
    items = assess(Inspector())
    if args.json:
        output.print_json({"schema": "garrison.assessment/1", "standard": args.standard, "items": items})
    else:
        for item in items:
            facts = [(item["id"], f"{item['title']}: {item['state'].upper()}"), ("control", item["control"])]
            facts += [("evidence", item["evidence"] or "none"), ("tests", ", ".join(item["tests"]) or "none")]
            output.print_pairs([*facts, ("limit", item["limit"]), ("next", item["next"])])
            output.print_line()
    states = {item["state"] for item in items}
    if "fails" in states or (args.strict and "no control" in states):
        return 1
    return 3 if "undecided" in states else 0
