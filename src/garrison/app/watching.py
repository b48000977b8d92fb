"""Unusual use, looked for in the ledger behind the requests: an alert, and what follows from it, are one event.

Never on the path of a request. A look every second reads what is new; an alert that restricts somebody is in the
next signed snapshot, so it holds at every worker within seconds. A replay after a restart raises nothing twice:
the id of an alert follows from its requests, and the ledger is asked whether it is known.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from garrison.app.canary_watch import raise_canaries
from garrison.app.detection import folder_of
from garrison.app.house import House
from garrison.app.watch_state import Watching, restore, save
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Undecided
from garrison.core.event import Event, Outcome, format_time
from garrison.core.finding import Finding
from garrison.detect.anomaly.alert import KINDS, LASTS, OBSERVE, Alert
from garrison.detect.anomaly.limits import Limits
from garrison.detect.anomaly.seen import read
from garrison.evidence import store as events
from garrison.trust.access import Access

LOOK_SECONDS = 1.0
BATCH = 2_000  # requests between two looks at whether the server stops
REBUILT_FROM = timedelta(days=8)  # of the ledger, without a file to begin from
MOST_REBUILT = 500_000  # requests, half a minute of work
PER_MINUTE = 6  # what a throttled identity may ask
PAUSE = timedelta(days=1)  # after somebody released an alert, the same leads to nothing for so long
BEHIND = 50_000  # records that may wait before it counts as not watching


async def loop(house: House, stop: asyncio.Event) -> None:
    """Look until the server stops. What fails is kept in `problem`, and tried again at the next look."""
    while not stop.is_set():
        await asyncio.to_thread(_look_safely, house)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
    with contextlib.suppress(GarrisonError, OSError):
        await asyncio.to_thread(save_state, house)


def _look_safely(house: House) -> None:
    try:
        look(house)
        house.watching.problem = ""
    except (GarrisonError, OSError) as error:
        house.watching.problem = error.code if isinstance(error, GarrisonError) else type(error).__name__
    except Exception as error:  # noqa: BLE001 - a defect here must not end the server; the job watch-use tells it
        house.watching.problem = f"a defect: {type(error).__name__}"


def look(house: House) -> int:
    """Everything that is new in the ledger; returns how many alerts were raised."""
    watching = house.watching
    with watching.lock:
        _follow_policy(watching, house.people().access)
        if watching.cursor < 0 and not restore(watching, folder_of(house.settings)):
            watching.cursor = _first(house)
        raised = 0
        while not house.stopping.is_set():
            wanted = events.Filter(action=Action.MODEL_INVOKE.value, after=watching.cursor, limit=BATCH)
            with house.ledger.read() as connection:
                found = list(events.find(connection, wanted))
            alerts = []
            for record in found:
                seen = read(record.event.as_json(), record.event.time.timestamp())
                alerts += watching.watch.feed(seen) if seen is not None else []
                raised += raise_canaries(house, record.event)
            raised += sum([_raise(house, alert) for alert in alerts])
            if found:
                watching.cursor = found[-1].seq
            if len(found) < BATCH:
                break
    return raised


def save_state(house: House) -> dict[str, Any]:
    """The job `watch-use`: keep the state, and tell how far it is. Raises `Undecided` ANO-BEHIND."""
    watching = house.watching
    with watching.lock:
        if watching.cursor > watching.saved:
            save(watching, folder_of(house.settings))
        facts = status(house)
    if watching.problem or facts["waiting"] > BEHIND:
        raise Undecided(
            "ANO-BEHIND",
            f"unusual use is not being watched: {watching.problem or str(facts['waiting']) + ' records wait'}",
            fix="garrison detect status",
        )
    return {key: facts[key] for key in ("requests", "identities", "cursor")}


def status(house: House) -> dict[str, Any]:
    """How far the detector is, and how much it knows."""
    watching = house.watching
    watch = watching.watch
    wanted = events.Filter(action=Action.MODEL_INVOKE.value, limit=1)
    with house.ledger.read() as connection:
        last = events.latest(connection, wanted)
    return {
        "cursor": max(0, watching.cursor),
        "waiting": max(0, last[-1].seq - max(0, watching.cursor)) if last else 0,
        "requests": watch.requests,
        "identities": len(watch.profiles),
        "groups": len(watch.groups),
        "models": len(watch.models),
        "last_request": format_time(datetime.fromtimestamp(watch.last, UTC)) if watch.last else None,
        "problem": watching.problem,
    }


def response_to(access: Access, code: str) -> tuple[str, int, timedelta]:
    """What an alert leads to: the signed policy's word, else what ships."""
    facts: Mapping[str, Any] = access.responses.get(code, {})
    action = str(facts.get("action", KINDS[code].response))
    return (
        action,
        int(facts.get("per_minute", PER_MINUTE)),
        timedelta(seconds=int(facts.get("seconds", LASTS))),
    )


def limits_of(access: Access) -> Limits:
    """The thresholds, with those that the policy changed."""
    scores = {code: float(one["score"]) for code, one in access.responses.items() if "score" in one}
    lasting = {code: response_to(access, code) for code in KINDS}
    lasts = {code: lasts.total_seconds() for code, (action, _, lasts) in lasting.items() if action != OBSERVE}
    return replace(Limits().with_scores(scores), lasts=lasts)


def _follow_policy(watching: Watching, access: Access) -> None:
    if watching.policy is None or watching.policy != access.responses:
        watching.watch.limits = limits_of(access)
        watching.policy = dict(access.responses)


def _first(house: House) -> int:
    """Where to begin without a file: eight days back, or less when that is too much."""
    action = Action.MODEL_INVOKE.value
    with house.ledger.read() as connection:
        since = format_time(house.now() - REBUILT_FROM)
        oldest = next(events.find(connection, events.Filter(action=action, since=since, limit=1)), None)
    size = house.ledger.state().size
    return size if oldest is None else max(oldest.seq - 1, size - MOST_REBUILT)


def _is_released(access: Access, alert: Alert) -> bool:
    """Somebody looked at the same alert about the same identity lately, and let it go."""
    since = format_time(datetime.fromtimestamp(alert.time, UTC) - PAUSE)
    return any(
        one["code"] == alert.code and one["subject"] == alert.subject and one["time"] >= since
        for one in access.alerts.values()
        if one["state"] in ("released", "closed")
    )


def _raise(house: House, alert: Alert) -> bool:
    """One event with the alert and what it leads to; the gateway is told when that restricts somebody."""
    access = house.people().access
    if alert.id in access.alerts:
        return False
    action, per_minute, lasts = response_to(access, alert.code)
    moment = datetime.fromtimestamp(alert.time, UTC)
    until = moment + lasts
    is_about_one = alert.subject.startswith(("user:", "service:"))
    led_to: dict[str, Any] = {"action": OBSERVE}
    if action != OBSERVE and is_about_one and until > house.now() and not _is_released(access, alert):
        led_to = {
            "action": action,
            "until": format_time(until),
            "undo": f"garrison alerts release {alert.id} --note WHY",
        } | ({"per_minute": per_minute} if action == "throttle" else {})
    kind = alert.kind
    event = Event(
        house.now(),
        Action.ALERT_RAISE,
        "service:garrison",
        alert.subject,
        Outcome.ALLOWED,
        alert.code,
        findings=tuple(
            Finding(kind.rule, kind.severity, sign, f"{now:g} now, {usual:g} usually", led_to.get("undo", ""))
            for sign, _, now, usual in alert.why
        ),
        data={"alert": {**alert.facts(), "seen": format_time(moment)}, "led_to": led_to},
    )
    house.record(event)
    if led_to["action"] != OBSERVE:
        house.publish_snapshot()
    return True
