"""`garrison model list` and `garrison model diff`: what there is, and how two versions differ."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import link, output
from garrison.core.decision import Tier
from garrison.core.digest import short

MAX_SHOWN = 12  # lines of one part; --json has all of them
_STATES = ("pending", "approved", "retired", "edited")
_SIGNS = {"added": "+", "removed": "-", "content": "~", "mode": "~", "renamed": ">"}


def add(verbs: Any) -> None:
    """The commands are verbs of `garrison model`."""
    listing = verbs.add_parser(
        "list",
        help="list and search versions",
        epilog="examples:\n  garrison model list fraud\n"
        '  garrison model list --state approved --tier internal --search "safetensors dana"',
    )
    listing.add_argument("name", nargs="?", help="only versions of this name")
    listing.add_argument("--state", action="append", choices=_STATES, help="may be given more than once")
    listing.add_argument("--tier", action="append", choices=[t.value for t in Tier], help="the same")
    listing.add_argument("--owner", default="", metavar="WHO", help="a person or a group")
    listing.add_argument(
        "--search",
        default="",
        metavar="TEXT",
        help="words in names, files, formats, findings, globals, licences, people",
    )
    listing.set_defaults(run=run_list)
    diff = verbs.add_parser(
        "diff",
        help="what is different between two versions",
        epilog="example: garrison model diff fraud@2 fraud@3",
    )
    diff.add_argument("ref", metavar="NAME@VERSION", help="the one before")
    diff.add_argument("to", metavar="NAME@VERSION", help="the one after")
    diff.set_defaults(run=run_diff)


def run_list(args: argparse.Namespace) -> int:
    result = link.call(
        args,
        "model.list",
        name=args.name,
        states=args.state or [],
        tiers=args.tier or [],
        owner=args.owner,
        search=args.search,
    )
    if args.json:
        output.print_json(result)
        return 0
    is_asking = args.name or args.state or args.tier or args.owner or args.search
    output.print_table(
        ("VERSION", "STATE", "TIER", "OWNER", "SIZE", "DIGEST"),
        [
            (m["ref"], m["state"], m["tier"], m["owner"], output.megabytes(m["size"]), short(m["digest"]))
            for m in result["models"]
        ],
        empty="no such versions: garrison model list shows all that you may see"
        if is_asking
        else "no versions yet: garrison model publish DIR --as NAME@1 --owner WHO --tier internal",
    )
    return 0


def run_diff(args: argparse.Namespace) -> int:
    result = link.call(args, "model.diff", ref=args.ref, to=args.to)
    if args.json:
        output.print_json(result)
        return 0
    before, after = result["before"], result["after"]
    output.print_pairs(
        [
            ("before", f"{before['ref']}   {before['digest']}"),
            ("after", f"{after['ref']}   {after['digest']}"),
            *((fact["name"], f"{fact['before']} -> {fact['after']}") for fact in result["facts"]),
            ("bytes", f"{result['bytes']:+,}" if not result["same_bytes"] else "the same bytes"),
        ]
    )
    _part("files", [_file_line(change) for change in result["files"]])
    _part("scan", [line for change in result["scan"]["changes"] for line in _scan_lines(change)])
    seen = result["seen"]
    _part("globals", [*(f"+ {one}" for one in seen["come"]), *(f"- {one}" for one in seen["gone"])])
    for kind, lines in result["papers"].items():
        _part(kind, [_paper_line(line) for line in lines])
    return 0


def _part(name: str, lines: list[str]) -> None:
    output.print_line()
    output.print_line(f"{output.visible(name)}: {'no difference' if not lines else ''}".rstrip())
    for line in lines[:MAX_SHOWN]:
        output.print_line("  " + output.fitted(output.visible(line), output.WIDTH - 2))
    if len(lines) > MAX_SHOWN:
        output.print_line(f"  and {len(lines) - MAX_SHOWN} more; --json has them")


def _file_line(change: dict[str, Any]) -> str:
    one, other = change["before"], change["after"]
    sign = _SIGNS[change["kind"]]
    if change["kind"] == "renamed":
        return f"{sign} {change['was']} is now {change['path']}"
    if change["kind"] == "mode":
        return f"{sign} {change['path']}  mode {one['mode']} -> {other['mode']}"
    if one and other:
        grown = other["size"] - one["size"]
        return f"{sign} {change['path']}  {one['size']:,} -> {other['size']:,} bytes ({grown:+,})"
    entry = other or one
    return f"{sign} {change['path']}  {entry['size']:,} bytes"


def _scan_lines(change: dict[str, Any]) -> list[str]:
    lines = [f"+ {change['path']}: {line}" for line in change["come"]]
    lines += [f"- {change['path']}: {line}" for line in change["gone"]]
    if change["before"] and change["after"] and change["before"] != change["after"]:
        lines.append(f"~ {change['path']}: {change['before']} -> {change['after']}")
    return lines


def _paper_line(line: dict[str, str]) -> str:
    if not line["at"]:
        return line["after"]
    if not line["before"]:
        return f"+ {line['at']}  {line['after']}"
    if not line["after"]:
        return f"- {line['at']}  {line['before']}"
    return f"~ {line['at']}  {line['before']} -> {line['after']}"
