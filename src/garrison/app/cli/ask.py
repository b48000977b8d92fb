"""`garrison ask MODEL TEXT`: one question through the gateway, as any other client would ask it."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from garrison.app.cli import link, output
from garrison.client import Answer, Client, Stream

LOCAL_TOKEN_SECONDS = 300
DEFAULT_SERVER = "https://127.0.0.1:8443"


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "ask",
        help="ask a served model through the gateway",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  garrison ask smollm2 "What is a digest?" --stream
  garrison ask smollm2 - < question.txt

On the server's host a short-lived token is fetched by itself; elsewhere give --token-file.""",
    )
    parser.add_argument("model", metavar="MODEL", help="name of a model that serves")
    parser.add_argument("text", metavar="TEXT", help="the question; - reads it from standard input")
    parser.add_argument("--stream", action="store_true", help="print the answer as it comes")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="longest answer, in tokens")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 gives the same answer every time")
    parser.add_argument("--server", metavar="URL", help=f"the gateway (default: {DEFAULT_SERVER})")
    parser.add_argument("--ca", metavar="FILE", help="CA to trust (default: ca.pem of the data directory)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the answer. Raises the gateway's own error when it refuses.

    A token file goes before the token that the server's own host can fetch.
    """
    text = sys.stdin.read() if args.text == "-" else args.text
    client = Client(
        _server(args),
        ca=_ca(args),
        token=link.read_token_file(args),
        token_provider=_token_provider(args),
    )
    asked = {"max_tokens": args.max_tokens, "temperature": args.temperature}
    options = {name: value for name, value in asked.items() if value is not None}
    if not args.stream:
        _show(args, client.chat(args.model, text, **options))
        return 0
    with client.chat(args.model, text, stream=True, **options) as stream:
        _show_stream(args, stream)
    return 0


def _show(args: argparse.Namespace, answer: Answer) -> None:
    if args.json:
        output.print_json(answer.raw)
        return
    output.print_line(_readable(answer.text))
    _show_foot(answer.model or args.model, answer.audit_id)


def _show_stream(args: argparse.Namespace, stream: Stream) -> None:
    pieces = []
    for piece in stream:
        pieces.append(piece)
        if not args.json:
            sys.stdout.write(_readable(piece))
            sys.stdout.flush()
    if args.json:
        output.print_json(
            {"model": args.model, "text": "".join(pieces), "finish_reason": stream.finish_reason}
        )
        return
    output.print_line()
    _show_foot(args.model, stream.audit_id)


def _show_foot(model: str, audit_id: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(
            f"  {output.visible(model)}{'   audit ' + output.visible(audit_id) if audit_id else ''}\n"
        )


def _readable(text: str) -> str:
    """A model's words keep their lines; everything that could steer the terminal is written out."""
    return "\n".join(output.visible(line) for line in text.split("\n"))


def _ca(args: argparse.Namespace) -> str | None:
    if args.ca:
        return str(args.ca)
    local = link.data_directory(args) / "ca.pem"
    return str(local) if local.is_file() else None


def _server(args: argparse.Namespace) -> str:
    """`--server`, else GARRISON_SERVER, else where the data directory's own server says it listens."""
    named = args.server or os.environ.get("GARRISON_SERVER")
    if named:
        return str(named)
    try:
        return str(json.loads((link.data_directory(args) / "run" / "ready.json").read_bytes())["url"])
    except (OSError, ValueError, KeyError):
        return DEFAULT_SERVER


def _token_provider(args: argparse.Namespace) -> Callable[[], str] | None:
    """On the server's host, a token of five minutes for this one model, signed for whoever asks."""
    if link.read_token_file(args) is not None or args.server:
        return None

    def fetch() -> str:
        body = {"subject": getpass.getuser(), "roles": ["user"], "models": [args.model.partition("@")[0]]}
        return str(link.call(args, "token.issue", ttl=LOCAL_TOKEN_SECONDS, **body)["token"])

    return fetch
