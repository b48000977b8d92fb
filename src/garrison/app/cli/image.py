"""`garrison image …`: OCI image layouts checked where they lie; with a server, signed and pinned."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.artifacts.oci import verify
from garrison.core.digest import short
from garrison.trust.keys.public import PublicKey
from garrison.trust.sidecars import load_keys

MAX_ROWS = 40


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("image", help="verify, inspect, sign and pin container images (OCI)")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    check = verbs.add_parser(
        "verify",
        help="hash every part of an image and check its pin and signature; no server",
        epilog="example: garrison image verify oci:./app --key release.pem",
    )
    _image(check)
    check.add_argument("--key", action="append", type=Path, default=[], metavar="FILE", help="public key")
    check.set_defaults(run=run_verify)
    inspect = verbs.add_parser(
        "inspect", help="what a layout holds, hashed", epilog="example: garrison image inspect oci:./app"
    )
    _image(inspect)
    inspect.set_defaults(run=run_inspect)
    sign = verbs.add_parser(
        "sign",
        help="sign an image in its layout with the server's key",
        epilog="example: garrison image sign oci:./app --name app",
    )
    _image(sign)
    sign.add_argument("--name", default="", help="what the image is called")
    sign.set_defaults(run=run_sign)
    pin = verbs.add_parser(
        "pin",
        help="tie a name to the digest of a signed image",
        epilog="example: garrison image pin oci:./app --as app",
    )
    _image(pin)
    pin.add_argument("--as", dest="name", required=True, metavar="NAME", help="what deployments call it")
    pin.add_argument(
        "--accept-moved", action="store_true", help="the name may mean another digest from now on"
    )
    pin.set_defaults(run=run_pin)
    history = verbs.add_parser(
        "history",
        help="every digest that a tag or a name has meant",
        epilog="example: garrison image history oci://registry.example/models/fraud:3 --look",
    )
    history.add_argument("name", help="a pinned name, or oci://HOST/REPOSITORY:TAG")
    history.add_argument("--look", action="store_true", help="also ask the registry what it means now")
    add_access(history)
    history.set_defaults(run=run_history)


def add_access(parser: argparse.ArgumentParser) -> None:
    """Options of every command that reaches a registry."""
    parser.add_argument("--auth", type=Path, metavar="FILE", help="docker's config.json, or a token file")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="CA of the registry's certificate")
    parser.add_argument("--plain-http", action="store_true", help="without TLS; the loopback address only")


def access(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "auth": str(args.auth.absolute()) if args.auth else None,
        "ca": str(args.ca.absolute()) if args.ca else None,
        "plain_http": args.plain_http,
    }


def run_verify(args: argparse.Namespace) -> int:
    """Exit 0 when every part is what it is called and a pin or a trusted key says that it is the right image."""
    image = verify.vouched(verify.verify(verify.parse_reference(args.image), _keys(args)))
    if args.json:
        output.print_json({"verdict": "verified", **image.as_json()})
        return 0
    pairs = [("verified", ", ".join(root.digest for root in image.roots))]
    pairs += [("pin", "the digest that was asked for")] if image.pinned else []
    pairs += [("signed", f"key {key}") for key in image.signed_by]
    pairs.append(("parts", f"{image.blobs} blobs, {output.megabytes(image.bytes)}"))
    if image.unreferenced:
        pairs.append(("extra", f"{len(image.unreferenced)} blobs that no image uses"))
    output.print_pairs(pairs)
    return 0


def run_inspect(args: argparse.Namespace) -> int:
    image = verify.verify(verify.parse_reference(args.image), [])
    if args.json:
        output.print_json(image.as_json())
        return 0
    rows = [
        ("root", root.digest, root.annotations.get(verify.TAG, ""), f"{root.size:,}") for root in image.roots
    ]
    for digest, (_descriptor, manifest) in image.manifests.items():
        rows.append(("manifest", short(digest), manifest.kind.rpartition("/")[2], ""))
        rows += [
            ("layer", short(layer.digest), layer.media_type.rpartition("/")[2], f"{layer.size:,}")
            for layer in manifest.layers
        ]
    output.print_table(("PART", "DIGEST", "TYPE", "BYTES"), rows[:MAX_ROWS], empty="the layout is empty")
    if len(rows) > MAX_ROWS:
        output.print_line(f"and {len(rows) - MAX_ROWS} more; --json has them")
    return 0


def run_sign(args: argparse.Namespace) -> int:
    result = link.call(args, "image.sign", source=_absolute(args.image), name=args.name)
    return _shown(
        args, result, [("signed", result["image"]), ("key", f"{result['key']} {result['key_id'][:16]}…")]
    )


def run_pin(args: argparse.Namespace) -> int:
    result = link.call(
        args, "image.pin", source=_absolute(args.image), name=args.name, accept_moved=args.accept_moved
    )
    return _shown(args, result, [("pinned", result["name"]), ("image", result["image"])])


def run_history(args: argparse.Namespace) -> int:
    """Exit 1 when the tag has moved."""
    result = link.call(args, "image.history", name=args.name, look=args.look, **access(args))
    if args.json:
        output.print_json(result)
    else:
        output.print_table(
            ("TIME", "HOW", "BY", "DIGEST"),
            [
                (
                    row["time"][:19],
                    row["how"],
                    row["by"],
                    f"{short(row['digest'])}{' MOVED' if row['moved_from'] else ''}",
                )
                for row in result["seen"]
            ],
            empty="never pushed, pulled or pinned from here",
        )
        for row in result["moved"]:
            output.print_pairs([("IMG-TAG-MOVED", f"{row['moved_from']} -> {row['digest']}")])
    return 1 if result["moved"] else 0


def _shown(args: argparse.Namespace, result: dict[str, Any], pairs: list[tuple[str, str]]) -> int:
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs([*pairs, ("audit", result["audit_id"])])
    return 0


def _image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="oci:PATH[@sha256:…]", help="a layout: a directory or a tar of one")


def _absolute(text: str) -> str:
    """The server has another working directory."""
    rest = text.removeprefix("oci:")
    return f"oci:{os.path.abspath(rest)}" if rest else text


def _keys(args: argparse.Namespace) -> list[PublicKey]:
    data = link.data_directory(args)
    return load_keys(args.key, data if data.is_dir() else None)
