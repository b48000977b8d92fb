"""`garrison dlp …`: values that must not leave: what the detectors find, and what a customer adds to them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from garrison.app.cli import dlp_rules, link, output
from garrison.app.cli.guard import judged_bars, print_gates, read_rows, share, show_rate
from garrison.core.errors import Undecided
from garrison.detect.base import Direction, Effect
from garrison.detect.dlp_trial import parse, report
from garrison.detect.inspect import Inspector
from garrison.detect.own import NOTHING_OWN, with_names

_EXAMPLES = """examples:
  garrison dlp eval --set dlp.jsonl
  garrison dlp eval --set dlp.jsonl --direction output --min-recall 0.6 --min-precision 0.97"""

_EFFECTS = [effect.value for effect in Effect]
_PATTERN_EXAMPLES = """examples:
  garrison dlp pattern add tickets --regex 'ACME-[0-9]{4,8}' --hit ACME-12345
  garrison dlp pattern add bluebird --word 'Project Bluebird' --ignore-case
  garrison dlp pattern add vault --regex 'vlt_[a-z0-9]{24}' --effect block"""
_FINGERPRINT_EXAMPLES = """examples:
  garrison dlp fingerprint add ./handbook --name handbook
  garrison dlp fingerprint add offer.txt --name offer --direction output --direction input"""


def add(subparsers: Any) -> None:
    dlp = subparsers.add_parser("dlp", help="values that must not leave")
    verbs = dlp.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_eval(verbs)
    _add_patterns(verbs)
    _add_fingerprints(verbs)
    dlp_rules.add(verbs, _show)
    listing = verbs.add_parser("list", help="patterns and fingerprints", epilog="example: garrison dlp list")
    listing.set_defaults(run=run_list)


def _add_patterns(verbs: Any) -> None:
    pattern = verbs.add_parser("pattern", help="values of your own").add_subparsers(
        dest="pattern", required=True, metavar="VERB"
    )
    add_one = pattern.add_parser("add", help="look for a value of your own", epilog=_PATTERN_EXAMPLES)
    add_one.add_argument("name", help="becomes the rule dlp.custom.NAME")
    what = add_one.add_mutually_exclusive_group(required=True)
    what.add_argument("--regex", metavar="RE", help="characters, sets, alternatives, bounded repeats of one")
    what.add_argument("--word", metavar="TEXT", help="a code name, as whole words")
    add_one.add_argument("--effect", choices=_EFFECTS, default="redact", help="block ends a request")
    add_one.add_argument("--ignore-case", action="store_true", help="ASCII letters in either case")
    _add_directions(add_one, "all")
    add_one.add_argument("--hit", action="append", metavar="TEXT", help="an example that has to match")
    add_one.add_argument("--miss", action="append", metavar="TEXT", help="an example that must not")
    add_one.set_defaults(run=run_pattern_add)
    _add_remove(pattern, "pattern", "tickets")


def _add_fingerprints(verbs: Any) -> None:
    fingerprint = verbs.add_parser(
        "fingerprint", help="documents whose copies must not leave"
    ).add_subparsers(dest="fingerprint", required=True, metavar="VERB")
    add_one = fingerprint.add_parser("add", help="register documents", epilog=_FINGERPRINT_EXAMPLES)
    add_one.add_argument("source", metavar="DIR|FILE", help="text files; links and binary files are left out")
    add_one.add_argument("--name", required=True, help="becomes the rule dlp.copy.NAME")
    add_one.add_argument("--effect", choices=_EFFECTS, default="redact", help="block ends a request")
    _add_directions(add_one, "output")
    add_one.set_defaults(run=run_fingerprint_add)
    _add_remove(fingerprint, "fingerprint", "handbook")


def _add_directions(parser: Any, default: str) -> None:
    parser.add_argument(
        "--direction",
        action="append",
        choices=[way.value for way in Direction],
        help=f"where to look; may be given again (default: {default})",
    )


def _add_remove(verbs: Any, kind: str, name: str) -> None:
    remove = verbs.add_parser(
        "remove", help="forget one", epilog=f"example: garrison dlp {kind} remove {name}"
    )
    remove.add_argument("name", help="as garrison dlp list shows it")
    remove.set_defaults(run=lambda args: run_remove(args, kind))


def run_pattern_add(args: argparse.Namespace) -> int:
    facts = {
        key: getattr(args, key) for key in ("name", "regex", "word", "effect", "ignore_case", "hit", "miss")
    }
    return _show(args, link.call(args, "dlp.pattern.add", **facts, directions=args.direction))


def run_fingerprint_add(args: argparse.Namespace) -> int:
    source = link.absolute(args.source)
    facts = {"name": args.name, "effect": args.effect, "directions": args.direction}
    return _show(args, link.call(args, "dlp.fingerprint.add", source=source, **facts))


def run_remove(args: argparse.Namespace, kind: str) -> int:
    return _show(args, link.call(args, f"dlp.{kind}.remove", name=args.name))


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "dlp.list")
    if args.json:
        output.print_json(result)
        return 0
    rows = [
        (f"dlp.custom.{one['name']}", one["effect"], _ways(one), one["regex"]) for one in result["patterns"]
    ]
    rows += [
        (f"dlp.copy.{one['name']}", one["effect"], _ways(one), f"{one['documents']} documents")
        for one in result["copies"]
    ]
    rows += [(f"dlp.canary.{one['name']}", "redact", "output", one["value"]) for one in result["canaries"]]
    names = result["names"]
    rows += [("dlp.pii.person", names["effect"], _ways(names), "names of people")] if names else []
    rows += [("dlp.exfil.host", "redact", "output", f"not {host}") for host in result["hosts"]]
    rows += [
        (f"{one['class']}.*", one["action"], one["direction"], f"tier {one['tier']}")
        for one in result["actions"]
    ]
    output.print_table(
        ("RULE", "EFFECT", "WHERE", "WHAT"), rows, empty="nothing was added: dlp pattern add --help"
    )
    return 0


def _ways(one: dict[str, Any]) -> str:
    return "all" if len(one["directions"]) == len(Direction) else ", ".join(one["directions"])


def _show(args: argparse.Namespace, result: dict[str, Any]) -> int:
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs([(key.replace("_", " "), _plain(value)) for key, value in result.items()])
    return 0


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


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
        "--direction",
        choices=[way.value for way in Direction],
        default=Direction.INPUT.value,
        help="who wrote the texts (default: input)",
    )
    evaluate.add_argument("--names", action="store_true", help="names of people, too")
    gate = evaluate.add_argument_group("gate", "exit 1 when the measured rate misses one of these")
    gate.add_argument("--min-recall", type=share, metavar="R", help="of labelled spans")
    gate.add_argument("--min-precision", type=share, metavar="R", help="of findings")
    gate.add_argument("--max-hard-negatives", type=share, metavar="R", help="harmless look-alikes hit")
    evaluate.set_defaults(run=run_eval)


def run_eval(args: argparse.Namespace) -> int:
    """0 when every gate holds, 1 when one does not, 3 when a gate has nothing to be judged on."""
    direction = Direction(args.direction)
    rows = [parse(row, number) for number, row in read_rows(args.set)]
    if not rows:
        raise Undecided("GRD-EMPTY", f"{args.set} has no text to judge", fix="give a set with rows")
    own = with_names() if args.names else NOTHING_OWN
    inspector = Inspector(directions=(direction,), score_all=False, own=own)
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
