"""A canary in an answer is an alert, once an hour for each canary and each who got it: hidden context came out."""

from __future__ import annotations

from datetime import UTC, datetime

from garrison.app.house import House
from garrison.core.actions import Action
from garrison.core.event import Event, Outcome, format_time
from garrison.core.finding import Finding, Severity
from garrison.detect.anomaly.watch import alert_id

CODE = "ANO-CANARY"
RULE = "anomaly.canary"
ATLAS = "AML.T0056"
PREFIX = "dlp.canary."
HOUR = 3_600.0


def raise_canaries(house: House, event: Event) -> int:
    """An alert for each canary that this request's answer held; how many were raised."""
    names = {
        finding.rule_id.removeprefix(PREFIX).partition(".")[0]
        for finding in event.findings
        if finding.rule_id.startswith(PREFIX)
    }
    return sum([_raise(house, event, name) for name in sorted(names)])


def _raise(house: House, event: Event, name: str) -> bool:
    moment = event.time.timestamp()
    identity = alert_id(CODE, f"{event.actor}\0{name}", moment // HOUR * HOUR)
    if identity in house.people().access.alerts:
        return False
    alert = {
        "id": identity,
        "title": "a canary of hidden context was in an answer",
        "subject": event.actor,
        "model": event.resource,
        "score": 1.0,
        "atlas": [ATLAS],
        "why": [{"sign": f"canary {name}", "strength": 1.0, "now": 1, "usual": 0}],
        "seen": format_time(datetime.fromtimestamp(moment, UTC)),
    }
    what = f"the canary {name} was in an answer of {event.resource}"
    finding = Finding(RULE, Severity.CRITICAL, what, event.actor, f"garrison alerts show {identity}")
    house.record(
        Event(
            house.now(),
            Action.ALERT_RAISE,
            "service:garrison",
            event.actor,
            Outcome.ALLOWED,
            CODE,
            findings=(finding,),
            data={"alert": alert, "led_to": {"action": "observe"}},
        )
    )
    return True
