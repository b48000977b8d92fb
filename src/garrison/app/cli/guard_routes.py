"""`garrison guard route|calibrate|tier2 ...`: how routes judge orders to the model, and who is asked in doubt."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import link, output
from garrison.core.errors import Undecided, Usage
from garrison.detect.route_guard import MODES
from garrison.detect.tier2 import CHANNELS
from garrison.detect.tier2_released import released


def add(verbs: Any) -> None:
    _add_route(verbs)
    calibrate = verbs.add_parser(
        "calibrate",
        help="set a route's threshold by its own traffic",
        description="Score every text of a file as the gateway would, and block what at most RATE of them reach.",
        epilog="example: garrison guard calibrate --set traffic.jsonl --route fraud --rate 0.01",
    )
    calibrate.add_argument("--set", required=True, metavar="FILE", help="JSON lines with text, also gzip")
    calibrate.add_argument("--route", required=True, metavar="NAME", help="model or route")
    calibrate.add_argument("--rate", type=float, default=0.01, metavar="R", help="false alarms (0.01)")
    calibrate.set_defaults(run=run_calibrate)
    _add_tier2(verbs)


def _add_route(verbs: Any) -> None:
    route = verbs.add_parser("route", help="observe or enforce, and thresholds, by route").add_subparsers(
        dest="guard_route", required=True, metavar="VERB"
    )
    new = route.add_parser(
        "set",
        help="change what is given, keep the rest",
        epilog="example: garrison guard route set fraud --mode observe",
    )
    new.add_argument("name", help="model or route")
    new.add_argument("--mode", choices=MODES, help="observe: tell what would be blocked, let it pass")
    new.add_argument("--block-at", type=float, metavar="S", help="score that blocks, 0.60 to 0.995")
    new.add_argument(
        "--grey", type=float, nargs=2, metavar=("LOW", "HIGH"), help="where the second tier is asked"
    )
    new.add_argument("--deadline-ms", type=int, metavar="MS", help="how long it is waited for")
    new.set_defaults(run=run_route_set)
    listed = route.add_parser(
        "list", help="those that say something", epilog="example: garrison guard route list"
    )
    listed.set_defaults(run=run_route_list)
    gone = route.add_parser(
        "remove", help="back to what holds everywhere", epilog="example: garrison guard route remove fraud"
    )
    gone.add_argument("name", help="model or route")
    gone.set_defaults(run=lambda args: _show(args, link.call(args, "guard.route.remove", name=args.name)))


def _add_tier2(verbs: Any) -> None:
    tier2 = verbs.add_parser("tier2", help="the classifier that is asked in doubt").add_subparsers(
        dest="tier2_verb", required=True, metavar="VERB"
    )
    new = tier2.add_parser(
        "set",
        help="verify, start and use one",
        epilog="examples:\n  garrison guard tier2 set\n  garrison guard tier2 set --model piguard@1.0.0\n"
        "  garrison guard tier2 set ./piguard --digest sha256:...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    new.add_argument(
        "folder", nargs="?", help="with model.onnx, tokenizer.json and config.json; ours when left out"
    )
    new.add_argument("--model", metavar="NAME@VERSION", help="an approved version of the registry instead")
    new.add_argument("--digest", default="", metavar="SHA256", help="of the folder; without it, it is told")
    new.set_defaults(run=run_tier2_set)
    shown = tier2.add_parser("show", help="who is asked", epilog="example: garrison guard tier2 show")
    shown.set_defaults(run=run_tier2_show)
    for name, does in (("off", "ask nobody"), ("remove", "forget what was set")):
        one = tier2.add_parser(name, help=does, epilog=f"example: garrison guard tier2 {name}")
        one.add_argument("--channel", action="append", choices=CHANNELS, help="default: both")
        one.set_defaults(
            run=lambda args, verb=name: _show(
                args, link.call(args, f"guard.tier2.{verb}", channels=args.channel or [])
            )
        )


def run_route_set(args: argparse.Namespace) -> int:
    low, high = args.grey or (None, None)
    facts = {"mode": args.mode, "block_at": args.block_at, "low": low, "high": high}
    return _show(
        args, link.call(args, "guard.route.set", name=args.name, deadline_ms=args.deadline_ms, **facts)
    )


def run_route_list(args: argparse.Namespace) -> int:
    result = link.call(args, "guard.route.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("ROUTE", "MODE", "BLOCKS AT", "GREY", "DEADLINE"),
        [
            (
                one["name"],
                one.get("mode", "enforce"),
                str(one.get("block_at", "-")),
                f"{one['low']} to {one['high']}" if "low" in one else "-",
                f"{one['deadline_ms']} ms" if "deadline_ms" in one else "-",
            )
            for one in result["routes"]
        ],
        empty="every route enforces, at the same threshold",
    )
    return 0


def run_calibrate(args: argparse.Namespace) -> int:
    result = link.call(
        args, "guard.calibrate", name=args.route, source=link.absolute(args.set), rate=args.rate
    )
    if args.json:
        output.print_json(result)
        return 0
    told = result["calibration"]
    rate = told["measured"]
    output.print_pairs(
        [
            ("route", result["name"]),
            ("blocks at", f"{result['block_at']}, before {told['before']}"),
            (
                "blocked",
                f"{rate['hits']} of {rate['of']}: {rate['rate']:.4f}, {rate['low']} to {rate['high']}",
            ),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_tier2_set(args: argparse.Namespace) -> int:
    if args.model is not None:
        if args.folder is not None or args.digest:
            raise Usage(
                "GRD-TIER2",
                "a version of the registry has its own files and digest",
                fix=f"garrison guard tier2 set --model {args.model}",
            )
        return _show(args, link.call(args, "guard.tier2.set", model=args.model))
    if args.folder is None:
        source, digest = ours()
    else:
        source, digest = link.absolute(args.folder), args.digest or "none"
    return _show(args, link.call(args, "guard.tier2.set", source=source, digest=digest))


def ours() -> tuple[str, str]:
    """Folder and digest of the classifier that comes with Garrison. Raises `Undecided` GRD-TIER2."""
    if not (found := released()):
        raise Undecided(
            "GRD-TIER2",
            "the second tier that comes with Garrison runs on onnxruntime and tokenizers",
            fix="pip install garrison[runtime]",
        )
    return str(found[0].folder), found[0].digest


def run_tier2_show(args: argparse.Namespace) -> int:
    result = link.call(args, "guard.tier2.show")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("CHANNELS", "DIGEST", "RUNS", "WHO", "STATE"),
        [
            (
                ", ".join(one["channels"]),
                one["digest"][:19],
                "yes" if one["runs"] else "no",
                one["model"] or one["folder"],
                one["reason"] or one["standing"] or "as set",
            )
            for one in result["classifiers"]
        ],
        empty="nobody: the first tier decides alone",
    )
    return 0


def _show(args: argparse.Namespace, result: dict[str, Any]) -> int:
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs([(key.replace("_", " "), str(value)) for key, value in result.items()])
    return 0
