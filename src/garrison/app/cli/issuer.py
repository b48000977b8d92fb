"""`garrison issuer …`: whose tokens count beside our own, and what they are worth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from garrison.app.cli import link, output
from garrison.app.cli.identity import seconds
from garrison.core.errors import Usage

MAX_CA = 16 * 1024  # bytes; a chain of certificates in PEM

_EXAMPLES = """examples:
  garrison issuer add https://login.example.com --audience garrison --claims-map roles=groups \\
    --grant ml-users=user
  garrison issuer add https://token.actions.githubusercontent.com --name github --audience garrison \\
    --role ci --model fraud --condition repository=example/fraud --condition ref=refs/heads/main"""


def add(subparsers: Any) -> None:
    issuer = subparsers.add_parser("issuer", help="whose tokens count beside our own")
    verbs = issuer.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_add(verbs)
    remove = verbs.add_parser(
        "remove",
        help="its tokens stop counting at once",
        epilog="example: garrison issuer remove https://login.example.com",
    )
    remove.add_argument("url", help="as garrison issuer list shows it")
    remove.set_defaults(run=run_remove)
    verbs.add_parser(
        "list", help="issuers and how fresh their keys are", epilog="example: garrison issuer list"
    ).set_defaults(run=run_list)


def _add_add(verbs: Any) -> None:
    new = verbs.add_parser("add", help="trust one, or change how", epilog=_EXAMPLES)
    new.add_argument("url", help="https:// address, exactly as its tokens say in iss")
    new.add_argument("--audience", required=True, help="what aud has to name: this server, and nobody else")
    new.add_argument("--name", help="its subjects are called NAME|SUBJECT here (default: its host)")
    new.add_argument(
        "--claims-map",
        action="append",
        default=[],
        metavar="MEANING=CLAIM",
        help="which claim is read as sub, roles, models or tenant; commas between several",
    )
    new.add_argument(
        "--grant", action="append", default=[], metavar="VALUE=ROLE", help="a value of the roles claim"
    )
    new.add_argument("--role", action="append", default=[], help="a role of every token of this issuer")
    new.add_argument("--model", action="append", default=[], help="only these models, for every token")
    new.add_argument(
        "--condition",
        action="append",
        default=[],
        metavar="CLAIM=VALUE",
        help="what a token has to say; one of several",
    )
    new.add_argument(
        "--algorithm", action="append", default=[], help="such as ES256; default: RS256, ES256, EdDSA"
    )
    new.add_argument(
        "--longest", type=seconds, metavar="TIME", help="lifetime that is accepted (default: 1h)"
    )
    new.add_argument("--without-nbf", action="store_true", help="tokens without nbf count from iat")
    new.add_argument("--keys-host", metavar="HOST", help="where its key set may lie when not on its own host")
    new.add_argument("--ca", metavar="FILE", help="authority of its HTTPS certificate, in PEM")
    new.add_argument("--loopback", action="store_true", help="it runs on this machine, without HTTPS")
    new.set_defaults(run=run_add)


def run_add(args: argparse.Namespace) -> int:
    maps = [part for given in args.claims_map for part in given.split(",")]
    issuer: dict[str, Any] = {
        "url": args.url,
        "audience": args.audience,
        "name": args.name or (urlsplit(args.url).hostname or "")[:32],
        "claims": _pairs(maps),
        "grants": _pairs(args.grant),
        "roles": args.role,
        "models": args.model,
        "conditions": _pairs(args.condition),
        "needs_nbf": not args.without_nbf,
        "keys_host": args.keys_host or "",
        "loopback": args.loopback,
        "ca": _read(args.ca) if args.ca else "",
    }
    if args.algorithm:
        issuer["algorithms"] = args.algorithm
    if args.longest is not None:
        issuer["longest"] = args.longest
    result = link.call(args, "issuer.add", issuer=issuer)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("trusted", result["url"]),
            ("subjects", f"{result['name']}|SUBJECT"),
            ("keys", f"{len(result['keys'])} fetched"),
            *(("left out", why) for why in result["left_out"]),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_remove(args: argparse.Namespace) -> int:
    result = link.call(args, "issuer.remove", url=args.url)
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs([("removed", result["url"]), ("audit", result["audit_id"])])
    return 0


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "issuer.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("ISSUER", "NAME", "AUDIENCE", "KEYS", "STATE", "GOOD UNTIL"),
        [
            (
                one["url"],
                one["name"],
                one["audience"],
                len(one["keys"]),
                one["state"],
                output.moment(one["good_until"]) if one["good_until"] else "",
            )
            for one in result["issuers"]
        ],
        empty="no other issuer counts here: garrison issuer add URL --audience AUDIENCE --role ROLE",
    )
    return 0


def _pairs(words: list[str]) -> list[list[str]]:
    """`a=b` as pairs, cut at the first `=`. Raises `Usage` ISS-INVALID."""
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise Usage("ISS-INVALID", f"{word[:80]!r} is not NAME=VALUE", fix="garrison issuer add --help")
        pairs.append([name, value])
    return pairs


def _read(name: str) -> str:
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_CA + 1).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(
            "ISS-INVALID", f"{name} is not a certificate in PEM", fix="give the file of the authority"
        ) from error
