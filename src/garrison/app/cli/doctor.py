"""`garrison doctor`: what this machine can do for Garrison, and what is left over in a data directory.

Needs no server and changes nothing.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison.app.cli import output
from garrison.app.cli.link import data_directory
from garrison.core.errors import Refused
from garrison.runtime.machine import Examination, examine
from garrison.runtime.sandboxes.ladder import DEFAULT_LEVEL
from garrison.storage.database_record import FILE, is_begun, read_record
from garrison.storage.postgres_address import parse
from garrison.trust.installation import examine as examine_installation

if TYPE_CHECKING:
    from garrison.artifacts.left_over import LeftOver

_SIGNS = {True: "ok", False: "MISSING", None: ""}


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="what this machine offers and lacks, and what is left over in the data directory",
        epilog="examples:\n  garrison doctor --json\n  garrison doctor --self\n\n"
        "Exit 1: things in the data directory belong to nothing, or are not there; with --self: a file of the "
        "installation is not what was installed. Exit 3: the default isolation does not work here.",
    )
    parser.add_argument(
        "--self",
        dest="own",
        action="store_true",
        help="is this Garrison the one that was installed? Every file of it and of what it needs is hashed",
    )
    parser.add_argument(
        "--wheel",
        type=Path,
        metavar="FILE",
        help="with --self: judge by this wheel, not by the installer's record",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when all is well, 1 for what is left over, 3 when the default isolation level does not work here."""
    if args.own or args.wheel is not None:
        return _run_self(args)
    found, data = examine(), data_directory(args)
    left = _left_over(data)
    if args.json:
        more: dict[str, Any] = {"data": str(data), "left_over": _left_json(left), "sinks": _sinks(data)}
        more["second_tier"] = _second_tier(data)
        more["database"] = _database(data)
        output.print_json({**_as_json(found), **more})
    else:
        _show(found)
        _show_left(data, left)
        _show_database(_database(data))
        _show_sinks(_sinks(data))
        _show_second_tier(_second_tier(data))
    return 1 if left else 0 if _default_works(found) else 3


def _run_self(args: argparse.Namespace) -> int:
    """Raises `Refused` SELF-TAMPERED, and as `examine`."""
    found = examine_installation(args.wheel)
    shown = {"packages": found.packages, "files": found.files, "record": found.record}
    if found.findings:
        first = found.findings[0]
        more = f", and {len(found.findings) - 1} more" if len(found.findings) > 1 else ""
        raise Refused(
            "SELF-TAMPERED", f"{first.message}{more}", fix=first.fix, findings=found.findings, evidence=shown
        )
    if args.json:
        output.print_json({"schema": "garrison.doctor-self/1", "verdict": "as installed", **shown})
        return 0
    output.print_pairs(
        [
            ("installed", f"{found.files:,} files of {found.packages} packages, all as recorded"),
            ("judged by", str(args.wheel) if args.wheel else "the installer's own records beside the files"),
            ("record", found.record),
        ]
    )
    return 0


def _left_over(data: Path) -> Sequence[LeftOver] | None:
    """None when there is no data directory. Raises `Undecided` DB-UNAVAILABLE for one that cannot be read."""
    if not is_begun(data):
        return None
    from garrison.artifacts.left_over import look  # SQLAlchemy: 260 ms, extra server

    return look(data)


def _database(data: Path) -> dict[str, str] | None:
    """Where the records are; None without a data directory. It was read just before."""
    if not is_begun(data):
        return None
    record = read_record(data)
    if record is None:
        return {"kind": "sqlite", "place": str(data / FILE)}
    return {"kind": "postgresql", "place": parse(record.address).place}


def _show_database(told: dict[str, str] | None) -> None:
    if told is not None:
        output.print_line(output.visible(f"records in {told['kind']}: {told['place']}"))


def _sinks(data: Path) -> list[dict[str, Any]]:
    """Receivers of events and how far each is behind; none without a data directory."""
    if not is_begun(data):
        return []
    from garrison.app.cli.posture import waiting_sinks  # SQLAlchemy: 260 ms, extra server

    return waiting_sinks(data)


def _second_tier(data: Path) -> dict[str, str] | None:
    """Who is asked where the first classifier is in doubt, and what to type; None without a data directory."""
    if not is_begun(data):
        return None
    if find_spec("onnxruntime") is None or find_spec("tokenizers") is None:
        return {"state": "cannot run here", "next": "pip install 'garrison[runtime]'"}
    from garrison.app.cli.posture import second_tier_named  # SQLAlchemy: 260 ms, extra server

    if (named := second_tier_named(data)) is not None:
        state = f"is {', '.join(named)}" if named else "is off"
        return {"state": state, "next": "garrison guard tier2 show"}
    return {"state": "is not asked by the gateway", "next": "garrison guard tier2 set"}


def _show_second_tier(told: dict[str, str] | None) -> None:
    if told is not None:
        output.print_line(output.visible(f"second classifier {told['state']}: {told['next']}"))


def _show_sinks(sinks: Sequence[dict[str, Any]]) -> None:
    for one in sinks:
        state = f"{one['waiting']} events wait" if one["waiting"] else "has every event"
        since = f", the oldest since {one['since']}" if one["since"] else ""
        output.print_line(output.visible(f"sink {one['name']}: {state}{since} {one['code']}".rstrip()))


def _left_json(left: Sequence[LeftOver] | None) -> list[dict[str, object]] | None:
    return None if left is None else [one.as_json() for one in left]


def _show_left(data: Path, left: Sequence[LeftOver] | None) -> None:
    if left is None:
        return
    output.print_line()
    output.print_line(
        output.visible(f"data directory {data}: {'nothing left over' if not left else 'left over'}")
    )
    for one in left:
        more = f" and {one.count - len(one.names)} more" if one.count > len(one.names) else ""
        output.print_pairs(
            [("found", f"{one.count} {one.kind}"), ("", ", ".join(one.names) + more), ("next", one.fix)]
        )
    if left and (data / "run" / "ready.json").is_file():
        note = "note: a server is running; what it is working on right now is counted too"
        output.print_line(textwrap.fill(note, output.WIDTH))


def _default_works(found: Examination) -> bool:
    return any(level.ok for level in found.levels if level.level == DEFAULT_LEVEL)


def _as_json(found: Examination) -> dict[str, Any]:
    return {
        "schema": "garrison.doctor/1",
        "features": [feature.as_json() for feature in found.features],
        "levels": [
            {"level": level.level, "ok": level.ok, "missing": list(level.missing), "notes": list(level.notes)}
            for level in found.levels
        ],
        "default": DEFAULT_LEVEL,
        "highest": found.highest,
        "contacts": [],
    }


def _show(found: Examination) -> None:
    for feature in found.features:
        output.print_line(
            output.visible(f"{feature.name:<11} {feature.value:<40} {_SIGNS[feature.ok]}".rstrip())
        )
        if feature.ok is False:
            output.print_line(f"{'':<11} {output.visible(feature.meaning)}")
    output.print_line()
    output.print_table(
        ("ISOLATION", "HERE", "MISSING"),
        [(level.level, "yes" if level.ok else "no", "; ".join(level.missing)) for level in found.levels],
        empty="no levels",
    )
    output.print_line()
    output.print_line(f"highest level here: {found.highest or 'none'}   default: {DEFAULT_LEVEL}")
    if found.next is not None:
        output.print_line(f"for {found.next.level}: {'; '.join(found.next.missing)}")
    for note in dict.fromkeys(note for level in found.levels for note in level.notes):
        output.print_line(textwrap.fill(f"note: {note}", output.WIDTH, subsequent_indent="  "))
