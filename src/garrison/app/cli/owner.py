"""`garrison owner …`: who answers for a model, the groups that do, and the table of it."""

from __future__ import annotations

import argparse
import csv
import sys
from typing import Any

from garrison.app.cli import link, output

_COLUMNS = ("model", "owner", "accountable", "responsible", "consulted", "informed", "gaps", "next")
_FORMULA = ("=", "+", "-", "@", "\t")  # a spreadsheet would run a cell that begins so (CWE-1236)


def add(subparsers: Any) -> None:
    owner = subparsers.add_parser("owner", help="who answers for a model")
    verbs = owner.add_subparsers(dest="verb", required=True, metavar="VERB")
    new = verbs.add_parser(
        "set",
        help="name who answers for a model",
        epilog="examples:\n  garrison owner set fraud dana\n"
        "  garrison owner set fraud --accountable dana --responsible erin --informed risk-team",
    )
    new.add_argument("model", help="name, without a version")
    new.add_argument("owner", nargs="?", help="a person or a group")
    new.add_argument("--accountable", metavar="WHO", help="the same: exactly one answers")
    for role in ("responsible", "consulted", "informed"):
        new.add_argument(f"--{role}", action="append", metavar="WHO", help="may be given more than once")
    new.set_defaults(run=run_set)
    listing = verbs.add_parser(
        "list", help="every model and who answers for it", epilog="example: garrison owner list --csv"
    )
    listing.add_argument("--csv", action="store_true", help="comma-separated values")
    listing.set_defaults(run=run_list)
    raci = verbs.add_parser(
        "raci",
        help="who is accountable, responsible, consulted, informed",
        epilog="example: garrison owner raci fraud",
    )
    raci.add_argument("model", help="name, without a version")
    raci.add_argument("--csv", action="store_true", help="comma-separated values")
    raci.set_defaults(run=run_list)
    group = verbs.add_parser(
        "group",
        help="make a group that can own models, or replace its members",
        epilog="example: garrison owner group ml-team --member dana --member erin",
    )
    group.add_argument("name", help="name of the group")
    group.add_argument("--member", action="append", default=[], metavar="PERSON", help="once for each")
    group.set_defaults(run=run_group)


def run_set(args: argparse.Namespace) -> int:
    table = {
        role: getattr(args, role)
        for role in ("responsible", "consulted", "informed")
        if getattr(args, role) is not None
    }
    result = link.call(
        args, "owner.set", model=args.model, owner=args.owner, accountable=args.accountable, **table
    )
    if args.json:
        output.print_json(result)
        return 0
    _show_row(result)
    output.print_pairs([("audit", result["audit_id"])])
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Exit 1 when a model has a gap, so that a pipeline can ask."""
    if args.verb == "raci":  # noqa: SIM108 - one call a line
        result = link.call(args, "owner.raci", model=args.model)
    else:
        result = link.call(args, "owner.list")
    rows = result["models"]
    if args.json:
        output.print_json(result)
    elif args.csv:
        _print_csv(rows)
    elif args.verb == "raci":
        _show_row(rows[0])
    else:
        output.print_table(
            ("MODEL", "OWNER", "ACCOUNTABLE", "RESPONSIBLE", "GAPS"),
            [
                (
                    row["model"],
                    row["owner"],
                    row["accountable"],
                    ", ".join(row["responsible"]),
                    f"RED  {'; '.join(row['gaps'])}" if row["gaps"] else "none",
                )
                for row in rows
            ],
            empty="no models yet: garrison model publish DIR --as NAME@1 --owner WHO --tier internal",
        )
        first = next((row["next"] for row in rows if row["next"]), "")
        if first:
            output.print_pairs([("next", first)])
    return 1 if any(row["gaps"] for row in rows) else 0


def run_group(args: argparse.Namespace) -> int:
    result = link.call(args, "owner.group", name=args.name, members=args.member)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("group", result["group"]),
            ("members", ", ".join(result["members"]) or "nobody"),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def _show_row(row: dict[str, Any]) -> None:
    pairs = [("model", row["model"]), ("accountable", row["accountable"] or "RED  nobody")]
    if row["owner"] != row["accountable"]:
        pairs.insert(1, ("owner", row["owner"]))
    pairs += [(role, ", ".join(row[role]) or "nobody") for role in ("responsible", "consulted", "informed")]
    pairs += [("gap", f"RED  {gap}") for gap in row["gaps"]]
    if row["escalate_to"]:
        pairs.append(("escalate", ", ".join(row["escalate_to"])))
    if row["next"]:
        pairs.append(("next", row["next"]))
    output.print_pairs(pairs)


def _print_csv(rows: list[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        cells = [row[name] for name in _COLUMNS]
        texts = ["; ".join(cell) if isinstance(cell, list) else str(cell) for cell in cells]
        writer.writerow([f"'{text}" if text.startswith(_FORMULA) else text for text in texts])
