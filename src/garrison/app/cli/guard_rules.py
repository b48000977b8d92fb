"""`garrison guard explain|except|exceptions`: why a request was blocked, and what to do when that was wrong."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from garrison.app.cli import link, output
from garrison.core.actions import Action
from garrison.core.errors import Refused
from garrison.core.finding import Finding
from garrison.detect.rulepack import built_in_rules
from garrison.evidence import store
from garrison.evidence.record import Record, parse_audit_id
from garrison.storage.database import open_kept

REQUEST_ID = re.compile(r"r-[0-9a-z]{8,64}")  # as the gateway gives to whoever asked
ORDERS = ("injection", "jailbreak", "proprietary")  # kinds of findings that an exception can be for
_OWN = {
    "tier1": "the classifier: the text reads like those that give orders to a model; no one word decides",
    "tier2": "the classifier that is asked where the first is in doubt; no one word decides",
    "prompt.jailbreak.many-shot": "a written-out dialogue in which an assistant keeps saying yes, so that you do",
    "dlp.copy": "eight words in a row of a registered document",
    "dlp.custom": "a pattern that was added here",
    "prompt.injection.tag-characters": "invisible characters that spell text (Unicode tags)",
    "prompt.injection.split-words": "invisible characters inside words",
}


def add(verbs: Any) -> None:
    explain = verbs.add_parser(
        "explain",
        help="which rule fired in a request, and what to do if it was wrong",
        epilog="examples:\n  garrison guard explain a-000412\n  garrison guard explain r-5f1c2a9b0000001c",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.add_argument("id", metavar="ID", help="of the refusal (r-...), or of garrison audit list (a-...)")
    explain.set_defaults(run=run_explain)
    wrong = verbs.add_parser(
        "except",
        help="let rules that are wrong for a model block nothing there, until a day",
        epilog="example: garrison guard except tier1.user --model fraud --owner dana --until 2027-03-01",
    )
    wrong.add_argument("rule", nargs="+", help="as garrison guard explain names it")
    wrong.add_argument("--model", required=True, help="the model, without a version")
    wrong.add_argument("--owner", metavar="WHO", help="who answers for it; a known identity or group")
    wrong.add_argument("--until", metavar="DAY", help="when it ends, at most 90 days from now")
    wrong.add_argument("--remove", action="store_true", help="end it now")
    wrong.set_defaults(run=run_except)
    listing = verbs.add_parser(
        "exceptions", help="those there are", epilog="example: garrison guard exceptions"
    )
    listing.set_defaults(run=run_exceptions)


def run_explain(args: argparse.Namespace) -> int:
    """Reads the ledger's files; no text of a request is in them, so none can be shown."""
    record = _record(args)
    event = record.event
    model = event.resource.partition("@")[0]
    found = [_found(one, model) for one in event.findings]
    if not found:
        raise Refused(
            "GRD-NONE", f"{args.id} has no finding of a detector", fix=f"garrison audit show {args.id}"
        )
    facts = {
        "schema": "garrison.guard-explain/1",
        "audit_id": record.audit_id,
        "model": event.resource,
        "outcome": event.outcome.value,
        "code": event.code,
        "excepted": event.data.get("excepted", []),
        "observed": event.data.get("observed", []),
        "findings": found,
        "if_wrong": _command([one["rule"] for one in found if one["kind"] in ORDERS], model),
    }
    if args.json:
        output.print_json(facts)
        return 0
    output.print_pairs([(key, facts[key]) for key in ("audit_id", "model", "outcome", "code")])
    for one in found:
        where = f"{one['direction']}, code points {one['start']} to {one['end']} of its text"
        output.print_pairs([("rule", one["rule"]), ("where", where), ("means", one["means"])])
    what = facts["if_wrong"] or "these are values: garrison dlp action set says what is done with them"
    output.print_pairs([("if wrong", what), ("text", "none is stored: ask whoever sent it")])
    return 0


def _command(rules: Sequence[str], model: str) -> str:
    """Lets such texts pass; every rule that saw the text counts, so all of them are in it."""
    named = " ".join(dict.fromkeys(rules))
    return f"garrison guard except {named} --model {model} --owner WHO --until DAY" if named else ""


def _record(args: argparse.Namespace) -> Record:
    with (
        closing(open_kept(link.data_directory(args))) as database,
        database.read() as connection,
    ):
        if REQUEST_ID.fullmatch(args.id):
            asked = store.Filter(action=Action.MODEL_INVOKE.value, trace_id=args.id, limit=1)
            record = next(store.find(connection, asked), None)
        else:
            record = store.get(connection, parse_audit_id(args.id))
    if record is None:
        raise Refused("AUD-NOT-FOUND", f"there is no record {args.id}", fix="garrison audit list")
    return record


def _found(finding: Finding, model: str) -> dict[str, Any]:
    direction, _, span = finding.where.partition("[")
    start, _, end = span.rstrip("]").partition(":")
    return {
        "rule": finding.rule_id,
        "kind": finding.message,
        "direction": direction,
        "start": int(start) if start.isdigit() else None,
        "end": int(end) if end.isdigit() else None,
        "means": meaning(finding.rule_id),
        "if_wrong": _command([finding.rule_id], model),
    }


def meaning(rule: str) -> str:
    """What a rule looks for, in a few words and an example of its pack."""
    for start, words in _OWN.items():
        if rule.startswith(start):
            return words
    for known in built_in_rules():
        if known.id == rule:
            example = f", such as: {known.hit[0].replace('¦', '')}" if known.hit else ""
            return (
                f"a signature of {known.kind}, score {known.score}{example}"
                if not known.is_dlp
                else known.kind
            )
    return "a rule of another version"


def run_except(args: argparse.Namespace) -> int:
    facts = {key: getattr(args, key) for key in ("model", "owner", "until", "remove")}
    result = link.call(args, "guard.except", rules=args.rule, **facts)
    if args.json:
        output.print_json(result)
    else:
        shown = {**result, "rules": ", ".join(result["rules"])}
        output.print_pairs([(key.replace("_", " "), value) for key, value in shown.items()])
    return 0


def run_exceptions(args: argparse.Namespace) -> int:
    result = link.call(args, "guard.exceptions")
    if args.json:
        output.print_json(result)
        return 0
    output.print_table(
        ("RULE", "MODEL", "OWNER", "UNTIL"),
        [
            (one["rule"], one["model"], one["owner"], one["until"] + (" (ended)" if one["ended"] else ""))
            for one in result["exceptions"]
        ],
        empty="every rule holds everywhere",
    )
    return 0
