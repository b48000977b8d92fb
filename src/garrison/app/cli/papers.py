"""`garrison model bom|provenance|attach`: what is signed beside a version."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.artifacts.bom_check import check_bom
from garrison.core.digest import short
from garrison.core.errors import Usage

_PARTS = {
    "data": "data",
    "preprocessing": "preprocessing",
    "run": "training runs",
    "evaluation": "evaluations",
    "base_model": "base model",
    "code": "code",
}
MAX_SHOWN = 20  # materials of one part; --json lists them all


def add(verbs: Any) -> None:
    """The sub-commands, below `garrison model`."""
    bom = verbs.add_parser(
        "bom",
        help="the signed bill of materials (CycloneDX, SPDX)",
        epilog="examples:\n  garrison model bom fraud@3 --check\n"
        "  garrison model bom fraud@3 --format spdx --out fraud.spdx.json",
    )
    bom.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
    formats = ("cyclonedx", "cyclonedx-1.7", "spdx")
    bom.add_argument(
        "--format", choices=formats, default=formats[0], help="default: CycloneDX 1.6, as signed"
    )
    bom.add_argument("--check", action="store_true", help="validate it against the standard's own schema")
    bom.add_argument("--out", metavar="FILE", help="write the document to a file that does not exist yet")
    bom.set_defaults(run=run_bom)
    provenance = verbs.add_parser(
        "provenance",
        help="where a version comes from: four parts, digests, gaps",
        epilog="example: garrison model provenance fraud@3",
    )
    provenance.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
    provenance.set_defaults(run=run_provenance)
    attach = verbs.add_parser(
        "attach",
        help="attach provenance of another builder, or a lineage",
        epilog="examples:\n  garrison model attach fraud@3 --provenance fraud.intoto.json\n"
        "  garrison model attach fraud@3 --lineage lineage.toml",
    )
    attach.add_argument("ref", metavar="NAME@VERSION", help="such as fraud@3")
    what = attach.add_mutually_exclusive_group(required=True)
    what.add_argument("--provenance", metavar="FILE", help="DSSE envelope signed by a trusted builder")
    what.add_argument("--lineage", metavar="FILE", help="lineage file: garrison lineage template prints one")
    attach.set_defaults(run=run_attach)


def run_bom(args: argparse.Namespace) -> int:
    result = link.call(args, "model.bom", ref=args.ref, format=args.format)
    document = result["document"]
    judged = check_bom(document, args.format) if args.check else ""
    if args.out:
        _write(Path(args.out), document)
    if not args.check and not args.out:
        output.print_json(result if args.json else document)
        return 0
    if args.json:
        output.print_json(
            {key: value for key, value in result.items() if key != "document"} | {"judged_by": judged}
        )
        return 0
    output.print_pairs(
        [
            ("bom", f"{result['ref']}   {result['digest']}"),
            *([("valid", judged)] if judged else []),
            ("signed", f"{result['signed']}, by key {result['key_id'][:16]}…"),
            ("attached", f"{result['label']}   {short(result['sha256'])}"),
            *([("written", args.out)] if args.out else []),
        ]
    )
    return 0


def run_provenance(args: argparse.Namespace) -> int:
    result = link.call(args, "model.provenance", ref=args.ref)
    if args.json:
        output.print_json(result)
        return 0
    show_provenance(result)
    return 0


def show_provenance(result: dict[str, Any]) -> None:
    """The four parts as a tree with digests; a part that nobody told is a gap."""
    output.print_line(f"{result['ref']}   {result['digest']}")
    for part in result["parts"]:
        rows = part["materials"]
        state = "GAP: not told" if not rows else "GAP: not hashed" if part["gap"] else f"{len(rows)}"
        output.print_line(f"├─ {_PARTS[part['part']]:<14} {state}")
        for row in rows[:MAX_SHOWN]:
            output.print_line(
                f"│    {output.fitted(output.visible(row['name']), 40):<40}  {_digest(row['digests'])}"
            )
        if len(rows) > MAX_SHOWN:
            output.print_line(f"│    and {len(rows) - MAX_SHOWN} more; --json lists them")
    output.print_line(f"└─ {'gaps':<14} {', '.join(result['gaps']) or 'none'}")
    output.print_pairs(
        [
            ("level", f"SLSA Build L{result['level']}: {result['because']}"),
            ("builder", result["builder"]),
            *(
                ("builder", f"{one['builder']}   its own signature, {one['covered']} files")
                for one in result["other_builders"]
            ),
            ("signed", f"{result['label']}   key {result['key_id'][:16]}…"),
        ]
    )


def run_attach(args: argparse.Namespace) -> int:
    given = {
        key: link.absolute(getattr(args, key)) for key in ("provenance", "lineage") if getattr(args, key)
    }
    result = link.call(args, "model.attach", ref=args.ref, **given)
    if args.json:
        output.print_json(result)
        return 0
    pairs = [("attached", f"{result['label']} to {result['ref']}   {short(result['digest'])}")]
    if "builder" in result:
        pairs += [
            ("builder", result["builder"]),
            ("covers", f"{result['covered']} of {result['files']} files"),
        ]
    output.print_pairs([*pairs, ("audit", result["audit_id"])])
    return 0


def _digest(digests: dict[str, str]) -> str:
    if not digests:
        return "no digest"
    name = "sha256" if "sha256" in digests else min(digests)
    return f"{name}:{digests[name][:4]}…{digests[name][-4:]}"


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        with path.open("x", encoding="utf-8") as stream:
            json.dump(document, stream, indent=2)
            stream.write("\n")
    except OSError as error:
        raise Usage(
            "BOM-OUT", f"cannot write {path}: {error.strerror}", fix="name a file that does not exist yet"
        ) from error
