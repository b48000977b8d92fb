"""`garrison model …`, `garrison publish`: versions in the registry."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.core.decision import Tier
from garrison.core.digest import short
from garrison.trust.stray_keys import refuse_offered_keys

_PATH = 44  # columns left for a path beside its size and digest


def add(subparsers: Any) -> None:
    model = subparsers.add_parser("model", help="publish, list, show, pull, verify and retire versions")
    verbs = model.add_subparsers(dest="verb", required=True, metavar="VERB")
    _publish_arguments(verbs.add_parser("publish", help="scan, sign and store a directory as NAME@VERSION"))
    _publish_arguments(subparsers.add_parser("publish", help="the same as garrison model publish"))
    for name, group in (("list", verbs), ("show", verbs), ("verify", verbs), ("retire", verbs)):
        parser = group.add_parser(name, help=_HELP[name], epilog=_EXAMPLE[name])
        if name == "list":
            parser.add_argument("name", nargs="?", help="only versions of this name")
        else:
            parser.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
        parser.set_defaults(run=_RUN[name])
    pull = verbs.add_parser(
        "pull",
        help="write a verified copy of a version to a directory",
        epilog="example: garrison model pull fraud@3 ./fraud",
    )
    pull.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
    pull.add_argument("destination", nargs="?", help="directory to make")
    pull.add_argument("--repair", action="store_true", help="lay the stored files out again instead")
    pull.set_defaults(run=run_pull)


def run_publish(args: argparse.Namespace) -> int:
    refuse_offered_keys(os.environ, Path.cwd())
    result = link.call(
        args,
        "model.publish",
        source=link.absolute(args.path),
        ref=args.ref,
        owner=args.owner,
        tier=args.tier,
    )
    if args.json:
        output.print_json(result)
        return 0
    stored = "unchanged: these bytes are published already" if result["unchanged"] else "immutable"
    pending = result["approvals_needed"]
    output.print_pairs(
        [
            ("scanned", f"{result['files']} files, {output.megabytes(result['size'])}   {result['verdict']}"),
            ("signed", f"key {result['key']}   {short(result['digest'])}   OMS v1.0 + release statement"),
            ("stored", f"{result['ref']}   {stored}"),
            ("files", result["path"]),
            ("bundle", result["bundle"]),
            ("pending", f"{pending} approval{'s' if pending != 1 else ''} needed (tier: {result['tier']})")
            if pending
            else ("approved", "on the approved list"),
            (
                "next",
                f"garrison --as SOMEONE approve {result['ref']}"
                if pending
                else f"garrison serve {result['ref']}",
            ),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "model.list", name=args.name)
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("VERSION", "STATE", "TIER", "OWNER", "SIZE", "DIGEST"),
        [
            (m["ref"], m["state"], m["tier"], m["owner"], output.megabytes(m["size"]), short(m["digest"]))
            for m in result["models"]
        ],
        empty="no versions yet: garrison model publish DIR --as NAME@1 --owner WHO --tier internal",
    )
    return 0


def run_show(args: argparse.Namespace) -> int:
    result = link.call(args, "model.show", ref=args.ref)
    if args.json:
        output.print_json(result)
        return 0
    approvers = ", ".join(item["approver"] for item in result["approvals"]) or "nobody yet"
    output.print_pairs(
        [
            ("version", result["ref"]),
            ("state", result["state"]),
            ("digest", result["digest"]),
            ("tier", result["tier"]),
            ("owner", result["owner"]),
            ("published", f"{output.moment(result['created'])}   by {result['publisher']}"),
            ("approved", f"{approvers} ({result['approvals_needed']} needed)"),
            ("path", result["path"]),
        ]
    )
    for entry in result["manifest"]:
        output.print_line(
            f"  {entry['size']:>13,}  {short(entry['digest'])}  {output.fitted(output.visible(entry['path']), _PATH)}"
        )
    return 0


def run_verify(args: argparse.Namespace) -> int:
    result = link.call(args, "model.verify", ref=args.ref)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("verified", f"{result['ref']}   {result['digest']}"),
            ("key", result["key_id"]),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_retire(args: argparse.Namespace) -> int:
    result = link.call(args, "model.retire", ref=args.ref)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [("retired", f"{result['ref']}: it will not load any more"), ("audit", result["audit_id"])]
    )
    return 0


def run_pull(args: argparse.Namespace) -> int:
    destination = str(Path(args.destination or args.ref.replace("@", "-")).absolute())
    result = link.call(args, "model.pull", ref=args.ref, destination=destination, repair=args.repair)
    if args.json:
        output.print_json(result)
        return 0
    verb = "repaired" if args.repair else "pulled"
    output.print_pairs(
        [
            (verb, f"{result['ref']}   {short(result['digest'])}"),
            ("to", result["path"]),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: garrison model publish ./minilm --as support-search@1 --owner dana --tier internal"
    )
    parser.add_argument("path", metavar="DIR", help="the model's directory")
    parser.add_argument(
        "--as", dest="ref", required=True, metavar="NAME[@VERSION]", help="without a version: the next"
    )
    parser.add_argument("--owner", required=True, help="who answers for the model")
    parser.add_argument(
        "--tier", required=True, choices=[tier.value for tier in Tier], help="sensitivity of its data"
    )
    parser.set_defaults(run=run_publish)


_HELP = {
    "list": "list versions",
    "show": "show one version with its files",
    "verify": "check a stored version: files, signatures",
    "retire": "withdraw a version for good",
}
_EXAMPLE = {
    "list": "example: garrison model list fraud",
    "show": "example: garrison model show fraud@3",
    "verify": "example: garrison model verify fraud@3",
    "retire": "example: garrison model retire fraud@2",
}
_RUN = {"list": run_list, "show": run_show, "verify": run_verify, "retire": run_retire}
