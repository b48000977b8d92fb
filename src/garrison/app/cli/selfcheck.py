"""`garrison gateway selftest`, `garrison mesh check`: the server attacks itself and says what got through."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import beside, link, output


def add(subparsers: Any) -> None:
    gateway = subparsers.add_parser("gateway", help="proxies in front of it, and a test of itself")
    verbs = gateway.add_subparsers(dest="verb", required=True, metavar="VERB")
    selftest = verbs.add_parser(
        "selftest",
        help="exit 1 when anything is answered that should not be",
        epilog="example: garrison gateway selftest --anon",
    )
    selftest.add_argument(
        "--anon", action="store_true", help="every route without a token (what is tested today)"
    )
    selftest.set_defaults(run=run_selftest)
    beside.add_verbs(verbs)
    mesh = subparsers.add_parser("mesh", help="bad certificates at every hop")
    hops = mesh.add_subparsers(dest="verb", required=True, metavar="VERB")
    check = hops.add_parser(
        "check", help="exit 1 when one is accepted anywhere", epilog="example: garrison mesh check"
    )
    check.set_defaults(run=run_mesh)
    rotate = hops.add_parser(
        "rotate",
        help="new certificates for the gateway now, without a failed request",
        epilog="example: garrison mesh rotate",
    )
    rotate.set_defaults(run=run_rotate)


def run_selftest(args: argparse.Namespace) -> int:
    result = link.call(args, "gateway.selftest")
    if args.json:
        output.print_json(result)
        return 1 if result["answered"] else 0
    for route in result["answered"]:
        output.print_pairs([("OPEN", route)])
    output.print_pairs(
        [
            ("tried", f"{result['tried']} requests without a token at {result['routes']} routes"),
            ("answered 2xx", len(result["answered"])),
            *(
                ("probe", f"{name}: {one['status']}, {one['bytes']} bytes")
                for name, one in result["probes"].items()
            ),
            ("audit", result["audit_id"]),
        ]
    )
    return 1 if result["answered"] else 0


def run_rotate(args: argparse.Namespace) -> int:
    result = link.call(args, "mesh.rotate")
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs([("rotated", "every worker has a new certificate"), ("audit", result["audit_id"])])
    return 0


def run_mesh(args: argparse.Namespace) -> int:
    result = link.call(args, "mesh.check")
    if args.json:
        output.print_json(result)
        return 0 if result["whole"] else 1
    for row in result["hops"]:
        output.print_pairs(
            [
                (
                    row["hop"],
                    f"{len(row['accepted'])} of {row['tried']} bad certificates accepted   {row['transport']}",
                ),
                ("", f"a good one: {row['good_certificate']}"),
            ]
        )
    for row in result["sockets"]:
        state = "this user only" if row["closed"] else "OPEN TO OTHERS"
        output.print_pairs([(row["socket"], f"{row['mode']} {state}, {row['peer']}")])
    output.print_pairs([("audit", result["audit_id"])])
    return 0 if result["whole"] else 1
