"""`garrison model push` and `model pull oci://…`: versions in other people's OCI registries."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from garrison.app.cli import image, link, output
from garrison.core.digest import short


def add_push(verbs: Any) -> None:
    push = verbs.add_parser(
        "push",
        help="write an approved version to an OCI registry, signatures beside it",
        epilog="example: garrison model push fraud@3 oci://registry.example/models/fraud:3 "
        "--auth ~/.docker/config.json",
    )
    push.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
    push.add_argument("target", metavar="oci://HOST/REPOSITORY[:TAG]", help="default tag: the version")
    _common(push)
    push.set_defaults(run=run_push)


def add_pull(pull: argparse.ArgumentParser) -> None:
    pull.add_argument("--expect", metavar="NAME@VERSION", help="what an address in a registry has to hold")
    _common(pull)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept-moved", action="store_true", help="the tag may mean another digest than before"
    )
    image.add_access(parser)


def run_push(args: argparse.Namespace) -> int:
    result = link.call(
        args,
        "model.push",
        ref=args.ref,
        target=args.target,
        accept_moved=args.accept_moved,
        **image.access(args),
    )
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("pushed", f"{result['ref']}   {output.megabytes(result['sent'])} sent"),
            ("pinned", result["pinned"]),
            ("signed", f"{len(result['signatures'])} signatures beside it, found by {result['referrers']}"),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_fetch(args: argparse.Namespace) -> int:
    name = args.ref.rpartition("/")[2].partition("@")[0].partition(":")[0]
    destination = str(Path(args.destination or name).absolute())
    result = link.call(
        args,
        "model.fetch",
        source=args.ref,
        destination=destination,
        ref=args.expect,
        accept_moved=args.accept_moved,
        **image.access(args),
    )
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("pulled", f"{result['ref']}   {short(result['digest'])}   signed by {result['key_id'][:16]}…"),
            ("manifest", result["manifest"]),
            ("to", result["path"]),
            ("audit", result["audit_id"]),
        ]
    )
    return 0
