"""`garrison runtime probe`: try to break out of a sandbox, and show what was open. Needs no server."""

from __future__ import annotations

import argparse
import os
from typing import Any

from garrison.app.cli import output
from garrison.runtime.probe import ATTACKS, CONTROL_MINIMUM, WANTED, Matrix, control, probe
from garrison.runtime.sandboxes.ladder import DEFAULT_LEVEL, LEVELS, sandbox_for

MEANING = "stopped: the try failed   OPEN: it succeeded   given: it succeeds by intention"


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
        "--hostile", action="store_true", help="sum up as the twelve attacks of a hostile model"
    )
    leaf.add_argument(
        "--no-control",
        action="store_true",
        help="leave out the run without a sandbox",
    )
    leaf.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when nothing is open but what is given; 1 otherwise. Raises ISO-UNKNOWN and ISO-UNAVAILABLE."""
    matrix = probe(sandbox_for(args.isolation))
    seen = control() if os.geteuid() == 0 and not args.no_control else None
    if args.json:
        output.print_json(_as_json(matrix, seen))
    elif args.hostile:
        _show_attacks(matrix, seen)
    else:
        _show_matrix(matrix, seen)
    return 1 if matrix.unwanted else 0


def _as_json(matrix: Matrix, seen: Matrix | None) -> dict[str, Any]:
    return {
        "schema": "garrison.probe/1",
        **matrix.as_json(),
        "given": sorted(WANTED),
        "attacks": [
            {"attack": attack, "succeeded": bool(found), "by": list(found)}
            for attack, found in matrix.succeeded().items()
        ],
        "control": None if seen is None else {"open": list(seen.open), "needed": CONTROL_MINIMUM},
    }


def _show_matrix(matrix: Matrix, seen: Matrix | None) -> None:
    without = {} if seen is None else {attempt.check: attempt.open for attempt in seen.attempts}
    output.print_table(
        ("TRY", f"IN {matrix.level.upper()}", "BY", "WITHOUT"),
        [
            (
                attempt.check,
                "stopped" if not attempt.open else "given" if attempt.check in WANTED else "OPEN",
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
