"""`garrison token …`, `user …`, `key …`, `owner …`: who may do what, and with which keys."""

from __future__ import annotations

import argparse
import re
from typing import Any

from garrison.app.cli import link, output

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add(subparsers: Any) -> None:
    _add_token(subparsers)
    _add_user(subparsers)
    key = subparsers.add_parser("key", help="the keys in the token")
    keys = key.add_subparsers(dest="verb", required=True, metavar="VERB")
    keys.add_parser(
        "list", help="list keys, their kind and their public halves", epilog="example: garrison key list"
    ).set_defaults(run=run_key_list)
    create = keys.add_parser(
        "create", help="generate a key pair inside the token", epilog="example: garrison key create prod"
    )
    create.add_argument("label", help="name of the new key")
    create.set_defaults(run=run_key_create)
    export = keys.add_parser(
        "export",
        help="refused: a private key does not leave its token",
        epilog="example: garrison key export release",
    )
    export.add_argument("label", help="name of the key")
    export.set_defaults(run=run_key_export)
    owner = subparsers.add_parser("owner", help="who answers for a model")
    owners = owner.add_subparsers(dest="verb", required=True, metavar="VERB")
    new = owners.add_parser(
        "set", help="name who answers for a model", epilog="example: garrison owner set fraud dana"
    )
    new.add_argument("model", help="name, without a version")
    new.add_argument("owner", help="a person or a team")
    new.set_defaults(run=run_owner_set)


def _add_token(subparsers: Any) -> None:
    token = subparsers.add_parser("token", help="issue and revoke short-lived access tokens")
    verbs = token.add_subparsers(dest="verb", required=True, metavar="VERB")
    issue = verbs.add_parser(
        "issue",
        help="sign a token and print it alone",
        epilog="example: garrison token issue --subject app --role user --model fraud --ttl 10m",
    )
    issue.add_argument("--subject", required=True, help="who the token speaks for")
    issue.add_argument("--role", action="append", required=True, help="may be given more than once")
    issue.add_argument("--model", action="append", help="only these models; may be given more than once")
    issue.add_argument(
        "--ttl", type=seconds, metavar="TIME", help="such as 90s, 10m, 1h; at most 24h (default: 15m)"
    )
    issue.set_defaults(run=run_token_issue)
    revoke = verbs.add_parser(
        "revoke",
        help="stop accepting a token",
        epilog="example: garrison token revoke 5b0e6c1f0d3a4e8f9b7c2d1e6f5a4b3c",
    )
    revoke.add_argument("token_id", help="the token_id that token issue --json shows")
    revoke.set_defaults(run=run_token_revoke)


def _add_user(subparsers: Any) -> None:
    user = subparsers.add_parser("user", help="add, list and disable identities")
    verbs = user.add_subparsers(dest="verb", required=True, metavar="VERB")
    new = verbs.add_parser(
        "add",
        help="add an identity",
        epilog="example: garrison user add dana --role approver --email dana@example.com",
    )
    new.add_argument("name", help="lower-case name of the identity")
    new.add_argument("--role", action="append", required=True, help="may be given more than once")
    new.add_argument("--email", help="tells people apart: one address is one person")
    new.set_defaults(run=run_user_add)
    disable = verbs.add_parser(
        "disable", help="an identity may do nothing any more", epilog="example: garrison user disable dana"
    )
    disable.add_argument("name", help="name of the identity")
    disable.set_defaults(run=run_user_disable)
    verbs.add_parser("list", help="list identities", epilog="example: garrison user list").set_defaults(
        run=run_user_list
    )


def seconds(text: str) -> int:
    """`90s`, `10m`, `1h`, `1d` or bare seconds, as whole seconds."""
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 10m")
    return int(match[1]) * _SECONDS[match[2] or "s"]


def run_token_issue(args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"subject": args.subject, "roles": args.role, "models": args.model or []}
    if args.ttl is not None:
        body["ttl"] = args.ttl
    result = link.call(args, "token.issue", **body)
    if args.json:
        output.print_json(result)
    else:
        output.print_line(result["token"])
    return 0


def run_token_revoke(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "token.revoke", token_id=args.token_id))


def run_user_add(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "user.add", name=args.name, roles=args.role, email=args.email))


def run_user_disable(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "user.disable", name=args.name))


def run_owner_set(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "owner.set", model=args.model, owner=args.owner))


def run_user_list(args: argparse.Namespace) -> int:
    result = link.call(args, "user.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("NAME", "ROLES", "EMAIL", "STATE"),
        [
            (u["name"], ", ".join(u["roles"]), u["email"], "disabled" if u["disabled"] else "")
            for u in result["users"]
        ],
        empty="no identities yet: garrison user add NAME --role ROLE",
    )
    return 0


def run_key_list(args: argparse.Namespace) -> int:
    result = link.call(args, "key.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("KEY", "KIND", "WHERE", "ID"),
        [(k["label"], k["algorithm"], k["token"], k["key_id"][:16]) for k in result["keys"]],
        empty="no keys: garrison up makes them",
    )
    return 0


def run_key_create(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "key.create", label=args.label))


def run_key_export(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "key.export", label=args.label))


def _show(args: argparse.Namespace, result: dict[str, Any]) -> int:
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        (key, ", ".join(value) if isinstance(value, list) else value)
        for key, value in result.items()
        if value not in ("", None)
    )
    return 0
