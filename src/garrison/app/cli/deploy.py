"""`garrison serve`, `garrison deploy …`: what answers behind the gateway."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import link, output
from garrison.app.settings import ISOLATION_LEVELS
from garrison.core.digest import short


def add(subparsers: Any) -> None:
    serve = subparsers.add_parser(
        "serve",
        help="verify a version, load it in a sandbox, put it behind the gateway",
        description="Verify a version, load it in a sandbox, put it behind the gateway. A server of another make "
        "(vLLM, TGI, Triton, llama-server, your own) is declared in servers.toml: see garrison runtime servers.",
        epilog="example: garrison serve fraud@3 --isolation bwrap",
    )
    _apply_arguments(serve)
    deploy = subparsers.add_parser("deploy", help="apply, roll back, stop and show deployments")
    verbs = deploy.add_subparsers(dest="verb", required=True, metavar="VERB")
    _apply_arguments(
        verbs.add_parser(
            "apply", help="the same as garrison serve", epilog="example: garrison deploy apply fraud@3"
        )
    )
    rollback = verbs.add_parser(
        "rollback",
        help="go back to the approved version before the one that serves",
        epilog="example: garrison deploy rollback fraud --to 2",
    )
    rollback.add_argument("name", help="the model, without a version")
    rollback.add_argument("--to", type=int, metavar="VERSION", help="a named earlier version")
    rollback.add_argument(
        "--accept-expired",
        action="store_true",
        help="also to a version whose approval ended; asks for the right to approve it",
    )
    rollback.set_defaults(run=run_rollback)
    status = verbs.add_parser("status", help="what serves", epilog="example: garrison deploy status")
    status.set_defaults(run=run_status)
    stop = verbs.add_parser(
        "stop", help="take a model out of service", epilog="example: garrison deploy stop fraud"
    )
    stop.add_argument("name", help="the model, without a version")
    stop.set_defaults(run=run_stop)


def run_apply(args: argparse.Namespace) -> int:
    return _show_deployed(args, link.call(args, "deploy.apply", ref=args.ref, isolation=args.isolation))


def run_rollback(args: argparse.Namespace) -> int:
    result = link.call(
        args, "deploy.rollback", name=args.name, to=args.to, accept_expired=args.accept_expired
    )
    return _show_deployed(args, result)


def run_stop(args: argparse.Namespace) -> int:
    result = link.call(args, "deploy.stop", name=args.name)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs([("stopped", result["name"]), ("audit", result["audit_id"])])
    return 0


def run_status(args: argparse.Namespace) -> int:
    result = link.call(args, "deploy.status")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("MODEL", "STATE", "APPROVAL", "ISOLATION", "RESTARTS", "DIGEST", "SINCE"),
        [
            (
                f"{d['name']}@{d['version']}",
                d["state"],
                d["approval"],
                d["isolation"],
                d["restarts"],
                short(d["digest"]),
                output.moment(d["time"]).partition(", ")[2],
            )
            for d in result["deployments"]
        ],
        empty="nothing is deployed: garrison serve NAME@VERSION",
    )
    for route in result["routes"]:
        output.print_pairs([("route", f"{route['name']} -> {route['upstream']} ({route['tier']})")])
    return 0


def _show_deployed(args: argparse.Namespace, result: dict[str, Any]) -> int:
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("serving", f"{result['name']}@{result['version']}   {short(result['digest'])}"),
            ("verified", f"loaded digest equals signed and approved digest (key {result['key_id'][:16]}…)"),
            ("sandbox", f"{result['isolation']}   {result['memory']}"),
            ("tasks", ", ".join(result["tasks"])),
            ("gateway", result["url"]),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def _apply_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ref", metavar="NAME@VERSION", help="an approved version")
    parser.add_argument(
        "--isolation", choices=ISOLATION_LEVELS, help="sandbox level (default: the setting, bwrap)"
    )
    parser.set_defaults(run=run_apply)
