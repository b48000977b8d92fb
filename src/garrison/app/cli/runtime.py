"""`garrison runtime probe`: try to break out of a sandbox and show what was open; `matrix`: the same for all levels.

With a server on the data directory the probe runs there and its result is an event; else it runs here.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from garrison.app.cli import link, output
from garrison.app.parser_cell import ParserCell
from garrison.app.probes import matrix_json, read_matrix
from garrison.app.sandbox_page import page, replaced
from garrison.confine.profiles import PROFILES
from garrison.confine.seccomp import MACHINES, filter_program
from garrison.core.errors import Usage
from garrison.runtime.probe import ATTACKS, CONTROL_MINIMUM, Matrix, control, probe
from garrison.runtime.sandboxes.ladder import DEFAULT_LEVEL, LEVELS, availability, sandbox_for
from garrison.runtime.server_profiles import PROFILES as SERVERS
from garrison.runtime.server_profiles import as_toml
from garrison.storage.local import explained

MEANING = "stopped: the try failed   OPEN: it succeeded   given: it succeeds by intention"
TARGETS = ("servers", "tools")


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "runtime",
        help="look at the sandboxes that model servers run in",
        epilog="example: garrison runtime probe --isolation bwrap",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    leaf = verbs.add_parser(
        "probe",
        help="try to break out of a sandbox; exit 1 when a try succeeds",
        epilog="example: garrison runtime probe --isolation bwrap --hostile",
    )
    leaf.add_argument(
        "--isolation", metavar="LEVEL", default=DEFAULT_LEVEL, help=f"one of {', '.join(LEVELS)}"
    )
    leaf.add_argument(
        "--target",
        choices=TARGETS,
        default="servers",
        help="the sandbox of model servers, or that of the parsers that read untrusted files",
    )
    leaf.add_argument(
        "--hostile", action="store_true", help="sum up as the twelve attacks of a hostile model"
    )
    leaf.add_argument(
        "--no-control",
        action="store_true",
        help="leave out the run without a sandbox",
    )
    leaf.set_defaults(run=run)
    table = verbs.add_parser(
        "matrix",
        help="probe every level that works here and write the table of what came of it",
        epilog="example: garrison runtime matrix --write docs/isolation.md",
    )
    table.add_argument(
        "--write", metavar="FILE", help="replace the table in this page instead of printing it"
    )
    table.add_argument(
        "--isolation",
        metavar="LEVEL",
        action="append",
        help="only this level; may be given again (default: all)",
    )
    table.set_defaults(run=run_matrix)
    filters = verbs.add_parser(
        "filters",
        help="the digests of the system call filters, or the filters themselves as BPF",
        epilog="example: garrison runtime filters --write filters",
    )
    filters.add_argument("--write", metavar="DIR", help="write one file for each machine and profile")
    filters.set_defaults(run=run_filters)
    servers = verbs.add_parser(
        "servers",
        help="profiles of servers of other makers, as the lines that declare them in servers.toml",
        epilog="example: garrison runtime servers vllm",
    )
    servers.add_argument(
        "profile", nargs="?", choices=list(SERVERS), help="print this one (default: list them)"
    )
    servers.set_defaults(run=run_servers)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when nothing is open but what is given; 1 otherwise. Raises ISO-UNKNOWN and ISO-UNAVAILABLE."""
    level = "tools" if args.target == "tools" else args.isolation
    wants_control = not args.no_control
    if (link.data_directory(args) / "run" / "control.sock").exists():
        told = link.call(args, "runtime.probe", isolation=level, control=wants_control)
    else:
        matrix = probe(ParserCell() if level == "tools" else sandbox_for(level))
        told = matrix_json(matrix, control() if os.geteuid() == 0 and wants_control else None)
    if args.json:
        output.print_json(told)
    elif args.hostile:
        _show_attacks(*read_matrix(told))
    else:
        _show_matrix(*read_matrix(told))
    if told.get("audit_id") and not args.json:
        output.print_line(f"recorded: {told['audit_id']}")
    return 1 if told["unwanted"] else 0


def run_matrix(args: argparse.Namespace) -> int:
    """Needs no server. Raises ISO-UNKNOWN, ISO-UNAVAILABLE, and `Usage` PATH-FILE for a page without the marks."""
    path = None if args.write is None else Path(args.write)
    try:
        before = "" if path is None else path.read_text("utf-8")
        if path is not None:
            replaced(before, "")
    except (OSError, ValueError) as error:
        raise Usage(
            "PATH-FILE",
            f"{args.write} is no page with the marks of the table: {error}",
            fix="give docs/isolation.md, or leave --write out",
        ) from None
    levels = args.isolation or [level.level for level in availability() if level.ok]
    found = {level: probe(sandbox_for(level)) for level in levels}
    found["tools"] = probe(ParserCell())
    text = page(found, availability(), control() if os.geteuid() == 0 else None)
    if path is None:
        output.print_line(text)
    else:
        path.write_text(replaced(before, text), "utf-8")
    return 1 if any(matrix.unwanted for matrix in found.values()) else 0


def run_filters(args: argparse.Namespace) -> int:
    """Every filter of this release: classic BPF, an array of struct sock_filter."""
    made, rows = {}, []
    for machine in MACHINES:
        for profile in PROFILES:
            for creates_files in (True, False):
                name = profile.name if creates_files else f"{profile.name}-without-files"
                data = filter_program(machine, profile, creates_files=creates_files)
                file = f"{name}.{machine.name}.bpf"
                made[file] = data
                digest = hashlib.sha256(data).hexdigest()
                rows.append({"file": file, "profile": name, "machine": machine.name, "sha256": digest})
    if args.write is not None:
        directory = Path(args.write)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for name, data in made.items():
                (directory / name).write_bytes(data)
        except OSError as error:
            raise explained(error) from error
    if args.json:
        output.print_json({"schema": "garrison.filters/1", "filters": rows})
    else:
        output.print_table(
            ("PROFILE", "MACHINE", "SHA-256"),
            [(row["profile"], row["machine"], row["sha256"]) for row in rows],
            empty="none",
        )
    return 0


def _show_matrix(matrix: Matrix, seen: Matrix | None) -> None:
    without = {} if seen is None else {attempt.check: attempt.open for attempt in seen.attempts}
    output.print_table(
        ("TRY", f"IN {matrix.level.upper()}", "BY", "WITHOUT"),
        [
            (
                attempt.check,
                "stopped" if not attempt.open else "given" if attempt.check in matrix.given else "OPEN",
                attempt.why,
                {True: "open", False: "stopped", None: "-"}[without.get(attempt.check)],
            )
            for attempt in matrix.attempts
        ],
        empty="nothing was tried",
    )
    output.print_line()
    _show_sum(matrix, seen)


def _show_attacks(matrix: Matrix, seen: Matrix | None) -> None:
    without = {} if seen is None else seen.succeeded()
    output.print_table(
        ("ATTACK", f"IN {matrix.level.upper()}", "WITHOUT"),
        [
            (attack, "SUCCEEDED" if found else "denied", "succeeded" if without.get(attack) else "-")
            for attack, found in matrix.succeeded().items()
        ],
        empty="nothing was tried",
    )
    output.print_line()
    succeeded = sum(bool(found) for found in matrix.succeeded().values())
    output.print_line(f"{succeeded} of {len(ATTACKS)} attacks succeeded")
    _show_sum(matrix, seen)


def _show_sum(matrix: Matrix, seen: Matrix | None) -> None:
    stopped = len(matrix.attempts) - len(matrix.open)
    output.print_line(f"{stopped} of {len(matrix.attempts)} tries stopped, as user {matrix.uid}")
    output.print_line(MEANING)
    if seen is not None:
        output.print_line(
            f"control: {len(seen.open)} succeed as root without a sandbox: "
            f"{'the probe can see' if len(seen.open) >= CONTROL_MINIMUM else 'TOO FEW to trust the probe'}"
        )
    else:
        output.print_line("control: not run, so nothing shows that the probe can see")


def run_servers(args: argparse.Namespace) -> int:
    """What `declared.py` reads, with the model's name and the program's place left to be said."""
    if args.json:
        names = [args.profile] if args.profile else list(SERVERS)
        output.print_json(
            {"schema": "garrison.servers/1", "profiles": {name: dict(SERVERS[name]) for name in names}}
        )
    elif args.profile:
        output.print_line(as_toml(args.profile))
    else:
        rows = [
            (name, _way(profile), ", ".join(profile.get("tasks", ()))) for name, profile in SERVERS.items()
        ]
        output.print_table(("PROFILE", "LISTENS ON", "TASKS"), rows, empty="none")
    return 0


def _way(profile: Mapping[str, Any]) -> str:
    return f"port {profile['port']} of its own loopback" if "port" in profile else "a Unix socket"
