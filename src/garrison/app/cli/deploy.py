"""`garrison serve`, `garrison deploy …`, `garrison route …`: what answers behind the gateway."""

from __future__ import annotations

import argparse
import json
from typing import Any

from garrison.app.cli import link, output
from garrison.app.settings import ISOLATION_LEVELS
from garrison.core.decision import Tier
from garrison.core.digest import short
from garrison.core.errors import Usage

KINDS = ("anthropic", "azure", "bedrock", "openai", "sagemaker", "vertex")
STREAMS = ("hold", "buffer", "audit")
_OPTIONS = ("kind", "model", "key_file", "region", "stream", "found", "images", "unsure", "traces")
MAX_SERVERS = 65_536  # bytes of the file that lists them


def add(subparsers: Any) -> None:
    serve = subparsers.add_parser(
        "serve",
        help="verify a version, load it in a sandbox, put it behind the gateway",
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
    route = subparsers.add_parser("route", help="put a model that something else serves behind the gateway")
    routes = route.add_subparsers(dest="verb", required=True, metavar="VERB")
    new = routes.add_parser(
        "add",
        help="put one behind the gateway",
        epilog="example: garrison route add big --upstream http://127.0.0.1:8000 --tier internal",
    )
    new.add_argument("name", help="what clients will call the model")
    new.add_argument("--upstream", metavar="URL", help="http://HOST:PORT, https://HOST or unix:/PATH")
    new.add_argument(
        "--tier", required=True, choices=[tier.value for tier in Tier], help="sensitivity of its data"
    )
    new.add_argument(
        "--task", action="append", choices=["chat", "completions", "embeddings", "infer"], help="default: all"
    )
    new.add_argument("--kind", choices=KINDS, help="whose API the server speaks; default: openai")
    new.add_argument("--model", metavar="MODEL", help="what the server calls the model")
    new.add_argument(
        "--key-file", metavar="FILE", help="file with the server's key; only the broker learns it"
    )
    new.add_argument("--region", help="of bedrock and sagemaker")
    new.add_argument("--servers", metavar="FILE", help="JSON list of several servers: see docs/gateway.md")
    new.add_argument("--stream", choices=STREAMS, help="how streamed answers are inspected; default: hold")
    new.add_argument(
        "--found", choices=["redact", "block"], help="what a value in an answer does; default: redact"
    )
    new.add_argument(
        "--unsure", choices=["block", "pass"], help="a request that a detector failed on; default: block"
    )
    new.add_argument("--images", action="store_true", help="let images pass, which nobody reads")
    new.add_argument("--traces", action="store_true", help="tell a server without a key the trace context")
    new.set_defaults(run=run_route_add)


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


def run_route_add(args: argparse.Namespace) -> int:
    options = {name: getattr(args, name) for name in _OPTIONS}
    upstream = args.upstream or ""
    if args.servers:
        options["upstreams"] = servers = _servers(args.servers)
        upstream = upstream or str(servers[0].get("address", ""))
    result = link.call(
        args,
        "route.add",
        name=args.name,
        upstream=upstream,
        tier=args.tier,
        tasks=args.task or [],
        options=options,
    )
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("routed", f"{result['name']} -> {result['upstream']}"),
            ("tier", result["tier"]),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def _servers(path: str) -> list[dict[str, Any]]:
    """The servers in a JSON file. Raises `Usage` ROUTE-OPTION."""
    try:
        with open(path, "rb") as file:
            servers = json.loads(file.read(MAX_SERVERS))
        if not isinstance(servers, list) or not servers or not all(isinstance(one, dict) for one in servers):
            raise ValueError("it is not a list of objects")
    except (OSError, ValueError) as error:
        raise Usage(
            "ROUTE-OPTION", f"{path} lists no servers: {error}", fix="see docs/gateway.md for an example"
        ) from None
    return servers


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
