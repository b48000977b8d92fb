"""Verbs about alerts and about what they lead to. The ledger is where all of it is kept."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise, event_of
from garrison.app.watching import response_to, status
from garrison.core.actions import Action
from garrison.core.errors import Refused, Usage
from garrison.detect.anomaly.alert import KINDS, RESPONSES
from garrison.detect.anomaly.limits import Limits
from garrison.gateway.use import MAX_NETWORKS

LONGEST = 30 * 86_400  # seconds: what lasts longer than a month is a rule of the policy, not a response
MOST_A_MINUTE = 10_000
MAX_NOTE = 500
SHOWN = 100
_STATES = {"take": "taken", "release": "released", "close": "closed"}
_ENDED = ("closed",)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def alert_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "alerts")
    known = [
        one for one in house.people().access.alerts.values() if call.flag("all") or one["state"] not in _ENDED
    ]
    return {"alerts": [_shown(one) for one in known[::-1][:SHOWN]], "left_out": max(0, len(known) - SHOWN)}


def alert_show(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "alerts")
    return _shown(_known(house, call.text("id")))


def alert_change(house: House, call: Call) -> dict[str, Any]:
    """Take an alert on, release what it led to, or close it, which releases too."""
    alert = _known(house, call.text("id"))
    about = str(alert["subject"]).partition(":")[2] or "nobody"
    authorise(house, call.subject, Action.ALERT_CLOSE, alert["id"], about=about)
    change = call.text("change")
    if change not in _STATES:
        raise Usage(
            "ANO-POLICY", "that cannot be done to an alert", fix=f"choose one of {', '.join(_STATES)}"
        )
    facts = {"state": _STATES[change]}
    if alert["state"] == "closed":
        raise Refused("ANO-POLICY", f"{alert['id']} is closed", fix="garrison alerts list --all")
    if owner := call.optional("owner"):
        if not house.people().knows(owner):
            fix = f"garrison user add {owner} --role user"
            raise Refused("GOV-OWNER", f"{owner[:40]!a} is not known here", fix=fix)
        facts["owner"] = owner
    note = call.optional("note")
    if change != "take" and not note:
        raise Usage("ARG-MISSING", "note is missing", fix='say what it was: --note "a load test"')
    if note:
        facts["note"] = note[:MAX_NOTE]
    with house.ledger.transaction() as transaction:
        event = event_of(house, call, Action.ALERT_CLOSE, alert["id"], about=alert["subject"], **facts)
        audit_id = transaction.append(event)
    if "until" in alert["led_to"] and change != "take":
        house.publish_snapshot()
    return {"id": alert["id"], **facts, "audit_id": audit_id}


def detect_respond(house: House, call: Call) -> dict[str, Any]:
    """What one kind of alert leads to, and from which score on it is raised."""
    code = call.text("code")
    if code not in KINDS:
        raise Usage("ANO-POLICY", "that is no kind of alert", fix=f"choose one of {', '.join(KINDS)}")
    authorise(house, call.subject, Action.DETECT_WRITE, code)
    if call.flag("remove"):
        return _write(house, call, code, {"answer_to": {"code": code}, "removed": True}, {"code": code})
    facts: dict[str, Any] = {"code": code}
    action = call.optional("action")
    if action is not None:
        if action not in RESPONSES:
            raise Usage("ANO-POLICY", "that is no response", fix=f"choose one of {', '.join(RESPONSES)}")
        facts["action"] = action
    for key, most in (("per_minute", MOST_A_MINUTE), ("seconds", LONGEST)):
        amount = call.body.get(key)
        if amount is not None:
            if type(amount) is not int or not 0 < amount <= most:
                raise Usage("ANO-POLICY", f"{key} is out of range", fix=f"give a number from 1 to {most}")
            facts[key] = amount
    score = call.body.get("score")
    if score is not None:
        if not isinstance(score, int | float) or isinstance(score, bool):
            raise Usage(
                "ANO-POLICY", "the score is no number", fix="garrison detect status shows those in force"
            )
        Limits().with_scores({code: float(score)})
        facts["score"] = float(score)
    return _write(house, call, code, {"answer_to": facts}, facts)


def detect_network(house: House, call: Call) -> dict[str, Any]:
    """Give an address range a name, by which events and alerts call it."""
    try:
        network = str(ipaddress.ip_network(call.text("network")))
    except ValueError as error:
        raise Usage(
            "ANO-POLICY", "that is no address range", fix="give one such as 10.20.0.0/16 or 2001:db8::/32"
        ) from error
    authorise(house, call.subject, Action.DETECT_WRITE, network)
    known = house.people().access.networks
    if call.flag("remove"):
        if network not in known:
            raise Usage(
                "ANO-POLICY", f"{network} has no name", fix="garrison detect status lists the networks"
            )
        facts = dict(known[network])
        return _write(house, call, network, {"network": facts, "removed": True}, facts)
    name = call.text("name")
    if not _NAME.match(name):
        raise Usage("ANO-POLICY", "that is no name for a network", fix="use letters, digits, dot, dash")
    if len(known) >= MAX_NETWORKS and network not in known:
        raise Refused("ANO-POLICY", f"{MAX_NETWORKS} networks have names", fix="name larger ranges")
    facts = {"network": network, "name": name}
    return _write(house, call, network, {"network": facts}, facts)


def detect_status(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "alerts")
    access, limits = house.people().access, house.watching.watch.limits
    responses = []
    for code, kind in KINDS.items():
        action, per_minute, lasts = response_to(access, code)
        row = {"code": code, "title": kind.title, "from_score": limits.scores[code], "action": action}
        if action != "observe":
            row["seconds"] = int(lasts.total_seconds())
        if action == "throttle":
            row["per_minute"] = per_minute
        responses.append(row)
    return {
        **status(house),
        "responses": responses,
        "networks": [dict(access.networks[name]) for name in sorted(access.networks)],
        "open_alerts": sum(one["state"] not in _ENDED for one in access.alerts.values()),
    }


def _write(
    house: House, call: Call, resource: str, data: dict[str, Any], shown: dict[str, Any]
) -> dict[str, Any]:
    with house.ledger.transaction() as transaction:
        audit_id = transaction.append(event_of(house, call, Action.DETECT_WRITE, resource, **data))
    house.publish_snapshot()
    return {**shown, "audit_id": audit_id}


def _known(house: House, name: str) -> dict[str, Any]:
    alert = house.people().access.alerts.get(name)
    if alert is None:
        raise Usage("ANO-UNKNOWN", f"there is no alert {name[:40]!a}", fix="garrison alerts list --all")
    return dict(alert)


def _shown(alert: Any) -> dict[str, Any]:
    return {key: value for key, value in alert.items() if value not in ("", None)}


ALERT_VERBS = (
    Verb("alerts.list", Action.POSTURE_READ, alert_list),
    Verb("alerts.show", Action.POSTURE_READ, alert_show),
    Verb("alerts.change", Action.ALERT_CLOSE, alert_change),
    Verb("detect.respond", Action.DETECT_WRITE, detect_respond),
    Verb("detect.network", Action.DETECT_WRITE, detect_network),
    Verb("detect.status", Action.POSTURE_READ, detect_status),
)
