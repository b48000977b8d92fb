"""`garrison approve`, `unapprove`, `approvals …`, `environment …`: the approved list and who decides it."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import link, output
from garrison.core.digest import short


def add(subparsers: Any) -> None:
    approve = subparsers.add_parser(
        "approve",
        help="approve a version (as somebody other than its publisher)",
        epilog="example: garrison --as dana approve fraud@3",
    )
    approve.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
    _environment_argument(approve)
    approve.set_defaults(run=run_approve)
    unapprove = subparsers.add_parser(
        "unapprove",
        help="take a version off the approved list, and out of service",
        epilog='example: garrison --as dana unapprove fraud@3 --reason "trained on leaked data"',
    )
    unapprove.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
    unapprove.add_argument("--reason", required=True, metavar="TEXT", help="why, for the record")
    unapprove.add_argument(
        "--keep-serving", action="store_true", help="what serves goes on until it ends; recorded"
    )
    _environment_argument(unapprove)
    unapprove.set_defaults(run=run_unapprove)
    _add_approvals(subparsers)
    _add_environments(subparsers)


def _add_approvals(subparsers: Any) -> None:
    group = subparsers.add_parser("approvals", help="what is approved, by whom, until when")
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")
    shown = verbs.add_parser(
        "list",
        help="every approved version with its approvers, end and place",
        epilog="example: garrison approvals list fraud",
    )
    shown.add_argument("name", nargs="?", help="only versions of this name")
    shown.set_defaults(run=run_approvals)
    reset = verbs.add_parser(
        "reset",
        help="begin the list anew with nothing approved, when its newest files are lost",
        epilog='example: garrison approvals reset --reason "the disk was replaced"',
    )
    reset.add_argument("--reason", required=True, metavar="TEXT", help="why, for the record")
    reset.set_defaults(run=run_reset)


def _add_environments(subparsers: Any) -> None:
    group = subparsers.add_parser("environment", help="add and list environments with their approved lists")
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")
    new = verbs.add_parser(
        "add",
        help="an approved list of its own for another environment",
        epilog="example: garrison environment add staging",
    )
    new.add_argument("name", help="a lower-case word")
    new.set_defaults(run=run_environment_add)
    shown = verbs.add_parser("list", help="environments", epilog="example: garrison environment list")
    shown.set_defaults(run=run_environment_list)


def run_approve(args: argparse.Namespace) -> int:
    result = link.call(args, "model.approve", ref=args.ref, environment=args.environment)
    if args.json:
        output.print_json(result)
        return 0
    missing = result["needed"] - len(result["given"])
    is_done = result["state"] == "approved"
    output.print_pairs(
        [
            ("approved", f"{result['ref']}   {short(result['digest'])}   for {result['environment']}"),
            ("by", ", ".join(result["given"])),
            *((("note", f"a fresh role: {result['fresh_role']}"),) if result.get("fresh_role") else ()),
            ("state", result["state"] if is_done else f"pending: {missing} more needed"),
            (
                "next",
                f"garrison serve {result['ref']}"
                if is_done
                else f"garrison --as SOMEONE approve {result['ref']}",
            ),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_unapprove(args: argparse.Namespace) -> int:
    result = link.call(
        args,
        "model.unapprove",
        ref=args.ref,
        reason=args.reason,
        environment=args.environment,
        keep_serving=args.keep_serving,
    )
    if args.json:
        output.print_json(result)
        return 0
    serving = "stopped" if result["stopped"] else "goes on, as asked" if result["kept_serving"] else "was not"
    output.print_pairs(
        [
            ("withdrawn", f"{result['ref']}   {short(result['digest'])}"),
            ("from", ", ".join(result["environments"])),
            ("serving", serving),
            ("next", _after_withdrawal(result)),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def _after_withdrawal(result: dict[str, Any]) -> str:
    name = result["ref"].partition("@")[0]
    if result["stopped"] or result["kept_serving"]:
        return f"garrison deploy rollback {name}"
    return f"garrison approvals list {name}"


def run_approvals(args: argparse.Namespace) -> int:
    result = link.call(args, "approvals.list", name=args.name)
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("VERSION", "ENVIRONMENT", "PLACE", "APPROVED BY", "UNTIL", "DIGEST"),
        [
            (
                row["ref"],
                row["environment"],
                row["place"],
                ", ".join(row["approvers"]),
                row["expires"][:10] + ("" if row["deployable"] else " (ended)"),
                short(row["digest"]),
            )
            for row in result["approvals"]
        ],
        empty="nothing is approved: garrison --as SOMEONE approve NAME@VERSION",
    )
    listed = result["list"]
    output.print_pairs(
        [
            ("list", f"number {listed['version']}, fresh until {output.moment(listed['fresh_until'])}"),
            ("files", listed["metadata"]),
        ]
    )
    return 0


def run_reset(args: argparse.Namespace) -> int:
    result = link.call(args, "approvals.reset", reason=args.reason)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("begun", f"the approved list, at number {result['version']}, with nothing on it"),
            ("next", "garrison --as SOMEONE approve NAME@VERSION for each that may serve"),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_environment_add(args: argparse.Namespace) -> int:
    result = link.call(args, "environment.add", name=args.name)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs([("added", result["name"]), ("audit", result["audit_id"])])
    return 0


def run_environment_list(args: argparse.Namespace) -> int:
    result = link.call(args, "environment.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("ENVIRONMENT", "APPROVED", "THIS SERVER"),
        [
            (e["name"], e["approved"], "deploys for it" if e["deploys_here"] else "")
            for e in result["environments"]
        ],
        empty="no environment yet: garrison environment add NAME",
    )
    return 0


def _environment_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--environment", metavar="NAME", help="default: the one that this server deploys for")
