"""`garrison detect simulate|trial`: a labelled week of an invented organisation, and how well it is judged."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from garrison.app.cli import output
from garrison.core.errors import Usage
from garrison.detect.anomaly.limits import Limits
from garrison.detect.anomaly.seen import read
from garrison.detect.anomaly.watch import Watch
from garrison.detect.simulation.attacks import STRENGTHS
from garrison.detect.simulation.organisation import SHAPES
from garrison.detect.simulation.score import Score, score
from garrison.detect.simulation.week import Week, simulate

MAX_SEEDS = 1_000


def add(verbs: Any) -> None:
    week = verbs.add_parser(
        "simulate",
        help="a week of an invented organisation, with attacks, as events",
        epilog="example: garrison detect simulate --seed 7 --out week.jsonl",
    )
    week.add_argument("--seed", type=int, default=1, metavar="N", help="another one is another week")
    week.add_argument("--shape", choices=sorted(SHAPES), default="first", help="which organisation")
    week.add_argument("--out", required=True, type=Path, metavar="FILE", help="events; labels go beside it")
    week.set_defaults(run=run_simulate)
    trial = verbs.add_parser(
        "trial",
        help="how many of the simulated attacks are found, by kind and strength",
        epilog="example: garrison detect trial --seeds 101-110 --min-found 0.9 --max-false 1",
    )
    trial.add_argument("--seeds", type=_span, default=range(101, 111), metavar="A-B", help="default: 101-110")
    trial.add_argument("--shape", choices=sorted(SHAPES), default="first", help="which organisation")
    trial.add_argument("--min-found", type=float, metavar="R", help="exit 1 below this share of attacks")
    trial.add_argument("--max-false", type=float, metavar="N", help="exit 1 above so many false alerts a day")
    trial.set_defaults(run=run_trial)


def _span(text: str) -> range:
    first, _, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a span such as 101-110")
    span = range(int(first), int(last or first) + 1)
    if not 0 < len(span) <= MAX_SEEDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of at most {MAX_SEEDS}")
    return span


def run_simulate(args: argparse.Namespace) -> int:
    """The events, and `FILE.labels.json` with what really happened."""
    if args.seed < 0:
        raise Usage("ARG-MISSING", "a seed is a number from 0", fix="--seed 7")
    week = simulate(SHAPES[args.shape], args.seed)
    with args.out.open("w", encoding="utf-8") as file:
        for event in week.events():
            file.write(json.dumps(event, separators=(",", ":")) + "\n")
    labels = [
        {
            "kind": attack.kind,
            "strength": attack.strength,
            "begins": attack.begins,
            "ends": attack.ends,
            "subjects": sorted(attack.subjects),
        }
        for attack in week.attacks
    ]
    args.out.with_name(args.out.name + ".labels.json").write_text(json.dumps(labels, indent=1) + "\n")
    result = {"requests": len(week.asked), "attacks": len(labels), "days": week.days, "file": str(args.out)}
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs(result.items())
    return 0


def judged(week: Week, limits: Limits) -> Score:
    """The alerts of a week against what really happened in it."""
    watch = Watch(limits)
    alerts = [alert for event in week.events() if (seen := read(event)) for alert in watch.feed(seen)]
    return score(week.attacks, alerts, week.days)


def run_trial(args: argparse.Namespace) -> int:
    scores = [judged(simulate(SHAPES[args.shape], seed), Limits()) for seed in args.seeds]
    result = summary(scores)
    if args.json:
        output.print_json({"schema": "garrison.detect-trial/1", "shape": args.shape, **result})
    else:
        _print(result)
    is_short = args.min_found is not None and result["found_share"] < args.min_found
    is_loud = args.max_false is not None and result["false_a_day"] > args.max_false
    return 1 if is_short or is_loud else 0


def summary(scores: list[Score]) -> dict[str, Any]:
    table: dict[str, dict[str, list[int]]] = defaultdict(lambda: {each: [0, 0] for each in STRENGTHS})
    after: dict[str, list[float]] = defaultdict(list)
    false: dict[str, int] = defaultdict(int)
    for one in scores:
        for found in one.found:
            cell = table[found.attack.kind][found.attack.strength]
            cell[0] += found.after is not None
            cell[1] += 1
            if found.after is not None:
                after[found.attack.kind].append(found.after)
        for alert in one.false:
            false[alert.code] += 1
    hits = sum(cell[0] for row in table.values() for cell in row.values())
    many = sum(cell[1] for row in table.values() for cell in row.values())
    days = sum(one.days for one in scores)
    return {
        "attacks": many,
        "found": hits,
        "found_share": round(hits / many, 4) if many else 0.0,
        "days": days,
        "false": sum(false.values()),
        "false_a_day": round(sum(false.values()) / days, 3) if days else 0.0,
        "false_by_code": dict(sorted(false.items())),
        "kinds": {
            kind: {**row, "hours_until_found": round(sorted(after[kind])[len(after[kind]) // 2] / 3_600, 2)}
            if after[kind]
            else dict(row)
            for kind, row in table.items()
        },
    }


def _print(result: dict[str, Any]) -> None:
    rows = [
        (
            kind,
            *(f"{row[each][0]} of {row[each][1]}" for each in STRENGTHS),
            row.get("hours_until_found", "-"),
        )
        for kind, row in result["kinds"].items()
    ]
    output.print_table(("ATTACK", *(each.upper() for each in STRENGTHS), "HOURS"), rows, empty="no seeds")
    found = f"{result['found']} of {result['attacks']} ({result['found_share']:.1%})"
    false = f"{result['false']} in {result['days']} days ({result['false_a_day']:.2f} a day)"
    output.print_pairs([("found", found), ("false alerts", false)])
