"""`garrison dlp action|names|canary|host`: what is done with values, names, tripwires, and where answers may point."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from garrison.app.cli import link
from garrison.core.decision import Tier
from garrison.detect.handling import CLASSES, Treatment

_ACTION = """examples:
  garrison dlp action set --tier confidential --direction input --class pii --do tokenise
  garrison dlp action set --tier secret --direction output --class secret --do block
  garrison dlp action set --tier personal --direction output --class pii --do mask"""


_NAMES = """examples:
  garrison dlp names on
  garrison dlp names on --direction output
  garrison dlp names on --effect note"""


def add(verbs: Any, show: Callable[[argparse.Namespace, dict[str, Any]], int]) -> None:
    action = verbs.add_parser("action", help="allow, mask, tokenise, redact or block").add_subparsers(
        dest="action", required=True, metavar="VERB"
    )
    setting = action.add_parser(
        "set",
        help="say what is done with values",
        epilog=_ACTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_where(setting)
    setting.add_argument("--do", required=True, choices=[one.value for one in Treatment], help="what is done")
    setting.set_defaults(
        run=lambda args: show(args, link.call(args, "dlp.action.set", **_where(args), action=args.do))
    )
    remove = action.add_parser(
        "remove",
        help="back to the default",
        epilog="example: garrison dlp action remove --tier confidential --direction input --class pii",
    )
    _add_where(remove)
    remove.set_defaults(run=lambda args: show(args, link.call(args, "dlp.action.remove", **_where(args))))
    _add_names(verbs, show)
    _add_named(verbs, show, "canary", "a word that must never come out", "support-prompt")
    _add_named(verbs, show, "host", "where answers may point", "docs.example.com")


def _add_names(verbs: Any, show: Callable[[argparse.Namespace, dict[str, Any]], int]) -> None:
    parser = verbs.add_parser("names", help="look for names of people, too").add_subparsers(
        dest="names", required=True, metavar="VERB"
    )
    on = parser.add_parser(
        "on",
        help="look for them",
        description="Noted in requests and redacted in answers, unless dlp action set says otherwise of pii.",
        epilog=_NAMES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    on.add_argument("--effect", choices=["note", "redact"], default="redact", help="note: events only")
    on.add_argument(
        "--direction",
        action="append",
        choices=["input", "output"],
        help="where to look; may be given again (default: both)",
    )
    on.set_defaults(
        run=lambda args: show(
            args, link.call(args, "dlp.names.on", effect=args.effect, directions=args.direction)
        )
    )
    off = parser.add_parser("off", help="do not", epilog="example: garrison dlp names off")
    off.set_defaults(run=lambda args: show(args, link.call(args, "dlp.names.off")))


def _add_where(parser: Any) -> None:
    parser.add_argument("--tier", required=True, choices=[one.value for one in Tier], help="of the model")
    parser.add_argument("--direction", required=True, choices=["input", "output"], help="requests or answers")
    parser.add_argument("--class", required=True, dest="kind", choices=list(CLASSES), help="of values")


def _where(args: argparse.Namespace) -> dict[str, str]:
    return {"tier": args.tier, "direction": args.direction, "class": args.kind}


def _add_named(
    verbs: Any, show: Callable[[argparse.Namespace, dict[str, Any]], int], noun: str, words: str, name: str
) -> None:
    parser = verbs.add_parser(noun, help=words).add_subparsers(dest=noun, required=True, metavar="VERB")
    for verb, does in (("add", "add one"), ("remove", "forget one")):
        one = parser.add_parser(verb, help=does, epilog=f"example: garrison dlp {noun} {verb} {name}")
        one.add_argument("name", help="as garrison dlp list shows it")
        one.set_defaults(
            run=lambda args, call=f"dlp.{noun}.{verb}": show(args, link.call(args, call, name=args.name))
        )
