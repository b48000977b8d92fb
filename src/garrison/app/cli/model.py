"""`garrison model …`, `garrison publish`: versions in the registry."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output, papers, remote, versions
from garrison.core.decision import Tier
from garrison.core.digest import short
from garrison.trust.stray_keys import refuse_offered_keys

_PATH = 44  # columns left for a path beside its size and digest


def add(subparsers: Any) -> None:
    model = subparsers.add_parser("model", help="publish, list, show, pull, verify and retire versions")
    verbs = model.add_subparsers(dest="verb", required=True, metavar="VERB")
    _publish_arguments(verbs.add_parser("publish", help="scan, sign and store a directory as NAME@VERSION"))
    _publish_arguments(subparsers.add_parser("publish", help="the same as garrison model publish"))
    versions.add(verbs)
    papers.add(verbs)
    for name in ("show", "verify", "retire"):
        parser = verbs.add_parser(name, help=_HELP[name], epilog=_EXAMPLE[name])
        parser.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
        if name == "show":
            parser.add_argument("--provenance", action="store_true", help="where it comes from instead")
        elif name == "verify":
            parser.add_argument("--slsa-builder", metavar="ID", help="the builder that has to have made it")
        parser.set_defaults(run=_RUN[name])
    pull = verbs.add_parser(
        "pull",
        help="write a verified copy of a version to a directory",
        epilog="example: garrison model pull fraud@3 ./fraud",
    )
    pull.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3, or oci://HOST/REPOSITORY@DIGEST")
    pull.add_argument("destination", nargs="?", help="directory to make")
    pull.add_argument("--repair", action="store_true", help="lay the stored files out again instead")
    remote.add_pull(pull)
    pull.set_defaults(run=run_pull)
    remote.add_push(verbs)
    again = verbs.add_parser(
        "resign",
        help="sign the same bytes anew, after a key was revoked or replaced",
        epilog="example: garrison model resign fraud@3\n\nIts approvals end: have it approved again.",
    )
    again.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
    again.add_argument(
        "--from", dest="source", metavar="DIR", help="the publisher's own copy, to compare with the ledger"
    )
    again.set_defaults(run=run_resign)


def run_publish(args: argparse.Namespace) -> int:
    refuse_offered_keys(os.environ, Path.cwd())
    result = link.call(
        args,
        "model.publish",
        source=args.path if "://" in args.path else link.absolute(args.path),
        ref=args.ref,
        owner=args.owner,
        tier=args.tier,
        lineage=link.absolute(args.lineage) if args.lineage else None,
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


def run_show(args: argparse.Namespace) -> int:
    if args.provenance:
        return papers.run_provenance(args)
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
            *(("gap", f"RED  {gap}") for gap in result["answering"]["gaps"]),
            ("published", f"{output.moment(result['created'])}   by {result['publisher']}"),
            ("approved", f"{approvers} ({result['approvals_needed']} needed)"),
            ("path", result["path"]),
            ("lineage", f"gaps: {', '.join(result['gaps'])}" if result["gaps"] else "no gaps"),
            *(
                ("waiver", f"{one['path']}   {one['rule_id']}   until {one['until']}   {one['reason']}")
                for one in result["waivers"]
            ),
            *(("pushed", f"{one['tag']}   {short(one['digest'])}") for one in result["images"]),
        ]
    )
    for one in result["attachments"]:
        output.print_pairs([("attached", f"{one['label']}   {short(one['sha256'])}")])
        output.print_line(f"{'':<12}{output.visible(one['predicate_type'])}")
    for entry in result["manifest"]:
        output.print_line(
            f"  {entry['size']:>13,}  {short(entry['digest'])}  {output.fitted(output.visible(entry['path']), _PATH)}"
        )
    return 0


def run_verify(args: argparse.Namespace) -> int:
    result = link.call(args, "model.verify", ref=args.ref, slsa_builder=args.slsa_builder)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("verified", f"{result['ref']}   {result['digest']}"),
            ("key", result["key_id"]),
            ("attached", ", ".join(one["label"] for one in result["attachments"]) or "nothing"),
            *([("builder", result["builder"])] if result["builder"] else []),
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


def run_resign(args: argparse.Namespace) -> int:
    source = link.absolute(args.source) if args.source else None
    result = link.call(args, "model.resign", ref=args.ref, source=source)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("signed", f"{result['ref']}   {short(result['digest'])}   by {result['key']}"),
            ("state", "pending: earlier approvals ended"),
            ("next", result["next"]),
            ("audit", result["audit_id"]),
        ]
    )
    return 0


def run_pull(args: argparse.Namespace) -> int:
    if args.ref.startswith("oci://"):
        return remote.run_fetch(args)
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
    parser.add_argument("path", metavar="DIR", help="the model's directory, or s3://bucket/prefix")
    parser.add_argument(
        "--as", dest="ref", required=True, metavar="NAME[@VERSION]", help="without a version: the next"
    )
    parser.add_argument("--owner", help="who answers for the model (default: who did for the version before)")
    parser.add_argument(
        "--tier",
        choices=[tier.value for tier in Tier],
        help="sensitivity of its data (default: as for the version before)",
    )
    parser.add_argument(
        "--lineage", metavar="FILE", help="how it was made: garrison lineage template prints such a file"
    )
    parser.set_defaults(run=run_publish)


_HELP = {
    "show": "show one version with its files",
    "verify": "check a stored version: files, signatures",
    "retire": "withdraw a version for good",
}
_EXAMPLE = {
    "show": "example: garrison model show fraud@3",
    "verify": "example: garrison model verify fraud@3",
    "retire": "example: garrison model retire fraud@2",
}
_RUN = {"show": run_show, "verify": run_verify, "retire": run_retire}
