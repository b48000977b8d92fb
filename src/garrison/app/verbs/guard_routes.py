"""Verbs about how each route judges orders to the model: observe or enforce, thresholds, set by its own traffic."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from garrison.app.detection import detection
from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.artifacts import store as registry
from garrison.core.actions import Action
from garrison.core.digest import check_name
from garrison.core.errors import Refused, Undecided, Usage
from garrison.detect.base import Direction
from garrison.detect.figures import Rate, limit_for
from garrison.detect.inspect import Inspector
from garrison.detect.route_guard import AS_EVER, BLOCK_RANGE, parse_guard
from garrison.detect.tier2 import Guard
from garrison.detect.tier2_ask import BothTiers, parse_asked
from garrison.gateway.detection import Detection
from garrison.runtime import store

EXPECTED = 5  # texts above the threshold, at least: fewer say nothing about a rate
RATES = (0.0005, 0.2)
MAX_TEXTS = 100_000
MAX_LINE = 48 << 20  # bytes of one row
FIELDS = ("mode", "block_at", "low", "high", "deadline_ms")


def route_set(house: House, call: Call) -> dict[str, Any]:
    """Change what is given, and keep the rest."""
    name = check_name(call.text("name"))
    authorise(house, call.subject, Action.GUARD_WRITE, name)
    _check_known(house, name)
    given = {key: call.body[key] for key in FIELDS if call.body.get(key) is not None}
    return _record(house, call, name, {**house.people().access.guards.get(name, {}), **given})


def route_remove(house: House, call: Call) -> dict[str, Any]:
    """Back to what holds everywhere."""
    name = check_name(call.text("name"))
    authorise(house, call.subject, Action.GUARD_WRITE, name)
    if name not in house.people().access.guards:
        raise Usage("GRD-ROUTE", f"nothing is said of {name}", fix="garrison guard route list")
    event = event_of(house, call, Action.GUARD_WRITE, name, guard={"name": name}, removed=True)
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(event)
    house.publish_snapshot()
    return {"name": name, "audit_id": audit_id}


def route_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "guard")
    guards = house.people().access.guards
    return {"routes": [dict(guards[name]) for name in sorted(guards)]}


def calibrate(house: House, call: Call) -> dict[str, Any]:
    """Set the threshold of a route so that at most `rate` of the texts in a file of its traffic are blocked."""
    name, rate = check_name(call.text("name")), call.body.get("rate")
    authorise(house, call.subject, Action.GUARD_WRITE, name)
    _check_known(house, name)
    least, most = RATES
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not least <= rate <= most:
        raise Usage("GRD-CALIBRATE", f"a rate is from {least} to {most}", fix="--rate 0.01")
    texts = list(_texts(Path(call.text("source"))))
    needed = math.ceil(EXPECTED / rate)
    if len(texts) < needed:
        raise Refused(
            "GRD-CALIBRATE",
            f"{len(texts)} texts do not show a rate of {rate:g}: {needed} are needed",
            fix="give more of the traffic, or a higher --rate",
            evidence={"texts": len(texts), "needed": needed},
        )
    known = house.people().access.guards.get(name, {})
    guard = parse_guard(known) if known else AS_EVER
    scores = _scores(house, texts)
    block_at = round(max(limit_for(scores, rate) + 5e-5, BLOCK_RANGE[0]), 4)
    if block_at > BLOCK_RANGE[1]:
        over = Rate(sum(score >= BLOCK_RANGE[1] for score in scores), len(scores))
        raise Refused(
            "GRD-CALIBRATE",
            f"{over.hits} of {over.of} texts score {BLOCK_RANGE[1]} and more: no threshold lets them pass",
            fix=f"garrison inspect --jsonl < {call.text('source')} says which rules fire",
            evidence=over.as_json(),
        )
    measured = Rate(sum(score >= block_at for score in scores), len(scores)).as_json()
    before = guard.over(Guard()).block_at
    told = {"rate": rate, "before": before, "measured": measured}
    return _record(house, call, name, {**known, "block_at": block_at}, calibration=told)


def _scores(house: House, texts: list[str]) -> list[float]:
    """What the gateway would score, by the same rules, the same weights and the same second tier."""
    facts = detection(house.people().access, house.settings, house.now())
    inspector = Detection(house.settings.run / "patterns").renew(facts)
    if not isinstance(inspector, Inspector):
        raise Undecided("GRD-CALIBRATE", "the detectors cannot be made here", fix="garrison dlp list")
    both = BothTiers(inspector, parse_asked(facts["tier2"]))
    scores = []
    for text in texts:
        house.go_on()
        found = both.inspect(text, Direction.INPUT, tolerant=True)
        if found.incomplete:
            raise Undecided(
                "GRD-CALIBRATE",
                f"{', '.join(found.incomplete)} gave no answer to one of the texts: nothing was changed",
                fix="garrison guard tier2 show; then try again",
            )
        scores.append(found.score)
    return scores


def _texts(path: Path) -> Iterator[str]:
    """The texts of a file of JSON lines: objects with `text`, or strings. Raises `Usage` GRD-SET."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number in range(1, MAX_TEXTS + 1):
                line = lines.readline(MAX_LINE)
                if not line:
                    return
                if line.strip():
                    yield _text(json.loads(line), number)
    except (OSError, EOFError) as cause:
        raise Usage(
            "GRD-SET", f"the file cannot be read: {cause}", fix="give a file of JSON lines"
        ) from cause
    except (ValueError, RecursionError) as cause:
        raise Usage(
            "GRD-SET", "the file has a line that is not JSON", fix="give a file of JSON lines"
        ) from cause


def _text(row: Any, number: int) -> str:
    text = row.get("text") if isinstance(row, dict) else row
    if not isinstance(text, str):
        raise Usage("GRD-SET", f"line {number} has no text", fix='write {"text": "..."} a line')
    return text


def _check_known(house: House, name: str) -> None:
    with house.database.read() as connection:
        known = name in {route.name for route in store.routes(connection)}
        known = known or bool(registry.latest_version(connection, name))
    if not known:
        raise Refused("GRD-ROUTE", f"there is no model and no route {name}", fix="garrison route list")


def _record(house: House, call: Call, name: str, said: dict[str, Any], **more: Any) -> dict[str, Any]:
    facts = {**said, "name": name}
    try:
        parse_guard(facts)
    except ValueError as error:
        raise Usage("GRD-ROUTE", str(error), fix="garrison guard route set --help") from None
    with house.ledger.transaction() as transaction:
        event = event_of(house, call, Action.GUARD_WRITE, name, guard=facts, **more)
        audit_id = transaction.append(event)
    house.publish_snapshot()
    return {**facts, **more, "audit_id": audit_id}


GUARD_ROUTE_VERBS = (
    Verb("guard.route.set", Action.GUARD_WRITE, route_set),
    Verb("guard.route.remove", Action.GUARD_WRITE, route_remove),
    Verb("guard.route.list", Action.POSTURE_READ, route_list),
    Verb("guard.calibrate", Action.GUARD_WRITE, calibrate),
)
