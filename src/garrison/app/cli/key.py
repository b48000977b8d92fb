"""`garrison key …`: make, list, rotate and revoke keys, and bring a token of your own."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.core.digest import short
from garrison.core.errors import Undecided, Usage
from garrison.storage.local import write_atomically

ALGORITHMS = ("p256", "p384", "rsa-pss-3072", "ed25519")
REASONS = ("compromise", "superseded", "cessation", "unspecified")
MAX_PIN = 255


def add(subparsers: Any) -> None:
    key = subparsers.add_parser("key", help="the keys in the token")
    keys = key.add_subparsers(dest="verb", required=True, metavar="VERB")
    keys.add_parser(
        "list", help="list keys: kind, state, where, what they signed", epilog="example: garrison key list"
    ).set_defaults(run=run_list)
    show = keys.add_parser("show", help="one key in full", epilog="example: garrison key show release")
    show.add_argument("label", help="label, or the beginning of the id")
    show.set_defaults(run=run_show)
    create = keys.add_parser(
        "create",
        help="generate a key pair inside the token",
        epilog="example: garrison key create prod --algorithm p384",
    )
    create.add_argument("label", help="name of the new key")
    create.add_argument("--algorithm", choices=ALGORITHMS, help="default: p256")
    create.set_defaults(run=run_create)
    export = keys.add_parser(
        "export",
        help="print a public half; a private one never leaves its token",
        epilog="example: garrison key export release --public",
    )
    export.add_argument("label", help="name of the key")
    export.add_argument("--public", action="store_true", help="the public half, PEM")
    export.set_defaults(run=run_export)
    _add_rotate(keys)
    _add_revoke(keys)
    _add_add(keys)
    trust = keys.add_parser(
        "trust",
        help="write the file by which verifiers elsewhere judge",
        epilog="""\
examples:
  garrison key trust --out trust.json
  garrison verify ./fraud --key trust.json""",
    )
    trust.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write it")
    trust.set_defaults(run=run_trust)
    accept = keys.add_parser(
        "accept-loss",
        help="go on without the newest keyring, when it is lost for good",
        epilog="example: garrison key accept-loss --reason 'disk of 22 November failed, no backup of that day'",
    )
    accept.add_argument("--reason", required=True, metavar="TEXT", help="what happened; it is recorded")
    accept.set_defaults(run=run_accept)


def _add_rotate(keys: Any) -> None:
    rotate = keys.add_parser(
        "rotate",
        help="sign with another key from now on",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  garrison key rotate release --to prod
  garrison key rotate timestamp""",
    )
    rotate.add_argument("role", help="what the key signs: release or timestamp")
    rotate.add_argument("--to", metavar="LABEL", help="a key that is there (default: a new one)")
    rotate.add_argument("--algorithm", choices=ALGORITHMS, help="of a new key (default: as before)")
    rotate.set_defaults(run=run_rotate)


def _add_revoke(keys: Any) -> None:
    revoke = keys.add_parser(
        "revoke",
        help="what a key signed stops counting",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  garrison key revoke release --reason compromise --since 2026-01-31T09:00:00Z
  garrison key revoke approver.dana --reason compromise --since 2026-01-31T09:00:00Z

What the ledger had on record before --since goes on verifying. Without --since:
nothing does when the key was compromised, all of it for other reasons.""",
    )
    revoke.add_argument("label", help="label, or the beginning of the id")
    revoke.add_argument("--reason", choices=REASONS, default="unspecified", help="default: unspecified")
    revoke.add_argument("--since", metavar="TIME", help="from when it is not believed, with a time zone")
    revoke.add_argument(
        "--keep-serving", action="store_true", help="do not stop versions that serve (compromise stops them)"
    )
    revoke.set_defaults(run=run_revoke)


def _add_add(keys: Any) -> None:
    new = keys.add_parser(
        "add",
        help="bring a PKCS#11 token of your own",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  garrison key add prod --pkcs11 /opt/hsm/lib.so --token LABEL \\
      --pin-file /etc/hsm.pin
  garrison key add aws --profile aws-cloudhsm --token hsm1 \\
      --cluster cluster-abcd1234 --pin-fd 0 < /run/pin

Without a way for the PIN it is asked for. A PIN given by --pin-fd or asked for
is kept in a private file of the data directory; --pin-file and --pin-credential
are read at each start. A key is made in the token under NAME, or the one there
is used.""",
    )
    new.add_argument("name", help="name of the token here, and of the key in it")
    new.add_argument("--pkcs11", metavar="MODULE", help="path of the module (default: the profile's)")
    new.add_argument("--token", required=True, metavar="LABEL", help="label of the token")
    new.add_argument("--profile", default="generic", metavar="NAME", help="default: generic")
    new.add_argument("--algorithm", choices=ALGORITHMS, help="of a new key (default: p256)")
    new.add_argument("--cluster", metavar="ID", help="AWS CloudHSM cluster to look at: cluster-…")
    pin = new.add_mutually_exclusive_group()
    pin.add_argument("--pin-file", metavar="FILE", help="a private file (mode 0600)")
    pin.add_argument("--pin-credential", metavar="NAME", help="a systemd credential of the server")
    pin.add_argument("--pin-fd", type=int, metavar="N", help="read it from an open file descriptor")
    new.add_argument(
        "--risk-locking-the-token",
        action="store_true",
        help="try the PIN although it is the token's last try: a wrong one locks it, perhaps for good",
    )
    new.set_defaults(run=run_add)


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "key.list")
    if args.json:
        output.print_json(result)
        return 0
    rows = [
        (k["label"], k["role"], k["algorithm"], _state(k), _where(k), str(k["signed"]), k["key_id"][:16])
        for k in result["keys"]
    ]
    output.print_table(
        ("KEY", "ROLE", "KIND", "STATE", "WHERE", "SIGNED", "ID"),
        rows,
        empty="no keys: garrison up makes them",
    )
    return 0


def _state(key: dict[str, Any]) -> str:
    if key["revoked"]:
        return f"revoked ({key['revoked']['reason']})"
    return str(key["state"])


def _where(key: dict[str, Any]) -> str:
    cluster = key["cluster"]
    return f"{key['token']}, cluster {cluster['state']}" if cluster else str(key["token"])


def run_show(args: argparse.Namespace) -> int:
    result = link.call(args, "key.show", label=args.label)
    if args.json:
        output.print_json(result)
        return 0
    hidden = {"affected", "pem", "cluster", "revoked"}
    output.print_pairs((k, v) for k, v in result.items() if k not in hidden and v not in ("", None))
    if result["revoked"]:
        revoked = result["revoked"]
        output.print_pairs(
            [("revoked", f"{revoked['reason']} since {revoked['since']}, {revoked['kept']} kept")]
        )
    _print_affected(result["affected"])
    return 0


def run_create(args: argparse.Namespace) -> int:
    return _show(args, link.call(args, "key.create", label=args.label, algorithm=args.algorithm))


def run_export(args: argparse.Namespace) -> int:
    result = link.call(args, "key.export", label=args.label, public=args.public)
    if args.json:
        output.print_json(result)
    else:
        output.print_line(result["pem"].rstrip())
    return 0


def run_rotate(args: argparse.Namespace) -> int:
    result = link.call(args, "key.rotate", role=args.role, to=args.to, algorithm=args.algorithm)
    return _show(args, result if args.json else {key: value for key, value in result.items() if value})


def run_revoke(args: argparse.Namespace) -> int:
    result = link.call(
        args,
        "key.revoke",
        label=args.label,
        reason=args.reason,
        since=args.since,
        keep_serving=args.keep_serving,
    )
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("revoked", f"{result['label']} {result['key_id'][:16]}…   {result['reason']}"),
            ("since", _since(result)),
            ("affected", _affected(result)),
            *(("also", effect) for effect in result["effects"]),
            ("stopped", ", ".join(result["stopped"]) or "nothing"),
            *((("not stopped", "; ".join(result["not_stopped"])),) if result["not_stopped"] else ()),
            *((("successor", result["successor"]),) if result["successor"] else ()),
            ("audit", result["audit_id"]),
        ]
    )
    _print_affected(result["affected"])
    return 0


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _since(result: dict[str, Any]) -> str:
    since = "its beginning" if result["since"].startswith("1970-01-01T00:00:00") else result["since"]
    if result["role"] == "approver":
        return f"{since}   approvals on record before it stay"
    return f"{since}   {_counted(result['kept'], 'signature')} on record before it stay valid"


def _affected(result: dict[str, Any]) -> str:
    count = _counted(result["affected_count"], "version")
    return (
        f"{count} left the approved list" if result["role"] == "approver" else f"{count} no longer verified"
    )


def _print_affected(rows: list[dict[str, Any]]) -> None:
    if rows:
        output.print_table(
            ("VERSION", "DIGEST", "SIGNED", ""),
            [(r["ref"], short(r["digest"]), r["time"][:16], "serving" if r["serving"] else "") for r in rows],
            empty="",
        )
        for step in dict.fromkeys(str(r["next"]).replace(r["ref"], "NAME@VERSION") for r in rows):
            output.print_line(
                textwrap.fill(
                    f"next: {step}", output.WIDTH, subsequent_indent="      ", break_on_hyphens=False
                )
            )


def run_add(args: argparse.Namespace) -> int:
    body = {
        "name": args.name,
        "module": str(Path(args.pkcs11).absolute()) if args.pkcs11 else None,
        "token": args.token,
        "profile": args.profile,
        "algorithm": args.algorithm,
        "cluster": args.cluster,
        "pin_file": str(Path(args.pin_file).absolute()) if args.pin_file else None,
        "pin_credential": args.pin_credential,
        "risk_locking": args.risk_locking_the_token,
    }
    if not args.pin_file and not args.pin_credential:
        body["pin"] = _read_pin(args.pin_fd, args.token)
    return _show(args, link.call(args, "key.add", **body))


def _read_pin(descriptor: int | None, token: str) -> str:
    """From the descriptor or the terminal; never from an argument or a variable."""
    try:
        if descriptor is not None:
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                return stream.read(MAX_PIN + 1).decode().strip()
        if not sys.stdin.isatty():
            raise Usage(
                "KEY-PIN", "there is no terminal to ask for the PIN", fix="--pin-file FILE or --pin-fd N"
            )
        return getpass.getpass(f"PIN of the token {token}: ")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise Undecided(
            "KEY-PIN", f"the PIN could not be read: {type(error).__name__}", fix="--pin-fd 3 3</path/of/pin"
        ) from error


def run_trust(args: argparse.Namespace) -> int:
    result = link.call(args, "key.trust")
    write_atomically(args.out, result["trust"].encode(), mode=0o644)
    return _show(args, {"trust": str(args.out), "keyring": result["version"]})


def run_accept(args: argparse.Namespace) -> int:
    """Beside a stopped server: the token itself is told, and the next start acts on it."""
    from garrison.app import keyring_loss, wiring  # the token's driver, which the other verbs do without
    from garrison.app.lock import only_server  # as above
    from garrison.app.settings import Settings  # as above

    settings = Settings(data=link.data_directory(args))
    with only_server(settings):
        token, _ = wiring.open_keys(settings)
        try:
            keyring_loss.accept(token, args.reason)
        finally:
            token.close()
    then = "if the keyring is older than the token knows, the next start revokes every release key"
    return _show(args, {"accepted": args.reason, "data": str(settings.data), "then": then})


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
