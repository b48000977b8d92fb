"""`garrison schedule …`: the periodic jobs of the server."""

from __future__ import annotations

import argparse
from typing import Any

from garrison.app.cli import link, output


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("schedule", help="the server's periodic jobs")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser(
        "list", help="each job with its last and next run", epilog="example: garrison schedule list"
    ).set_defaults(run=run_list)
    now = verbs.add_parser(
        "run", help="do one job now", epilog="example: garrison schedule run verify-at-rest"
    )
    now.add_argument("job", help="such as verify-at-rest")
    now.set_defaults(run=run_now)


def run_list(args: argparse.Namespace) -> int:
    result = link.call(args, "schedule.list")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("JOB", "LAST", "NEXT", "RESULT"),
        [
            (
                job["job"],
                output.moment(job["last"]) if job["last"] else "never",
                output.moment(job["next"]),
                f"{job['result']} {job['code']}".strip(),
            )
            for job in result["jobs"]
        ],
        empty="no jobs",
    )
    return 0


def run_now(args: argparse.Namespace) -> int:
    result = link.call(args, "schedule.run", job=args.job)
    if args.json:
        output.print_json(result)
        return 0
    output.print_pairs(
        [
            ("done", result["job"]),
            *((str(key), str(value)) for key, value in result["facts"].items()),
            ("audit", result["audit_id"]),
        ]
    )
    return 0
