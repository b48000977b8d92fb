"""`garrison admin recover`: the way back in for whoever owns the data directory.

Over the server's own socket when one runs, otherwise under the lock that a server takes.
"""

from __future__ import annotations

import argparse
import os
import pwd
from typing import Any

from garrison.app.cli import link, output
from garrison.app.cli.identity import seconds

VERB = "admin.recover"


def add(subparsers: Any) -> None:
    admin = subparsers.add_parser("admin", help="the way back in when no administrator is left")
    verbs = admin.add_subparsers(dest="verb", required=True, metavar="VERB")
    recover = verbs.add_parser(
        "recover",
        help="make somebody administrator for a short time, from the host alone",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Only for the user who owns the data directory (or root), on its machine; never by a token.",
        epilog="""\
example:
  garrison admin recover dana --for 15m
  garrison --as dana user add erin --role admin

The role ends by itself. The ledger, the posture and the receivers of events tell of it.""",
    )
    recover.add_argument("name", nargs="?", help="who it is for (default: the user of this shell)")
    recover.add_argument("--for", dest="time", type=seconds, metavar="TIME", help="at most 1h (default: 15m)")
    recover.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when the role was lent. Raises ID-RECOVER for a token or a longer time."""
    body: dict[str, Any] = {"name": args.name or _login()}
    if args.time is not None:
        body["seconds"] = args.time
    result = link.call_or_alone(args, VERB, **body)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("ADMIN", f"{result['name']} is administrator until {result['until']}"),
            ("audit", result["audit_id"]),
            ("next", f"garrison --as {result['name']} user add NAME --role admin"),
        ]
    )
    return 0


def _login() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid-{os.geteuid()}"
