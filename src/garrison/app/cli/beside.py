"""`garrison gateway trust|distrust|proxies|jwks|render|import`: the gateway beside what people have already."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from garrison.app.beside.litellm import MAX_FILE, Proposal, propose, unreadable
from garrison.app.beside.render import TARGETS, File, render
from garrison.app.beside.site import FORMS, site_of
from garrison.app.cli import link, output
from garrison.core.decision import Tier
from garrison.core.errors import Refused, Usage

_TRUST = """examples:
  garrison gateway trust front --workload front --clients
  garrison gateway trust portal --workload portal --role user --model smollm2"""
_RENDER = """examples:
  garrison gateway render envoy --gateway 10.0.0.5:8443 --name ai.example.com --out /etc/proxy
  garrison gateway render kong --ask --upstream 10.0.0.9:8000
  garrison gateway render azure --issuer https://login.example.com"""
_HELP = {
    "listen": "where the proxy listens",
    "gateway": "where Garrison's gateway listens",
    "name": "name in the gateway's certificate (setting: names)",
    "ca": "Garrison's authority, on the proxy's machine",
    "cert": "the proxy's certificate for its clients",
    "key": "its key",
    "client_cert": "the certificate that the proxy shows to the gateway",
    "client_key": "its key",
    "place": "where the rendered files will lie",
    "upstream": "the model server, with --ask",
    "issuer": "whose tokens Azure and AWS check first",
    "audience": "what these tokens name as their audience",
}
_VALUES = {"address": "HOST:PORT", "host": "NAME", "path": "FILE", "url": "URL", "word": "WORD"}


def add_verbs(verbs: Any) -> None:
    """The verbs below `gateway` that this file has."""
    _add_trust(verbs)
    distrust = verbs.add_parser(
        "distrust",
        help="it is believed no longer, at once",
        epilog="example: garrison gateway distrust front",
    )
    distrust.add_argument("name", help="as garrison gateway proxies shows it")
    distrust.set_defaults(run=run_distrust)
    verbs.add_parser(
        "proxies", help="which proxies are believed, and what", epilog="example: garrison gateway proxies"
    ).set_defaults(run=run_proxies)
    verbs.add_parser(
        "jwks",
        help="public keys of access tokens, for who checks them too",
        epilog="example: garrison gateway jwks > jwks.json",
    ).set_defaults(run=run_jwks)
    _add_render(verbs)
    taking = verbs.add_parser(
        "import",
        help="commands for the routes of another gateway",
        epilog="example: garrison gateway import litellm config.yaml --tier internal",
    )
    taking.add_argument("product", choices=["litellm"], help="whose configuration it is")
    taking.add_argument("file", help="its configuration; nothing of it is changed")
    taking.add_argument(
        "--tier",
        default="internal",
        choices=[tier.value for tier in Tier],
        help="of every route (default: internal)",
    )
    taking.add_argument("--out", metavar="DIR", help="where lists of servers are written")
    taking.set_defaults(run=run_import)


def _add_trust(verbs: Any) -> None:
    trust = verbs.add_parser("trust", help="believe a proxy who calls, or change how", epilog=_TRUST)
    trust.add_argument("name", help="its callers are called NAME|CALLER")
    trust.add_argument("--workload", default="", help="the name in its client certificate (user certificate)")
    trust.add_argument("--certificate", default="", metavar="SHA256", help="one certificate alone, instead")
    trust.add_argument(
        "--role",
        action="append",
        default=[],
        help="of every caller that it names; without one it names nobody",
    )
    trust.add_argument("--model", action="append", default=[], help="only these models for its callers")
    trust.add_argument(
        "--clients", action="store_true", help="certificates of its clients count as if shown here"
    )
    trust.set_defaults(run=run_trust)


def _add_render(verbs: Any) -> None:
    making = verbs.add_parser(
        "render", help="configuration for a proxy in front, tested with it", epilog=_RENDER
    )
    making.add_argument("product", choices=sorted(TARGETS), help="what stands in front")
    making.add_argument("--ask", action="store_true", help="it asks only, and passes requests on itself")
    making.add_argument("--http3", action="store_true", help="HTTP/3 too")
    for name, form in FORMS.items():
        making.add_argument(f"--{name.replace('_', '-')}", metavar=_VALUES[form], help=_HELP[name])
    making.add_argument("--out", metavar="DIR", help="write the files there (default: print them)")
    making.add_argument("--yes", action="store_true", help="replace files that are there")
    making.set_defaults(run=run_render)


def run_trust(args: argparse.Namespace) -> int:
    proxy = {
        "name": args.name,
        "workload": args.workload,
        "certificate": args.certificate.lower().replace(":", ""),
        "roles": args.role,
        "models": args.model,
        "clients": args.clients,
    }
    result = link.call(args, "gateway.trust", proxy=proxy)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("trusted", f"{result['name']}, {_known_by(result)}"),
            ("callers", _callers(result)),
            (
                "clients",
                "their certificates count" if result["clients"] else "their certificates are not read",
            ),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_distrust(args: argparse.Namespace) -> int:
    result = link.call(args, "gateway.distrust", name=args.name)
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs([("removed", result["name"]), ("audit", result["audit_id"])])
    return 0


def run_proxies(args: argparse.Namespace) -> int:
    result = link.call(args, "gateway.proxies")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("PROXY", "KNOWN BY", "CLIENTS", "CALLERS"),
        [
            (one["name"], _known_by(one), "yes" if one["clients"] else "no", _callers(one))
            for one in result["proxies"]
        ],
        empty="no proxy is believed: garrison gateway trust NAME --workload NAME",
    )
    return 0


def run_jwks(args: argparse.Namespace) -> int:
    output.print_json(link.call(args, "gateway.jwks"))
    return 0


def run_render(args: argparse.Namespace) -> int:
    target, files = TARGETS[args.product], render(args.product, site_of(vars(args)))
    if args.out:
        _write(Path(args.out), files, replace=args.yes)
    if args.json:
        shown = [{"name": file.name, "text": file.text} for file in files]
        output.print_json(
            {
                "schema": "garrison.render/1",
                "product": target.name,
                "proved": target.proved,
                "files": shown,
                "next": target.next,
            }
        )
        return 0
    if not args.out:
        for file in files:
            if len(files) > 1:
                output.print_line(f"==> {file.name} <==")
            output.print_line(file.text.rstrip("\n"))
        return 0
    output.print_pairs(
        [
            *(("wrote", str(Path(args.out) / file.name)) for file in files),
            ("proved", f"{target.proved}: {target.proof}"),
            ("next", target.next),
        ]
    )
    return 0


def run_import(args: argparse.Namespace) -> int:
    found = propose(_parsed(args.file), args.tier)
    if args.out:
        texts = [File(name, json.dumps(servers, indent=2) + "\n") for name, servers in found.files.items()]
        _write(Path(args.out), tuple(texts), replace=False)
    if args.json:
        output.print_json(
            {
                "schema": "garrison.import/1",
                "commands": found.commands,
                "files": found.files,
                "keys": found.keys,
                "left": [{"what": what, "why": why} for what, why in found.left],
            }
        )
    else:
        _print(found, written=bool(args.out))
    return 0


def _print(found: Proposal, *, written: bool) -> None:
    """The commands as they can be pasted; the rest behind `#`."""
    for path, source in found.keys.items():
        output.print_line(f"# {path}, mode 600: the key from {source}")
    for name, servers in found.files.items():
        if not written:
            output.print_line(f"# {name} (--out DIR writes it): {len(servers)} servers")
    for command in found.commands:
        output.print_line(shlex.join(command))
    for what, why in found.left:
        output.print_line(f"# left out: {what}: {why}")


def _parsed(name: str) -> object:
    try:
        import yaml  # needed by this command alone, extra server
    except ImportError:
        raise Usage(
            "IMPORT-LITELLM", "PyYAML is not installed", fix="pip install 'garrison[server]'"
        ) from None
    try:
        with Path(name).open("rb") as file:
            text = file.read(MAX_FILE + 1)
    except OSError as error:
        raise unreadable(f"{name}: {error.strerror}") from error
    if len(text) > MAX_FILE:
        raise unreadable(f"it is larger than {MAX_FILE} bytes")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise unreadable("it is not YAML") from error


def _write(directory: Path, files: tuple[File, ...], *, replace: bool) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file in files:
            path = directory / file.name
            if path.exists() and not replace and path.read_text() != file.text:
                raise Refused(
                    "RENDER-VALUE", f"{path} is there and says something else", fix="give --yes to replace it"
                )
        for file in files:
            (directory / file.name).write_text(file.text)
    except OSError as error:
        raise Usage("RENDER-VALUE", f"{directory}: {error.strerror}", fix="choose another --out") from error


def _known_by(proxy: dict[str, Any]) -> str:
    if proxy["workload"]:
        return f"spiffe://garrison/{proxy['workload']}"
    return f"certificate {proxy['certificate'][:16]}…"


def _callers(proxy: dict[str, Any]) -> str:
    if not proxy["roles"]:
        return "it names none"
    return f"{', '.join(proxy['roles'])}; models: {', '.join(proxy['models']) or 'all that the role may use'}"
