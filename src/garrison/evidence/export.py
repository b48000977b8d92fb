"""Records in the forms that other systems read: JSON lines, and OCSF 1.8.0.

A refusal or an alert with findings is a Detection Finding (2004); everything else is API Activity (6003), with the
`ai_operation` profile for what concerns a model. Delivery is at least once: `metadata.uid` is the leaf
hash, by which a SIEM drops doubles and can later prove that the record is in the ledger. There is no
prompt or answer in an event, and no field for one here. All output is ASCII with control, format and
bidi characters written out as text (CWE-117), so no record can forge a line or move a cursor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from garrison.core.actions import Action
from garrison.core.event import Event, Outcome
from garrison.core.finding import Finding, Severity
from garrison.evidence.record import Record

OCSF_VERSION = "1.8.0"
_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_ACTIVITY = {
    Action.ARTIFACT_INGEST: _CREATE,
    Action.ARTIFACT_PUBLISH: _CREATE,
    Action.ARTIFACT_SIGN: _CREATE,
    Action.ARTIFACT_READ: _READ,
    Action.ARTIFACT_PULL: _READ,
    Action.ARTIFACT_VERIFY: _READ,
    Action.ARTIFACT_SCAN: _READ,
    Action.ARTIFACT_APPROVE: _UPDATE,
    Action.ARTIFACT_RETIRE: _DELETE,
    Action.DEPLOY_APPLY: _UPDATE,
    Action.DEPLOY_ROLLBACK: _UPDATE,
    Action.DEPLOY_STOP: _DELETE,
    Action.ROUTE_ADD: _CREATE,
    Action.ROUTE_REMOVE: _DELETE,
    Action.TOKEN_ISSUE: _CREATE,
    Action.TOKEN_REVOKE: _DELETE,
    Action.KEY_CREATE: _CREATE,
    Action.KEY_READ: _READ,
    Action.USER_WRITE: _UPDATE,
    Action.ADMIN_RECOVER: _UPDATE,
    Action.OWNER_WRITE: _UPDATE,
    Action.AUDIT_READ: _READ,
    Action.AUDIT_EXPORT: _READ,
    Action.AUDIT_VERIFY: _READ,
    Action.POSTURE_READ: _READ,
    Action.SNAPSHOT_PUBLISH: _UPDATE,
}
_ACTIVITY_NAMES = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _DELETE: "Delete", _OTHER: "Other"}
_STATUS = {Outcome.ALLOWED: (1, "Success"), Outcome.DENIED: (2, "Failure"), Outcome.ERROR: (2, "Failure")}
_SEVERITY = {
    Severity.INFO: (1, "Informational"),
    Severity.LOW: (2, "Low"),
    Severity.MEDIUM: (3, "Medium"),
    Severity.HIGH: (4, "High"),
    Severity.CRITICAL: (5, "Critical"),
}
_MODEL_ACTIONS = ("model.", "artifact.", "deploy.", "runtime.", "route.")
_ROLE_AI = 2  # message_context.ai_role_id: the model answers


def jsonl(records: Iterable[Record]) -> Iterator[str]:
    """One JSON object a line: the body with its leaf hash. The canonical form of the rest is the leaf's preimage."""
    for record in records:
        yield json.dumps(record.as_json(), sort_keys=True, separators=(",", ":"))


def ocsf(records: Iterable[Record], version: str) -> Iterator[str]:
    """One OCSF event a line. `version` is Garrison's own."""
    for record in records:
        yield json.dumps(to_ocsf(record, version), separators=(",", ":"))


def to_ocsf(record: Record, version: str) -> dict[str, Any]:
    """The OCSF 1.8.0 object of a record (class 2004 or 6003)."""
    event = record.event
    is_telling = event.outcome in {Outcome.DENIED, Outcome.UNKNOWN} or event.action is Action.ALERT_RAISE
    is_detection = is_telling and bool(event.findings)
    if event.action in _ALERTS and event.outcome is Outcome.ALLOWED:
        body = _alert(record, version)
    else:
        body = _detection(record, version) if is_detection else _activity(record, version)
    shown: dict[str, Any] = _shown(body)
    return shown


def _activity(record: Record, version: str) -> dict[str, Any]:
    event = record.event
    activity = _ACTIVITY.get(event.action, _OTHER)
    profiles = ["ai_operation"] if event.action.value.startswith(_MODEL_ACTIONS) else []
    body = {
        **_common(record, version, profiles),
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": 6003,
        "class_name": "API Activity",
        "activity_id": activity,
        "activity_name": _ACTIVITY_NAMES[activity],
        "type_uid": 600300 + activity,
        "actor": _actor(event),
        "api": {"operation": event.action.value, "service": {"name": "garrison"}},
        "src_endpoint": _source(event),
    }
    if profiles and event.resource:
        body["ai_model"] = _ai_model(event)
    if event.action is Action.MODEL_INVOKE:
        body["message_context"] = _message_context(event)
    return body


def _detection(record: Record, version: str) -> dict[str, Any]:
    event = record.event
    return {
        **_common(record, version, []),
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "activity_id": 1,
        "activity_name": "Create",
        "type_uid": 200401,
        "is_alert": True,
        "finding_info": {
            "uid": record.audit_id,
            "title": f"{event.code or 'DENIED'} {event.action.value} {event.resource}",
            "types": sorted({finding.rule_id for finding in event.findings}),
            "created_time": _milliseconds(event),
        },
        "evidences": [
            {"actor": _actor(event), "api": {"operation": event.action.value}, "data": _finding(finding)}
            for finding in event.findings
        ],
    }


def _alert(record: Record, version: str) -> dict[str, Any]:
    """Raised, or taken, released and closed: one finding under the id of the alert, by its life cycle."""
    event = record.event
    alert, state = event.data.get("alert"), str(event.data.get("state", "open"))
    facts: dict[str, Any] = alert if isinstance(alert, dict) else {}
    activity = _CREATE if event.action is Action.ALERT_RAISE else _CLOSE if state == "closed" else _CHANGE
    body = _detection(record, version)
    attacks = [{"technique": {"uid": str(uid)}, "version": _ATLAS} for uid in facts.get("atlas", ())]
    kind, _, name = event.resource.partition(":")
    about = {
        "user": {
            "name": name or kind or "unknown",
            "uid": event.resource or "unknown",
            "type": kind or "unknown",
        }
    }
    uid = str(facts.get("id", "")) or event.resource or record.audit_id
    body |= {
        "activity_id": activity,
        "activity_name": _ALERT_NAMES[activity],
        "type_uid": 200400 + activity,
        "status_id": _ALERT_STATUS[state][0] if state in _ALERT_STATUS else 0,
        "status": _ALERT_STATUS[state][1] if state in _ALERT_STATUS else "Unknown",
        "finding_info": {
            **body["finding_info"],
            "uid": uid,
            "title": f"{event.code or 'alert'} {facts.get('title', state)}: {event.resource}",
            **({"attacks": attacks} if attacks else {}),
        },
    }
    for evidence in body["evidences"]:
        evidence["actor"] = about
    if not body["evidences"]:
        del body["evidences"]
    return body


_ALERTS = frozenset({Action.ALERT_RAISE, Action.ALERT_CLOSE})
_ATLAS = "ATLAS 5"
_CHANGE, _CLOSE = 2, 3
_ALERT_NAMES = {_CREATE: "Create", _CHANGE: "Update", _CLOSE: "Close"}
_ALERT_STATUS = {
    "open": (1, "New"),
    "taken": (2, "In Progress"),
    "released": (2, "In Progress"),
    "closed": (4, "Resolved"),
}


def _common(record: Record, version: str, profiles: list[str]) -> dict[str, Any]:
    event = record.event
    status_id, status = _STATUS.get(event.outcome, (0, "Unknown"))
    severity_id, severity = _worst(event)
    body: dict[str, Any] = {
        "time": _milliseconds(event),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "message": f"{event.actor} {event.action.value} {event.resource}: {event.outcome.value}".strip(),
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": "Garrison", "vendor_name": "Garrison", "version": version},
            "uid": record.leaf.hex(),
            "original_event_uid": record.audit_id,
            "sequence": record.seq,
            "event_code": event.action.value,
            "log_name": "garrison.ledger",
            "profiles": profiles,
        },
        "unmapped": {"outcome": event.outcome.value, **event.data},
    }
    if event.trace_id:
        body["metadata"]["correlation_uid"] = event.trace_id
    if event.code:
        body["status_code"] = event.code
    if event.resource:
        body["resources"] = [_resource(event)]
    return body


def _milliseconds(event: Event) -> int:
    return int(event.time.timestamp() * 1000)


def _worst(event: Event) -> tuple[int, str]:
    if event.findings:
        return _SEVERITY[max((finding.severity for finding in event.findings), key=lambda one: one.rank)]
    return _SEVERITY[Severity.INFO if event.outcome is Outcome.ALLOWED else Severity.MEDIUM]


def _actor(event: Event) -> dict[str, Any]:
    kind, _, name = event.actor.partition(":")
    return {
        "user": {
            "name": name or kind or "anonymous",
            "uid": event.actor or "anonymous:",
            "type": kind or "anonymous",
        }
    }


def _source(event: Event) -> dict[str, Any]:
    address = event.data.get("client_ip")
    return {"ip": address} if isinstance(address, str) and address else {"svc_name": "garrison"}


def _resource(event: Event) -> dict[str, Any]:
    found = {"name": event.resource, "type": event.action.value.partition(".")[0]}
    return found | {"uid": event.digest} if event.digest else found


def _ai_model(event: Event) -> dict[str, Any]:
    name, _, version = event.resource.partition("@")
    found = {"name": name or event.resource, "ai_provider": "garrison"}
    found |= {"version": version} if version else {}
    return found | {"uid": event.digest} if event.digest else found


def _message_context(event: Event) -> dict[str, Any]:
    context: dict[str, Any] = {"service": {"name": "garrison"}, "ai_role_id": _ROLE_AI}
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        count = event.data.get(name)
        if isinstance(count, int) and not isinstance(count, bool):
            context[name] = count
    return context


def _finding(finding: Finding) -> dict[str, Any]:
    return finding.as_json()


def _shown(value: Any) -> Any:
    """The value with every control, format and bidi character of its texts written out."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return value


def visible(text: str) -> str:
    """Text that a terminal or a log viewer shows as it is: unprintable characters as `\\x1b`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
