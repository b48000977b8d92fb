"""`garrison dlp …`: values that must not leave: what the detectors find, and what a customer adds to them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from garrison.app.cli import output
from garrison.app.cli.guard import judged_bars, print_gates, read_rows, share, show_rate
from garrison.core.errors import Undecided
from garrison.detect.base import Direction
from garrison.detect.dlp_trial import parse, report
from garrison.detect.inspect import Inspector

_EXAMPLES = """examples:
  garrison dlp eval --set dlp.jsonl
  garrison dlp eval --set dlp.jsonl --direction output --min-recall 0.6 --min-precision 0.97"""


def add(subparsers: Any) -> None:
    dlp = subparsers.add_parser("dlp", help="values that must not leave")
    verbs = dlp.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_eval(verbs)


def _add_eval(verbs: Any) -> None:
    evaluate = verbs.add_parser(
        "eval",
        help="recall and precision on labelled spans",
        description="Inspect every text of a labelled set and say which values were found, with 95 % intervals.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.add_argument("--set", required=True, type=Path, metavar="FILE", help="JSON lines, also gzip")
    evaluate.add_argument(
        "--direction", choices=[way.value for way in Direction], default=Direction.INPUT.value
    )
    gate = evaluate.add_argument_group("gate", "exit 1 when the measured rate misses one of these")
    gate.add_argument("--min-recall", type=share, metavar="R")
    gate.add_argument("--min-precision", type=share, metavar="R")
    gate.add_argument("--max-hard-negatives", type=share, metavar="R", help="harmless look-alikes hit")
    evaluate.set_defaults(run=run_eval)


def run_eval(args: argparse.Namespace) -> int:
    """0 when every gate holds, 1 when one does not, 3 when a gate has nothing to be judged on."""
    direction = Direction(args.direction)
    rows = [parse(row, number) for number, row in read_rows(args.set)]
    if not rows:
        raise Undecided("GRD-EMPTY", f"{args.set} has no text to judge", fix="give a set with rows")
    inspector = Inspector(directions=(direction,), score_all=False)
    result = report((row, inspector.inspect(row.text, direction).findings) for row in rows)
    result["direction"] = direction.value
    result["gate"] = _gates(args, result)
    if args.json:
        output.print_json(result)
    else:
        _print(result)
    states = {gate["holds"] for gate in result["gate"]}
    return 1 if False in states else 3 if None in states else 0


def _gates(args: argparse.Namespace, result: dict[str, Any]) -> list[dict[str, Any]]:
    asked = (
        ("min_recall", args.min_recall, result["recall"]["rate"], 1),
        ("min_precision", args.min_precision, result["precision"]["rate"], 1),
        ("max_hard_negatives", args.max_hard_negatives, result["hard_negatives_hit"]["rate"], -1),
    )
    return judged_bars(asked)


def _print(result: dict[str, Any]) -> None:
    output.print_table(
        ("SLICE", "", "FOUND"),
        [(one["by"], one["name"], show_rate(one)) for one in result["slices"]],
        empty="nothing was labelled",
    )
    output.print_pairs(
        [
            ("recall", show_rate(result["recall"])),
            ("precision", show_rate(result["precision"])),
            ("look-alikes", f"hit: {show_rate(result['hard_negatives_hit'])}"),
        ]
    )
    print_gates(result["gate"])
