"""Failed logins, followed in the ledger: a flood of them is an alert. Never on the path of a request.

A start looks back over one window, so a restart neither hides a flood nor tells one twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import log2

from garrison.app.house import House
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError
from garrison.core.event import Event, Outcome, format_time, parse_time
from garrison.core.finding import Finding, Severity
from garrison.detect.anomaly.watch import alert_id
from garrison.detect.logins import Failure, Flood, LoginLimits, Logins
from garrison.evidence import store as events

LOOK_SECONDS = 1.0
BATCH = 5_000  # refused requests of one look
CODE, RULE = "AUTH-ALERT", "authentication.flood"
NOT_LET_IN = ("TOK-", "LIM-AUTH")  # codes of requests whose caller was not let in
ATLAS = "AML.T0012"  # valid accounts: what somebody who tries tokens is after


@dataclass(slots=True)
class LoginWatch:
    """`seen` is the number of the last record that was looked at, negative before the first look."""

    logins: Logins
    seen: int = -1
    problem: str = field(default="", compare=False)

    def look(self, house: House) -> int:
        """Everything that is new; returns how many alerts were raised."""
        if self.seen < 0:
            self._begin(house)
        raised = 0
        while not house.stopping.is_set():
            size = house.ledger.state().size
            wanted = events.Filter(outcome=Outcome.DENIED.value, after=self.seen, limit=BATCH)
            with house.ledger.read() as connection:
                found = list(events.find(connection, wanted))
            for record in found:
                failure = failure_of(record.event)
                for flood in self.logins.feed(failure) if failure is not None else ():
                    raised += _raise(house, flood, self.logins.limits)
            if len(found) < BATCH:
                self.seen = max(size, found[-1].seq) if found else max(self.seen, size)
                return raised
            self.seen = found[-1].seq
        return raised

    def _begin(self, house: House) -> None:
        since = format_time(house.now() - timedelta(seconds=self.logins.limits.seconds))
        with house.ledger.read() as connection:
            oldest = next(events.find(connection, events.Filter(since=since, limit=1)), None)
        self.seen = house.ledger.state().size if oldest is None else oldest.seq - 1
        for alert in house.people().access.alerts.values():
            if alert["code"] == CODE:
                self.logins.mark(str(alert["subject"]), parse_time(str(alert["seen"])).timestamp())


async def loop(house: House, stop: asyncio.Event) -> None:
    """Look until the server stops; what fails is tried again at the next look."""
    watch = LoginWatch(Logins(limits_of(house)))
    while not stop.is_set():
        with contextlib.suppress(GarrisonError, OSError):
            await asyncio.to_thread(watch.look, house)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_SECONDS)


def limits_of(house: House) -> LoginLimits:
    return LoginLimits(house.settings.login_alert_failures, house.settings.login_alert_minutes * 60.0)


def failure_of(event: Event) -> Failure | None:
    """The failed login that an event tells of. A refused command has no source: it came over the socket here."""
    if not event.code.startswith(NOT_LET_IN):
        return None
    told = event.data.get("authentication")
    facts = told if isinstance(told, dict) else {}
    source, reason, name = (str(facts.get(key, "")) for key in ("source", "reason", "identity"))
    return Failure(event.time.timestamp(), source, reason or event.code, name)


def _raise(house: House, flood: Flood, limits: LoginLimits) -> bool:
    identity = alert_id(CODE, flood.subject, flood.time)
    if identity in house.people().access.alerts:
        return False
    usual = limits.failures * (limits.together if flood.subject == "everybody" else 1)
    minutes = f"{limits.seconds / 60:g} min"
    alert = {
        "id": identity,
        "title": "failed logins, many in a short time",
        "subject": flood.subject,
        "model": "",
        "score": round(log2(1 + flood.count / usual), 2),
        "atlas": [ATLAS],
        "why": [
            {"sign": f"{reason}, within {minutes}", "strength": 1.0, "now": count, "usual": usual}
            for reason, count in flood.reasons[:5]
        ],
        "sources": flood.sources,
        "seen": format_time(datetime.fromtimestamp(flood.time, UTC)),
    }
    what = f"{flood.count} failed logins within {minutes}"
    finding = Finding(RULE, Severity.HIGH, what, flood.subject, f"garrison alerts show {identity}")
    house.record(
        Event(
            house.now(),
            Action.ALERT_RAISE,
            "service:garrison",
            flood.subject,
            Outcome.ALLOWED,
            CODE,
            findings=(finding,),
            data={"alert": alert, "led_to": {"action": "observe"}},
        )
    )
    return True
