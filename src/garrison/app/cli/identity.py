"""`garrison token …`, `user …`: who may do what."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.core.errors import Usage

MAX_FILE = 64 * 1024  # bytes; a token is 2 kB, a certificate with its chain 4 kB
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add(subparsers: Any) -> None:
    _add_token(subparsers)
    _add_user(subparsers)


def _add_token(subparsers: Any) -> None:
    token = subparsers.add_parser("token", help="issue and revoke short-lived access tokens")
    verbs = token.add_subparsers(dest="verb", required=True, metavar="VERB")
    issue = verbs.add_parser(
        "issue",
        help="sign a token and print it alone",
        epilog="example: garrison token issue --subject app --role user --model fraud --ttl 10m",
    )
    issue.add_argument("--subject", required=True, help="who the token speaks for")
    issue.add_argument("--role", action="append", default=[], help="may be given more than once")
    issue.add_argument("--model", action="append", help="only these models; may be given more than once")
    issue.add_argument(
        "--ttl", type=seconds, metavar="TIME", help="such as 90s, 10m, 1h; at most 24h (default: 15m)"
    )
    issue.add_argument("--tenant", help="whose budget it counts under: garrison limit set --tenant")
    issue.add_argument(
        "--bind", metavar="CERTIFICATE", help="only good over mutual TLS with this certificate (PEM)"
    )
    issue.add_argument(
        "--api-key",
        action="store_true",
        help="an opaque key for clients that cannot fetch tokens: role user, named models, at most 24h",
    )
    issue.set_defaults(run=run_token_issue)
    exchange = verbs.add_parser(
        "exchange",
        help="a token by which an agent acts for a user",
        epilog="example: garrison token exchange --subject-token user.jwt --actor-token agent.jwt",
    )
    exchange.add_argument("--subject-token", required=True, metavar="FILE", help="the user's own token")
    exchange.add_argument("--actor-token", required=True, metavar="FILE", help="the agent's own token")
    exchange.set_defaults(run=run_token_exchange)
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
        epilog="examples:\n  garrison user add dana --role approver --email dana@example.com\n"
        "  garrison user add sa-fraud --role serving --model fraud",
    )
    new.add_argument("name", help="lower-case name of the identity")
    new.add_argument("--role", action="append", required=True, help="may be given more than once")
    new.add_argument("--email", help="tells people apart: one address is one person")
    new.add_argument(
        "--model", action="append", default=[], help="only these models; a service account has to name them"
    )
    new.set_defaults(run=run_user_add)
    disable = verbs.add_parser(
        "disable", help="an identity may do nothing any more", epilog="example: garrison user disable dana"
    )
    disable.add_argument("name", help="name of the identity; ISSUER|SUBJECT for one of another issuer")
    disable.set_defaults(run=run_user_disable)
    certificate = verbs.add_parser(
        "certificate",
        help="a client certificate for a service account",
        epilog="example: garrison user certificate app --csr app.csr --out app.pem",
    )
    certificate.add_argument("name", help="name of the service account")
    certificate.add_argument(
        "--csr", required=True, metavar="FILE", help="its signing request (PKCS#10, PEM)"
    )
    certificate.add_argument("--out", required=True, metavar="FILE", help="where the certificate goes")
    certificate.add_argument("--ttl", type=seconds, metavar="TIME", help="at most 24h, which is the default")
    certificate.set_defaults(run=run_user_certificate)
    enable = verbs.add_parser(
        "enable",
        help="a disabled identity may do again what it could",
        epilog="example: garrison user enable dana",
    )
    enable.add_argument("name", help="name of the identity")
    enable.set_defaults(run=run_user_enable)
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
    body: dict[str, Any] = {"subject": args.subject, "models": args.model or []}
    if args.ttl is not None:
        body["ttl"] = args.ttl
    if args.api_key and (args.tenant or args.bind or set(args.role) - {"user"}):
        raise Usage(
            "ARG-MISSING", "an API key has the role user, no tenant and no certificate", fix="leave those out"
        )
    if args.api_key:
        result = link.call(args, "token.api-key", **body)
    else:
        bound = read_text(args.bind) if args.bind else None
        result = link.call(
            args, "token.issue", **body, roles=args.role, tenant=args.tenant, certificate=bound
        )
    if args.json:
        output.print_json(result)
    else:
        output.print_line(result["token"])
    return 0


def run_token_exchange(args: argparse.Namespace) -> int:
    tokens = {"subject_token": read_text(args.subject_token), "actor_token": read_text(args.actor_token)}
    result = link.call(args, "token.exchange", **tokens)
    if args.json:
        output.print_json(result)
    else:
        output.print_line(result["access_token"])
    return 0


def run_user_certificate(args: argparse.Namespace) -> int:
    body = {} if args.ttl is None else {"ttl": args.ttl}
    result = link.call(args, "user.certificate", name=args.name, request=read_text(args.csr), **body)
    try:
        Path(args.out).write_text(result["certificate"])
    except OSError as error:
        raise Usage(
            "TOK-FILE", f"{args.out}: {error.strerror}", fix="name a file that can be written"
        ) from error
    return _show(
        args, {**{key: value for key, value in result.items() if key != "certificate"}, "file": args.out}
    )


def read_text(name: str) -> str:
    """A small file with a token, a request or a certificate. Raises `Usage` TOK-FILE."""
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_FILE).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(
            "TOK-FILE", f"{name} cannot be read as text", fix="check the path and its rights"
        ) from error


def run_token_revoke(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "token.revoke", token_id=args.token_id))


def run_user_add(args: argparse.Namespace) -> int:
    return _show(
        args,
        link.call(args, "user.add", name=args.name, roles=args.role, email=args.email, models=args.model),
    )


def run_user_disable(args: argparse.Namespace) -> int:
    result = link.call(args, "user.disable", name=args.name)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs([("disabled", result["name"]), ("audit", result["audit_id"])])
    for row in result["without_owner"]:
        output.print_pairs(
            [
                (
                    "RED",
                    f"nobody answers for {row['model']}; {', '.join(row['escalate_to'])} must name somebody",
                ),
                ("next", row["next"]),
            ]
        )
    return 0


def run_user_enable(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "user.enable", name=args.name))


def run_user_list(args: argparse.Namespace) -> int:
    result = link.call(args, "user.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("NAME", "ROLES", "MODELS", "EMAIL", "STATE"),
        [
            (
                u["name"],
                ", ".join(u["roles"]),
                ", ".join(u["models"]),
                u["email"],
                "EDITED" if u["problem"] else "disabled" if u["disabled"] else "",
            )
            for u in result["users"]
        ]
        + [(g["name"], "(group)", "", ", ".join(g["members"]), "") for g in result["groups"]],
        empty="no identities yet: garrison user add NAME --role ROLE",
    )
    return 0


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
