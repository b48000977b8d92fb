"""`garrison detect …`: unusual use, replayed from a log, simulated, and what it leads to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from garrison.app.cli import detect_trial, link, output
from garrison.app.cli.identity import seconds
from garrison.core.actions import Action
from garrison.core.errors import Usage
from garrison.core.event import format_time
from garrison.detect.anomaly.alert import KINDS, RESPONSES, Alert
from garrison.detect.anomaly.limits import Limits
from garrison.detect.anomaly.replay import read_file
from garrison.detect.anomaly.seen import Seen, read
from garrison.detect.anomaly.watch import Watch
from garrison.evidence import store
from garrison.storage.database import open_kept

_DAY = 86_400.0


def add(subparsers: Any) -> None:
    detect = subparsers.add_parser("detect", help="unusual use of models: replay, simulate, respond")
    verbs = detect.add_subparsers(dest="verb", required=True, metavar="VERB")
    replay = verbs.add_parser(
        "replay",
        help="what would have been noticed in a log, also with other thresholds",
        epilog="example: garrison detect replay events.jsonl --set ANO-LOGPROB=3",
    )
    replay.add_argument(
        "file", nargs="?", help="events, one a line (audit export, detect simulate); - is stdin"
    )
    replay.add_argument(
        "--since", type=int, metavar="DAYS", help="the ledger below --data instead, of so many days"
    )
    replay.add_argument(
        "--set",
        action="append",
        default=[],
        type=_threshold,
        metavar="CODE=SCORE",
        help="what if: another threshold",
    )
    replay.set_defaults(run=run_replay)
    detect_trial.add(verbs)
    respond = verbs.add_parser(
        "respond",
        help="what one kind of alert leads to, and when it is raised",
        epilog="example: garrison detect respond ANO-EXTRACT --action block --for 4h",
    )
    respond.add_argument("code", choices=sorted(KINDS), metavar="CODE", help=", ".join(sorted(KINDS)))
    respond.add_argument("--action", choices=RESPONSES, help="what follows for the identity")
    respond.add_argument(
        "--per-minute", type=int, metavar="N", help="requests that a throttled identity may make"
    )
    respond.add_argument(
        "--for", dest="lasts", type=seconds, metavar="TIME", help="such as 30m, 4h; then it ends"
    )
    respond.add_argument("--score", type=float, metavar="S", help="raise it from this score on")
    respond.add_argument("--remove", action="store_true", help="back to what ships")
    respond.set_defaults(run=run_respond)
    network = verbs.add_parser(
        "network",
        help="give an address range a name",
        epilog="example: garrison detect network 10.20.0.0/16 --name office-east",
    )
    network.add_argument("network", metavar="RANGE", help="such as 10.20.0.0/16")
    network.add_argument("--name", help="by which events and alerts call it")
    network.add_argument("--remove", action="store_true", help="take the name away")
    network.set_defaults(run=run_network)
    status = verbs.add_parser(
        "status",
        help="how far the detectors are, and what alerts lead to",
        epilog="example: garrison detect status",
    )
    status.set_defaults(run=run_status)


def _threshold(text: str) -> tuple[str, float]:
    code, _, score = text.partition("=")
    try:
        return code, float(score)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not CODE=SCORE") from None


def run_replay(args: argparse.Namespace) -> int:
    """Exit 0 whatever was found: it is a question, not a gate."""
    if (args.file is None) == (args.since is None):
        raise Usage(
            "ARG-MISSING", "a file or --since is needed, one of them", fix="garrison detect replay --help"
        )
    watch = Watch(Limits().with_scores(dict(args.set)))
    source = _ledger(args) if args.file is None else read_file(args.file, sys.stdin.buffer)
    began: float | None = None
    alerts = []
    for seen in source:
        began = seen.time if began is None else began
        alerts += watch.feed(seen)
    days = (watch.last - (began or 0.0)) / _DAY if watch.requests else 0.0
    result = {
        "schema": "garrison.detect-replay/1",
        "requests": watch.requests,
        "identities": len(watch.profiles),
        "days": round(days, 2),
        "alerts": [{"code": alert.code, "time": _time(alert), **alert.facts()} for alert in alerts],
    }
    if args.json:
        output.print_json(result)
        return 0
    print_alerts(alerts)
    facts = f"{watch.requests} requests of {len(watch.profiles)} identities in {days:.1f} days"
    output.print_pairs([("looked at", facts), ("alerts", str(len(alerts)))])
    return 0


def print_alerts(alerts: Iterable[Alert]) -> None:
    rows = [(_time(one)[:16], one.code, one.subject, f"{one.score:.1f}", one.why[0][0]) for one in alerts]
    output.print_table(("WHEN", "CODE", "ABOUT", "SCORE", "STRONGEST SIGN"), rows, empty="nothing unusual")


def _time(alert: Alert) -> str:
    return format_time(datetime.fromtimestamp(alert.time, UTC))


def _ledger(args: argparse.Namespace) -> Iterator[Seen]:
    since = format_time(datetime.now(UTC) - timedelta(days=args.since))
    wanted = store.Filter(action=Action.MODEL_INVOKE.value, since=since)
    with closing(open_kept(link.data_directory(args))) as database, database.read() as connection:
        for record in store.find(connection, wanted):
            seen = read(record.event.as_json(), record.event.time.timestamp())
            if seen is not None:
                yield seen


def run_respond(args: argparse.Namespace) -> int:
    facts = {
        "code": args.code,
        "action": args.action,
        "per_minute": args.per_minute,
        "seconds": args.lasts,
        "score": args.score,
        "remove": args.remove,
    }
    return _show(args, link.call(args, "detect.respond", **facts))


def run_network(args: argparse.Namespace) -> int:
    facts = {"network": args.network, "name": args.name, "remove": args.remove}
    return _show(args, link.call(args, "detect.network", **facts))


def run_status(args: argparse.Namespace) -> int:
    result = link.call(args, "detect.status")
    if args.json:
        output.print_json(result)
        return 0
    names = ("requests", "identities", "models", "last_request", "waiting", "open_alerts", "problem")
    output.print_pairs(
        [(name.replace("_", " "), result[name]) for name in names if result.get(name) not in ("", None)]
    )
    output.print_table(
        ("CODE", "WHAT", "FROM", "LEADS TO"),
        [
            (one["code"], one["title"], f"{one['from_score']:g}", _leads_to(one))
            for one in result["responses"]
        ],
        empty="",
    )
    for one in result["networks"]:
        output.print_pairs([("network", f"{one['network']} is {one['name']}")])
    return 0


def _leads_to(one: dict[str, Any]) -> str:
    if one["action"] == "observe":
        return "observe"
    amount = f" to {one['per_minute']} a minute" if "per_minute" in one else ""
    return f"{one['action']}{amount} for {one['seconds'] // 60} min"


def _show(args: argparse.Namespace, result: dict[str, Any]) -> int:
    if args.json:
        output.print_json(result)
    else:
        output.print_pairs((key.replace("_", " "), value) for key, value in result.items())
    return 0
