"""`garrison guard pack …`: signed rule packs: signed, verified, installed, listed, taken back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.core.errors import Usage
from garrison.detect.pack import MAX_BYTES, PAYLOAD_TYPE, read_pack
from garrison.detect.pack_trial import check_rules
from garrison.trust import dsse
from garrison.trust.keys.public import load_public

_EXAMPLES = """examples:
  garrison guard pack sign rules.toml --name acme --version 3 --out acme-3.pack
  garrison guard pack verify acme-3.pack --key maker.pem
  garrison guard pack install acme-3.pack
  garrison guard pack rollback acme"""


def add(verbs: Any) -> None:
    pack = verbs.add_parser(
        "pack",
        help="signed rule packs",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).add_subparsers(dest="pack", required=True, metavar="VERB")
    sign = pack.add_parser(
        "sign", help="try rules and sign them", epilog="example: garrison guard pack sign rules.toml "
        "--name acme --version 3 --out acme-3.pack"
    )  # fmt: skip
    sign.add_argument("file", help="rules, as docs/detection.md describes them")
    sign.add_argument("--name", required=True, help="a-z, 0-9 and dashes")
    sign.add_argument("--version", required=True, type=int, metavar="N", help="higher than the last")
    sign.add_argument("--out", required=True, type=Path, metavar="FILE", help="the pack")
    sign.set_defaults(run=run_sign)
    verify = pack.add_parser(
        "verify", help="check a pack, without a server",
        epilog="example: garrison guard pack verify acme-3.pack --key maker.pem",
    )  # fmt: skip
    verify.add_argument("file", type=Path, help="a pack")
    verify.add_argument("--key", required=True, type=Path, metavar="PEM", help="public key of its maker")
    verify.set_defaults(run=run_verify)
    install = pack.add_parser(
        "install", help="verify a pack and use it", epilog="example: garrison guard pack install acme-3.pack"
    )
    install.add_argument("file", help="a pack")
    install.add_argument("--key", type=Path, metavar="PEM", help="of its maker (default: of this house)")
    install.set_defaults(run=run_install)
    for name, does in (("rollback", "go back to the version before"), ("remove", "use it no more")):
        one = pack.add_parser(name, help=does, epilog=f"example: garrison guard pack {name} acme")
        one.add_argument("name", help="as garrison guard pack list shows it")
        one.set_defaults(
            run=lambda args, verb=name: _show(args, link.call(args, f"guard.pack.{verb}", name=args.name))
        )
    listing = pack.add_parser("list", help="those installed", epilog="example: garrison guard pack list")
    listing.set_defaults(run=run_list)


def run_sign(args: argparse.Namespace) -> int:
    source = link.absolute(args.file)
    result = link.call(args, "guard.pack.sign", source=source, name=args.name, version=args.version)
    args.out.write_text(result.pop("envelope"))
    return _show(args, {**result, "file": str(args.out)})


def run_verify(args: argparse.Namespace) -> int:
    try:
        data = args.file.read_bytes()
    except OSError as cause:
        raise Usage("DLP-PACK", f"the file cannot be read: {cause.strerror}", fix="give a pack") from cause
    if len(data) > 2 * MAX_BYTES:
        raise Usage("DLP-PACK", f"the file has more than {2 * MAX_BYTES} bytes", fix="give a pack")
    payload, key_id = dsse.open_envelope(data, [load_public(args.key)], payload_type=PAYLOAD_TYPE)
    pack = read_pack(payload)
    check_rules(pack.rules, pack.name)
    return _show(
        args, {"name": pack.name, "version": pack.version, "rules": len(pack.rules), "key_id": key_id}
    )


def run_install(args: argparse.Namespace) -> int:
    key = None if args.key is None else load_public(args.key).pem.decode()
    return _show(args, link.call(args, "guard.pack.install", source=link.absolute(args.file), key=key))


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "guard.pack.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("PACK", "VERSION", "RULES", "KEY", "BEFORE"),
        [
            (one["name"], str(one["version"]), str(one["rules"]), one["key_id"][:12], _before(one))
            for one in result["packs"]
        ],
        empty="only the rules that come with this version",
    )
    return 0


def _before(one: dict[str, Any]) -> str:
    return str(one["previous"]["version"]) if one["previous"] else "-"


def _show(args: argparse.Namespace, result: dict[str, Any]) -> int:
    if args.json:
        output.print_json(result)
    else:
        rows = [(key.replace("_", " "), str(value)) for key, value in result.items() if key != "previous"]
        output.print_pairs(rows)
    return 0
