"""`garrison limit …`: how much anybody may use, and what it costs."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from typing import Any

from garrison.app.cli import link, output

_AMOUNTS = {
    "requests_per_minute": "requests in any minute",
    "tokens_per_minute": "tokens in any minute, asked and answered",
    "input_tokens_per_minute": "tokens of prompts in any minute",
    "output_tokens_per_minute": "tokens of answers in any minute",
    "stream_seconds_per_hour": "seconds that streams are open in any hour",
    "concurrency": "requests at once",
}
_EXAMPLES = """examples:
  garrison limit set trial --identity app --model big --requests-per-minute 30
  garrison limit set acme --tenant acme --money-per-day 25.00
  garrison limit set each-tenant --tenant each --identity '*' --model '*' --concurrency 8"""
_MICRO = 1_000_000


def add(subparsers: Any) -> None:
    limit = subparsers.add_parser("limit", help="how much anybody may use")
    verbs = limit.add_subparsers(dest="verb", required=True, metavar="VERB")
    new = verbs.add_parser("set", help="set a limit, or change it", epilog=_EXAMPLES)
    new.add_argument("name", help="what the limit is called in refusals")
    for selector in ("identity", "model", "tenant"):
        new.add_argument(
            f"--{selector}",
            dest=f"for_{selector}",  # args.identity is who asks
            metavar="NAME",
            help=f"this {selector} only; each: one count for each; default: all together",
        )
    for name, text in _AMOUNTS.items():
        new.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=text)
    new.add_argument(
        "--money-per-day", type=micro, metavar="AMOUNT", help="by the prices that limit price sets"
    )
    new.set_defaults(run=run_set)
    remove = verbs.add_parser(
        "remove", help="take a limit away", epilog="example: garrison limit remove trial"
    )
    remove.add_argument("name", help="as limit list shows it")
    remove.set_defaults(run=run_remove)
    price = verbs.add_parser(
        "price",
        help="what a million tokens of a model cost",
        epilog="example: garrison limit price big --input 0.15 --output 0.60",
    )
    price.add_argument("model", help="the model, without a version")
    price.add_argument(
        "--input", required=True, type=micro, metavar="AMOUNT", help="a million tokens of prompts"
    )
    price.add_argument("--output", required=True, type=micro, metavar="AMOUNT", help="and of answers")
    price.set_defaults(run=run_price)
    verbs.add_parser("list", help="limits and prices", epilog="example: garrison limit list").set_defaults(
        run=run_list
    )


def micro(text: str) -> int:
    """An amount of money as millionths of it."""
    try:
        amount = Decimal(text) * _MICRO
        if amount < 0 or amount != amount.to_integral_value():
            raise ValueError
        return int(amount)
    except (InvalidOperation, ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount such as 0.15") from None


def run_set(args: argparse.Namespace) -> int:
    amounts = {name: getattr(args, name) for name in (*_AMOUNTS, "money_per_day")}
    selectors = {name: getattr(args, f"for_{name}") for name in ("identity", "model", "tenant")}
    return _show(args, link.call(args, "limit.set", name=args.name, **selectors, **amounts))


def run_remove(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "limit.remove", name=args.name))


def run_price(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "limit.price", model=args.model, input=args.input, output=args.output))


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "limit.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("LIMIT", "IDENTITY", "MODEL", "TENANT", "ALLOWS"),
        [
            (
                one["name"],
                *(one.get(key, "*") for key in ("identity", "model", "tenant")),
                ", ".join(_allowed(one)),
            )
            for one in result["limits"]
        ],
        empty="no limits",
    )
    for one in result["prices"]:
        prices = f"{one['asked'] / _MICRO:g} in, {one['answered'] / _MICRO:g} out, a million tokens"
        output.print_pairs([("price", f"{one['model']}: {prices}")])
    output.print_pairs([("counted", result["counted"])])
    return 0


def _allowed(limit: dict[str, Any]) -> list[str]:
    shown = [f"{limit[name]} {name.replace('_', ' ')}" for name in _AMOUNTS if limit.get(name) is not None]
    if limit.get("money_per_day") is not None:
        shown.append(f"{limit['money_per_day'] / _MICRO:g} money per day")
    return shown


def _show(args: argparse.Namespace, result: dict[str, Any]) -> int:
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs((key.replace("_", " "), value) for key, value in result.items())
    return 0
