"""`garrison edge …`: models for places without a network. At home: sites, bundles, their events. There: the rest."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from garrison.app.cli import edge_there, link, output
from garrison.core.errors import Usage

MAX_CARD_BYTES = 64 * 1024
SPAN = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "edge", help="build bundles for sites without a network, and run them there"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_sites(verbs)
    build = verbs.add_parser(
        "build",
        help="one file for one site: model, papers, revocations, sealed and signed",
        epilog="example: garrison edge build fraud@3 --site plant-7 --expires 30d",
    )
    build.add_argument("ref", nargs="?", metavar="NAME@VERSION", help="such as fraud@3")
    build.add_argument("--notice", action="store_true", help="no model: only what is withdrawn by now")
    build.add_argument("--site", required=True, help="the device that it is for")
    build.add_argument("--expires", default="30d", metavar="TIME", help="such as 12h, 30d; at most 90d")
    build.add_argument("--out", metavar="FILE", help="default: NAME-VERSION.SITE.gar")
    build.set_defaults(run=run_build)
    take = verbs.add_parser(
        "import",
        help="take the events of a device into the ledger, each once",
        epilog="example: garrison edge import plant-7.events",
    )
    take.add_argument("file", help="what garrison edge forward wrote")
    take.set_defaults(run=run_import)
    edge_there.add(verbs)


def _add_sites(verbs: Any) -> None:
    site = verbs.add_parser("site", help="the devices that bundles are built for")
    each = site.add_subparsers(dest="site_verb", required=True, metavar="VERB")
    for name, words in (
        ("add", "enter a device by its card; compare the key id with what the device shows"),
        ("rotate", "a device that is entered made itself another key"),
    ):
        one = each.add_parser(name, help=words, epilog=f"example: garrison edge site {name} plant-7.site")
        one.add_argument("card", metavar="FILE", help="what garrison edge enrol printed")
        one.set_defaults(run=run_site_change)
    remove = each.add_parser(
        "remove", help="build nothing more for a device", epilog="example: garrison edge site remove plant-7"
    )
    remove.add_argument("site", help="its name")
    remove.set_defaults(run=run_site_change)
    listing = each.add_parser(
        "list", help="devices, their newest bundle, their events", epilog="example: garrison edge site list"
    )
    listing.set_defaults(run=run_site_list)


def run_site_change(args: argparse.Namespace) -> int:
    body = {"site": args.site} if args.site_verb == "remove" else {"card": _card(Path(args.card))}
    result = link.call(args, f"edge.site.{args.site_verb}", **body)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs([("site", result["site"]), ("key", result["key_id"]), ("audit", result["audit_id"])])
    return 0


def _card(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            card = json.loads(file.read(MAX_CARD_BYTES))
        found = card.get("card", card)
    except (OSError, ValueError, AttributeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Usage("EDGE-CARD", f"{path} is not the card of a device", fix="garrison edge enrol prints one")
    return found


def run_site_list(args: argparse.Namespace) -> int:
    result = link.call(args, "edge.site.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("SITE", "KEY", "BUNDLE", "EVENTS", "SINCE"),
        [
            (
                site["site"],
                site["key_id"][:16],
                f"{site['sequence']} {site['built']}".strip(),
                str(site["events"]),
                output.moment(site["since"]),
            )
            for site in result["sites"]
        ],
        empty="no sites; on a device: garrison edge enrol, then here: garrison edge site add FILE",
    )
    return 0


def run_build(args: argparse.Namespace) -> int:
    if (args.ref is None) != args.notice:
        raise Usage("CLI-USAGE", "give a NAME@VERSION, or --notice", fix="garrison edge build --help")
    name = "notice" if args.ref is None else args.ref.replace("@", "-")
    destination = link.absolute(args.out or f"{name}.{args.site}.gar")
    result = link.call(
        args,
        "edge.build",
        ref=args.ref,
        site=args.site,
        expires=_seconds(args.expires),
        destination=destination,
    )
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("bundle", result["path"]),
            ("size", output.megabytes(result["size"])),
            ("for", f"{result['site']}, number {result['sequence']}"),
            ("holds", result["ref"] or "what is withdrawn"),
            ("until", output.moment(result["expires"])),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None:
        raise Usage("EDGE-EXPIRES", f"{text[:20]!a} is not a time span", fix="--expires 30d")
    return int(found[1]) * SPAN[found[2]]


def run_import(args: argparse.Namespace) -> int:
    result = link.call(args, "edge.import", source=link.absolute(args.file))
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("site", result["site"]),
            ("new", f"{result['new']} events"),
            ("in all", f"{result['events']} events of its ledger are here"),
            *([("audit", result["audit_id"])] if result["audit_id"] else []),
        ]
    )
    return 0
