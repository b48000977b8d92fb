"""`garrison guard eval`: what the detectors of orders to a model are worth, measured on labelled texts."""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from garrison.app.cli import guard_packs, guard_routes, guard_rules, output
from garrison.app.cli.guard_tier2 import add_options, opened
from garrison.core.errors import Undecided, Usage
from garrison.detect.base import Direction, Outcome
from garrison.detect.classifier import FAMILIES
from garrison.detect.inspect import BLOCK_AT, Inspector
from garrison.detect.tier2_ask import BothTiers
from garrison.detect.trial import CHANNELS, Judged, Sample, chosen, encoded, parse, report

MAX_LINE = 48 * 1024 * 1024  # bytes of one row: six times the longest text that is inspected
MAX_ROWS = 1_000_000
_EXAMPLES = """examples:
  garrison guard eval --set prompts.jsonl.gz
  garrison guard eval --set prompts.jsonl --direction document --min-recall 0.3 --max-false-alarms 0.01
  garrison guard eval --set prompts.jsonl --encode --sample 300 --min-kept 0.9"""


def add(subparsers: Any) -> None:
    guard = subparsers.add_parser(
        "guard", help="the detectors of orders to a model: measured, explained, excepted"
    )
    verbs = guard.add_subparsers(dest="verb", required=True, metavar="VERB")
    evaluate = verbs.add_parser(
        "eval",
        help="recall and false alarms on labelled texts",
        description="Inspect every text of a labelled set and say what was found, by slice, with 95 % intervals.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.add_argument("--set", required=True, type=Path, metavar="FILE", help="JSON lines, also gzip")
    evaluate.add_argument("--direction", choices=("input", "document"), help="only texts of this channel")
    evaluate.add_argument("--encode", action="store_true", help="also every short text in every encoding")
    evaluate.add_argument("--sample", type=int, default=0, metavar="N", help="at most N texts of a label")
    evaluate.add_argument("--unseen", action="store_true", help="leave out families the weights learnt from")
    evaluate.add_argument(
        "--block-at", type=share, default=BLOCK_AT, metavar="S", help=f"score that blocks ({BLOCK_AT})"
    )
    add_options(evaluate)
    gate = evaluate.add_argument_group("gate", "exit 1 when the measured rate misses one of these")
    gate.add_argument("--min-recall", type=share, metavar="R", help="of attacks, blocked")
    gate.add_argument("--max-false-alarms", type=share, metavar="R", help="of ordinary harmless texts")
    gate.add_argument(
        "--max-hard-false-alarms", type=share, metavar="R", help="of those with an attack's words"
    )
    gate.add_argument("--min-kept", type=share, metavar="R", help="encoded recall over plain recall")
    evaluate.set_defaults(run=run_eval)
    guard_rules.add(verbs)
    guard_packs.add(verbs)
    guard_routes.add(verbs)


def run_eval(args: argparse.Namespace) -> int:
    """0 when every gate holds, 1 when one does not, 3 when a gate has nothing to be judged on."""
    samples = _selected(list(read_set(args.set, args.direction)), args)
    if not samples:
        raise Undecided("GRD-EMPTY", f"{args.set} has no text to judge", fix="check --direction and --unseen")
    directions = {sample.direction for sample in samples}
    with opened(args, directions, None, block_at=args.block_at) as inspector:
        result = report([_judged(inspector, sample) for sample in samples], FAMILIES)
    result["block_at"] = args.block_at
    result["gate"] = _gates(args, result)
    if args.json:
        output.print_json(result)
    else:
        _print(result)
    states = {gate["holds"] for gate in result["gate"]}
    return 1 if False in states else 3 if None in states else 0


def read_set(path: Path, direction: str | None = None) -> Iterator[Sample]:
    """The labelled texts of a file. Raises `Usage` GRD-SET."""
    wanted = None if direction is None else Direction(direction)
    default = next((name for name, way in CHANNELS.items() if way is wanted), "user")
    for number, row in read_rows(path):
        sample = parse(row, number, default)
        if wanted is None or sample.direction is wanted:
            yield sample


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The JSON values of a file of lines, with their line numbers. Raises `Usage` GRD-SET."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number in range(1, MAX_ROWS + 1):
                line = lines.readline(MAX_LINE)
                if not line:
                    return
                if line.strip():
                    yield number, json.loads(line)
    except (OSError, EOFError) as cause:
        raise Usage("GRD-SET", f"{path} cannot be read: {cause}", fix="give a file of JSON lines") from cause
    except (ValueError, RecursionError) as cause:
        raise Usage(
            "GRD-SET", f"{path} has a line that is not JSON", fix="give a file of JSON lines"
        ) from cause


def _selected(samples: list[Sample], args: argparse.Namespace) -> list[Sample]:
    if args.unseen:
        samples = [sample for sample in samples if sample.family not in FAMILIES]
    if args.sample:
        labels = sorted({sample.label for sample in samples})
        samples = [
            sample
            for label in labels
            for sample in chosen([one for one in samples if one.label == label], args.sample)
        ]
    return list(encoded(samples)) if args.encode else samples


def _judged(inspector: Inspector | BothTiers, sample: Sample) -> Judged:
    inspection = inspector.inspect(sample.text, sample.direction)
    return Judged(sample, inspection.score, inspection.verdict is Outcome.BLOCK)


def _gates(args: argparse.Namespace, result: dict[str, Any]) -> list[dict[str, Any]]:
    total, hidden = result["total"], result.get("encoded", {})
    asked = (
        ("min_recall", args.min_recall, total["recall"]["rate"], 1),
        ("max_false_alarms", args.max_false_alarms, total["false_alarms"]["rate"], -1),
        ("max_hard_false_alarms", args.max_hard_false_alarms, total["hard_false_alarms"]["rate"], -1),
        ("min_kept", args.min_kept, hidden.get("kept"), 1),
    )
    return judged_bars(asked)


def judged_bars(asked: Iterable[tuple[str, float | None, float | None, int]]) -> list[dict[str, Any]]:
    """(name, bar, measured, 1 when more is better else -1) of every bar that was asked for, and whether it holds."""
    return [
        {
            "bar": name,
            "asked": bar,
            "measured": rate,
            "holds": None if rate is None else sign * rate >= sign * bar,
        }
        for name, bar, rate, sign in asked
        if bar is not None
    ]


def _print(result: dict[str, Any]) -> None:
    output.print_table(
        ("SLICE", "", "RECALL", "FALSE ALARMS", "HARD HARMLESS"),
        [
            (one["by"], one["name"] + (" (learnt)" if one.get("seen_in_training") else ""), *_cells(one))
            for one in (
                *({"by": "all", "name": "", **result["total"]},),
                *({"by": "unseen", "name": "families", **result["unseen"]},),
                *result["slices"],
            )
        ],
        empty="nothing was judged",
    )
    for channel, curve in result["total"]["curves"].items():
        text = f"AUC {curve['auc']:.3f}, recall at 1 % false alarms {show_rate(curve['recall_at_1_percent'])}"
        output.print_pairs([(channel, text)])
    if "encoded" in result:
        hidden = result["encoded"]
        worst = sorted((kept, name) for name, kept in hidden["kept_each"].items() if kept is not None)[:3]
        pairs = [("harmless", f"encoded and blocked: {show_rate(hidden['false_alarms'])}")]
        if hidden["kept"] is not None:
            kept = f"kept {hidden['kept']:.2f} of the plain recall {show_rate(hidden['plain_recall'])}"
            weakest = ", ".join(f"{name} {kept:.2f}" for kept, name in worst)
            pairs = [("encoded", kept), ("weakest", weakest), *pairs]
        output.print_pairs(pairs)
    if result["seen_families"]:
        families = ", ".join(result["seen_families"])
        output.print_pairs([("beware", f"the weights learnt from {families}: those rows are no measurement")])
    print_gates(result["gate"])


def _cells(rates: dict[str, Any]) -> tuple[str, str, str]:
    return tuple(show_rate(rates[key]) for key in ("recall", "false_alarms", "hard_false_alarms"))  # type: ignore[return-value]  # three keys, three cells


def show_rate(rate: dict[str, Any]) -> str:
    """`.652 .61-.69 /500`, a dash when there was nothing to count."""
    if rate["rate"] is None:
        return "-"
    value, low, high = (_digits(rate[key], places) for key, places in (("rate", 3), ("low", 2), ("high", 2)))
    return f"{value} {low}-{high} /{rate['of']}"


def _digits(value: float, places: int) -> str:
    return f"{value:.{places}f}".removeprefix("0")


def print_gates(gates: list[dict[str, Any]]) -> None:
    words = {True: "holds", False: "MISSED", None: "nothing to judge it on"}
    for gate in gates:
        output.print_pairs(
            [("gate", f"{gate['bar']} {gate['asked']}: {gate['measured']}, {words[gate['holds']]}")]
        )


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value
