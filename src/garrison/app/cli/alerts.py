"""`garrison alerts …`: what looked unusual, what it led to, and one command to undo that."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import link, output


def add(subparsers: Any) -> None:
    alerts = subparsers.add_parser("alerts", help="unusual use, and what it led to")
    verbs = alerts.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser(
        "list", help="those that are not closed", epilog="example: garrison alerts list"
    )
    listing.add_argument("--all", action="store_true", help="closed ones too")
    listing.set_defaults(run=run_list)
    show = verbs.add_parser(
        "show", help="why one was raised", epilog="example: garrison alerts show al-4f1c2a9be01d"
    )
    show.add_argument("id", help="as alerts list shows it")
    show.set_defaults(run=run_show)
    for change, what in (
        ("take", "say who looks at it"),
        ("release", "undo what it led to, at once"),
        ("close", "say what it was; undoes what it led to"),
    ):
        note = "" if change == "take" else ' --note "a load test"'
        parser = verbs.add_parser(
            change, help=what, epilog=f"example: garrison alerts {change} al-4f1c2a9be01d --owner dana{note}"
        )
        parser.add_argument("id", help="as alerts list shows it")
        parser.add_argument("--owner", metavar="WHO", help="who answers for it; a known identity or group")
        parser.add_argument("--note", metavar="TEXT", help="what it was, without anything secret")
        parser.set_defaults(run=run_change, change=change)


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "alerts.list", all=args.all)
    if args.json:
        output.print_json(result)
        return 0
    rows = [
        (
            one["id"],
            one["code"],
            one["subject"],
            output.moment(_time(one)),
            one["led_to"]["action"],
            one["state"],
        )
        for one in result["alerts"]
    ]
    output.print_table(("ALERT", "CODE", "ABOUT", "WHEN", "LED TO", "STATE"), rows, empty="no open alerts")
    if result["left_out"]:
        output.print_line(
            f"{result['left_out']} older ones: --json has as many; garrison audit export has all"
        )
    return 0


def run_show(args: argparse.Namespace) -> int:
    alert = link.call(args, "alerts.show", id=args.id)
    if args.json:
        output.print_json(alert)
        return 0
    led_to = alert["led_to"]
    output.print_pairs(
        [
            (key, alert[key])
            for key in ("id", "code", "title", "subject", "model", "score", "state")
            if key in alert
        ]
    )
    output.print_pairs([("seen", output.moment(_time(alert))), ("ATLAS", ", ".join(alert["atlas"]))])
    for sign in alert["why"]:
        what = f"{sign['sign']}: {sign['now']:g}, usually at most {sign['usual']:g} (+{sign['strength']:g})"
        output.print_pairs([("sign", what)])
    output.print_pairs([("led to", led_to["action"])])
    output.print_pairs(
        [(key.replace("_", " "), led_to[key]) for key in ("per_minute", "until", "undo") if key in led_to]
    )
    output.print_pairs([(key, alert[key]) for key in ("owner", "note") if key in alert])
    return 0


def run_change(args: argparse.Namespace) -> int:
    facts = {"id": args.id, "change": args.change, "owner": args.owner, "note": args.note}
    result = link.call(args, "alerts.change", **facts)
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs((key.replace("_", " "), value) for key, value in result.items())
    return 0


def _time(alert: dict[str, Any]) -> str:
    return str(alert.get("seen", alert["time"]))
