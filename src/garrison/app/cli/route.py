"""`garrison route …`: models that something else serves, behind the gateway."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.core.decision import Tier
from garrison.core.errors import Usage

KINDS = ("anthropic", "azure", "bedrock", "openai", "sagemaker", "vertex")
STREAMS = ("hold", "buffer", "audit")
_OPTIONS = (
    "kind",
    "model",
    "key_file",
    "client_file",
    "region",
    "stream",
    "found",
    "images",
    "unsure",
    "traces",
)
MAX_SERVERS = 65_536  # bytes of the file that lists them


def add(subparsers: Any) -> None:
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
    new.add_argument("--ca", metavar="FILE", help="PEM: believe these authorities alone, not the system's")
    new.add_argument(
        "--client-cert",
        dest="client_file",
        metavar="FILE",
        help="PEM: show this certificate; its key is in the same file",
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
    listed = routes.add_parser("list", help="what there is", epilog="example: garrison route list")
    listed.set_defaults(run=run_route_list)
    gone = routes.add_parser("remove", help="take one away", epilog="example: garrison route remove big")
    gone.add_argument("name", help="what clients call the model")
    gone.set_defaults(run=run_route_remove)


def run_route_list(args: argparse.Namespace) -> int:
    result = link.call(args, "route.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("ROUTE", "UPSTREAM", "TIER", "TASKS", "OPTIONS"),
        [
            (
                each["name"],
                each["upstream"],
                each["tier"],
                ", ".join(each["tasks"]),
                _options(each["options"]),
            )
            for each in result["routes"]
        ],
        empty="no route: garrison route add NAME --upstream URL --tier TIER",
    )
    return 0


def _options(options: dict[str, Any]) -> str:
    """What was said beside the address, in a cell: the servers by their number."""
    plain = {key: value for key, value in options.items() if key != "upstreams"}
    servers = options.get("upstreams", [])
    words = [f"{key}={value}" for key, value in sorted(plain.items())]
    return ", ".join([*words, f"{len(servers)} servers"] if len(servers) > 1 else words)


def run_route_remove(args: argparse.Namespace) -> int:
    result = link.call(args, "route.remove", name=args.name)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs([("removed", result["name"]), ("audit", result["audit_id"])])
    return 0


def run_route_add(args: argparse.Namespace) -> int:
    options = {name: getattr(args, name) for name in _OPTIONS}
    options["client_file"] = args.client_file and str(Path(args.client_file).absolute())
    options["ca"] = args.ca and _authorities(args.ca)
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


def _authorities(path: str) -> str:
    """The text of a PEM file. Raises `Usage` ROUTE-OPTION."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_SERVERS + 1).decode("ascii")
    except (OSError, ValueError):
        raise Usage("ROUTE-OPTION", f"{path} is not a PEM file", fix="openssl x509 -in FILE -noout") from None


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
