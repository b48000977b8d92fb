"""`garrison audit ...`: verify, list, show, tail and export the ledger, reading the files, without a server."""

from __future__ import annotations

import argparse
import base64
import difflib
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from garrison import __version__
from garrison.app.cli import output
from garrison.app.cli.link import data_directory
from garrison.app.rows import rows_that_differ
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Outcome, format_time, parse_time
from garrison.evidence import export, store
from garrison.evidence.cef import to_cef
from garrison.evidence.checkpoint import read_checkpoint
from garrison.evidence.merkle import inclusion_proof
from garrison.evidence.record import Record, audit_id, parse_audit_id
from garrison.evidence.store import Filter
from garrison.evidence.verify import BROKEN, INTACT, LedgerReport, verify_ledger
from garrison.evidence.witness import FileWitness, Witness, Witnesses, accept_loss
from garrison.storage.database import open_kept
from garrison.trust.keys.public import PublicKey, load_public

SETTLE_TRIES = 10  # a server may be between its commit and its signature: that takes milliseconds
SETTLE_SECONDS = 0.1
FOLLOW_SECONDS = 0.5
_CELL = 11  # columns of an actor or resource in the table; `audit show` has the whole


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("audit", help="the ledger: verify, list, show, tail, export")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verify = verbs.add_parser(
        "verify",
        help="check every record against its signed checkpoints",
        epilog="example: garrison audit verify --witness /mnt/usb/checkpoint",
    )
    verify.add_argument(
        "--key", action="append", type=Path, metavar="FILE", help="public key to trust instead"
    )
    verify.add_argument("--witness", type=Path, metavar="FILE", help="a checkpoint that was kept elsewhere")
    verify.set_defaults(run=_verify)
    listing = verbs.add_parser(
        "list",
        help="the last records",
        epilog="example: garrison audit list --model fraud --outcome denied --limit 50",
    )
    _add_filter(listing)
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="how many (default 20)")
    listing.set_defaults(run=_list)
    show = verbs.add_parser(
        "show", help="one record, with its proof under --json", epilog="example: garrison audit show a-000412"
    )
    show.add_argument("id", help="such as a-000412")
    show.set_defaults(run=_show)
    tail = verbs.add_parser(
        "tail",
        help="the last records, and new ones with --follow",
        epilog="example: garrison audit tail --kind model.invoke --follow",
    )
    _add_filter(tail)
    tail.add_argument("--limit", type=int, default=10, metavar="N", help="how many (default 10)")
    tail.add_argument("--follow", action="store_true", help="go on until interrupted")
    tail.set_defaults(run=_tail)
    exporting = verbs.add_parser(
        "export",
        help="records for other systems, one a line",
        epilog="example: garrison audit export --format ocsf --since 2026-11-22T00:00:00Z",
    )
    exporting.add_argument(
        "--format", choices=("jsonl", "ocsf", "cef"), default="jsonl", help="default: jsonl"
    )
    _add_filter(exporting)
    exporting.set_defaults(run=_export)
    accept = verbs.add_parser(
        "accept-loss",
        help="let the next start go on with a ledger that lost records",
        epilog="example: garrison audit accept-loss --reason 'disk of 22 November failed, restored from backup'",
    )
    accept.add_argument("--reason", required=True, metavar="TEXT", help="what happened; it is recorded")
    accept.set_defaults(run=_accept)


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind", default="", metavar="ACTION", help="such as model.invoke; verify is artifact.verify"
    )
    parser.add_argument("--model", default="", metavar="NAME", help="a name or a name@version")
    parser.add_argument("--actor", default="", metavar="ACTOR", help="such as user:dana")
    parser.add_argument(
        "--outcome", default="", choices=[outcome.value for outcome in Outcome], help="how it ended"
    )
    parser.add_argument("--since", default="", metavar="TIME", help="RFC 3339, such as 2026-11-22T14:00:00Z")
    parser.add_argument("--until", default="", metavar="TIME", help="the end, left out of the result")


def verified(data: Path, keys: list[PublicKey], witness: Witness) -> LedgerReport:
    """Verify the ledger below a data directory; waits a moment for a server that is about to sign."""
    report = _verified_once(data, keys, witness)
    for _ in range(SETTLE_TRIES):
        if report.code != "AUD-UNSIGNED":
            break
        time.sleep(SETTLE_SECONDS)
        report = _verified_once(data, keys, witness)
    return report


def _verified_once(data: Path, keys: list[PublicKey], witness: Witness) -> LedgerReport:
    with closing(open_kept(data)) as database:
        return verify_ledger(database, keys, witness)


def ledger_keys(data: Path) -> list[PublicKey]:
    """The ledger's public keys below a data directory, the present one first."""
    return [load_public(path) for path in sorted((data / "keys" / "public").glob("ledger*.pem"))]


def file_witness(data: Path) -> FileWitness:
    return FileWitness(data / "witness" / "checkpoint")


def _verify(args: argparse.Namespace) -> int:
    data = data_directory(args)
    keys = [load_public(path) for path in args.key] if args.key else ledger_keys(data)
    if not keys:
        raise Undecided(
            "KEY-UNKNOWN",
            f"there is no public key of the ledger in {data / 'keys' / 'public'}",
            fix="give the data directory with --data DIR, or the key with --key FILE",
        )
    report = verified(data, keys, _witness(data, args.witness))
    error = _rows_as_error(data) if report.verdict == INTACT else _as_error(report)
    if args.json:
        output.print_json(report.as_json() | ({"error": error.as_json()} if error else {}))
    elif error is not None:
        output.print_error(error, as_json=False)
    else:
        last = audit_id(report.size) if report.size else "nothing yet"
        output.print_pairs(
            [
                ("intact", f"to {last}: {report.size} records, {report.checkpoints} signed checkpoints"),
                ("root", report.root),
                ("log", report.origin),
                *(("key", key_id) for key_id in report.key_ids),
            ]
        )
    return error.exit_status if error is not None else report.exit_status


def _rows_as_error(data: Path) -> GarrisonError | None:
    """What other rows of the database say against an intact ledger: one edited row is named."""
    try:
        edited = rows_that_differ(data)
    except Refused as error:
        return error
    if not edited:
        return None
    what, said = next(iter(edited.items()))
    return Refused(
        "DB-EDITED",
        f"the ledger is intact, and {what} in the database is not what it tells: {said}",
        evidence={"rows": [f"{name}: {text}" for name, text in edited.items()][:20]},
        fix="garrison explain DB-EDITED",
    )


def _witness(data: Path, given: Path | None) -> Witness:
    if given is None:
        return file_witness(data)
    if not given.is_file():
        raise Undecided(
            "AUD-WITNESS", f"there is no checkpoint {given}", fix="give the file that you kept elsewhere"
        )
    return Witnesses(file_witness(data), FileWitness(given))


def _as_error(report: LedgerReport) -> GarrisonError:
    first = report.problems[0]
    until = f" (to {audit_id(first.until)})" if first.until > first.seq else ""
    kind = Refused if report.verdict == BROKEN else Undecided
    return kind(
        first.code,
        f"{audit_id(first.seq)}{until}: {first.what}",
        fix=f"garrison explain {first.code}",
        evidence={
            "first_bad": audit_id(first.seq),
            "records": report.size,
            "signed": report.signed,
            "problems": len(report.problems),
        },
    )


def _list(args: argparse.Namespace) -> int:
    records = _latest(data_directory(args), _filter(args, limit=_limit(args)))
    if args.json:
        output.print_json({"schema": "garrison.audit-list/1", "records": [r.as_json() for r in records]})
    else:
        rows = [_row(record) for record in records]
        output.print_table(_COLUMNS, rows, empty="no such records; garrison audit list shows the last ones")
    return 0


def _show(args: argparse.Namespace) -> int:
    seq = parse_audit_id(args.id)
    data = data_directory(args)
    with (
        closing(open_kept(data)) as database,
        database.read() as connection,
    ):
        record = store.get(connection, seq)
        if record is None:
            raise Refused("AUD-NOT-FOUND", f"there is no record {args.id}", fix="garrison audit list")
        if args.json:
            output.print_json(record.as_json() | {"proof": _proof(connection, data, seq)})
            return 0
    event = record.event
    facts = [("finding", f"{one.rule_id} {one.where} {one.message}") for one in event.findings]
    output.print_pairs(
        [
            ("id", record.audit_id),
            ("time", f"{format_time(event.time)}   {output.moment(event.time).partition(', ')[2]}"),
            ("action", event.action.value),
            ("actor", event.actor),
            ("resource", event.resource),
            ("outcome", f"{event.outcome.value} {event.code}".rstrip()),
            ("digest", event.digest),
            ("trace", event.trace_id),
            *facts,
            *((name, value) for name, value in sorted(event.data.items())),
            ("leaf", record.leaf.hex()),
        ]
    )
    return 0


def _proof(connection: Any, data: Path, seq: int) -> dict[str, Any] | None:
    """The record's inclusion proof (RFC 6962) under the newest checkpoint; None while none covers it."""
    for note in file_witness(data).read():
        try:
            checkpoint = read_checkpoint(note, ledger_keys(data))
            hashes = inclusion_proof(seq - 1, checkpoint.size, store.subtree_reader(connection))
        except (Refused, ValueError, LookupError):
            return None
        encoded = [base64.b64encode(value).decode() for value in hashes]
        return {"index": seq - 1, "size": checkpoint.size, "hashes": encoded, "checkpoint": note.decode()}
    return None


def _tail(args: argparse.Namespace) -> int:
    data = data_directory(args)
    wanted = _filter(args, limit=_limit(args))
    records = _latest(data, wanted)
    _print_lines(records, as_json=args.json)
    last = records[-1].seq if records else 0
    while args.follow:
        time.sleep(FOLLOW_SECONDS)
        for record in _records(data, _filter(args, after=last)):
            _print_lines([record], as_json=args.json)
            last = record.seq
    return 0


def _print_lines(records: list[Record], *, as_json: bool) -> None:
    if as_json:
        for line in export.jsonl(records):
            output.print_line(line)
    else:
        for record in records:
            output.print_line("  ".join(output.visible(cell) for cell in _row(record)).rstrip())
    sys.stdout.flush()


def _export(args: argparse.Namespace) -> int:
    records = _records(data_directory(args), _filter(args))
    if args.format == "cef":
        lines: Iterator[str] = (to_cef(record, __version__) for record in records)
    else:
        lines = export.ocsf(records, __version__) if args.format == "ocsf" else export.jsonl(records)
    for line in lines:
        output.print_line(line)
    return 0


def _accept(args: argparse.Namespace) -> int:
    data = data_directory(args)
    accept_loss(data / "witness", args.reason)
    if (data / "keys" / "token").is_dir():
        from garrison.app import wiring  # the token's driver and the database, which reading does without
        from garrison.app.settings import Settings  # as above

        wiring.note_accepted_loss(Settings(data=data))
    if args.json:
        output.print_json({"accepted": args.reason, "data": str(data)})
    else:
        output.print_line("noted; the next start goes on with what is left and records your reason")
    return 0


_COLUMNS = ("ID", "TIME (UTC)", "ACTION", "ACTOR", "RESOURCE", "OUTCOME")


def _row(record: Record) -> tuple[str, ...]:
    event = record.event
    outcome = event.code or event.outcome.value
    if stage := event.data.get("stage"):  # of a verification: publish, approve, load, at rest ...
        outcome = f"{outcome}, {stage}"
    when = format_time(event.time)[5:16].replace("T", " ")
    return (record.audit_id, when, event.action.value, _cell(event.actor), _cell(event.resource), outcome)


def _cell(text: str) -> str:
    shown = output.visible(text)
    return shown if len(shown) <= _CELL else shown[: _CELL - 1] + "…"


def _limit(args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise Usage("CLI-USAGE", f"--limit is {args.limit}", fix="give a number from 1")
    return int(args.limit)


def _filter(args: argparse.Namespace, *, limit: int = 0, after: int = 0) -> Filter:
    known = {action.value for action in Action}
    kind = f"artifact.{args.kind}" if f"artifact.{args.kind}" in known else args.kind  # `verify`, for short
    if kind and kind not in known:
        near = difflib.get_close_matches(args.kind, [action.value for action in Action], n=1)
        fix = f"did you mean {near[0]}?" if near else "docs/reference/actions.md lists every action"
        raise Usage("CLI-USAGE", f"{args.kind!r} is not an action", fix=fix)
    return Filter(
        action=kind,
        model=args.model,
        actor=args.actor,
        outcome=args.outcome,
        since=_moment(args.since),
        until=_moment(args.until),
        limit=limit,
        after=after,
    )


def _moment(text: str) -> str:
    try:
        return format_time(parse_time(text)) if text else ""
    except ValueError as error:
        raise Usage(
            "CLI-USAGE", f"{text!r} is not a time with a zone", fix="write 2026-11-22T14:00:00Z"
        ) from error


def _latest(data: Path, wanted: Filter) -> list[Record]:
    with (
        closing(open_kept(data)) as database,
        database.read() as connection,
    ):
        return store.latest(connection, wanted)


def _records(data: Path, wanted: Filter) -> Iterator[Record]:
    """Every record of one snapshot, without holding them all."""
    with (
        closing(open_kept(data)) as database,
        database.read() as connection,
    ):
        yield from store.find(connection, wanted)
