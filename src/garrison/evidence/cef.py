"""A record as ArcSight CEF, version 0: one line, every value escaped as the format's own guide says.

In the header a bar and a backslash are escaped, in the extension an equals sign and a backslash; line ends are
written out. What was cut to the length that a key allows is still found by its audit id.
"""

from __future__ import annotations

import ipaddress

from garrison.core.event import Outcome
from garrison.core.finding import Severity
from garrison.evidence.export import visible
from garrison.evidence.record import Record

MAX_VALUE = 1_023  # of most string keys in the dictionary of CEF
_SEVERITY = {Severity.INFO: 2, Severity.LOW: 3, Severity.MEDIUM: 5, Severity.HIGH: 8, Severity.CRITICAL: 10}
_OUTCOME = {Outcome.ALLOWED: 2, Outcome.DENIED: 5, Outcome.ERROR: 6, Outcome.UNKNOWN: 6}


def to_cef(record: Record, version: str) -> str:
    """One line of ASCII. `version` is Garrison's own."""
    event = record.event
    name = f"{event.action.value} {event.outcome.value}"
    header = ("CEF:0", "Garrison", "Garrison", version, event.code or event.action.value, name)
    severity = max(
        [_OUTCOME[event.outcome], *(_SEVERITY[finding.severity] for finding in event.findings)], default=2
    )
    fields = " ".join(f"{key}={_value(value)}" for key, value in _fields(record) if value)
    return "|".join([*(_head(part) for part in header), str(severity), fields])


def _fields(record: Record) -> list[tuple[str, str]]:
    event = record.event
    kind, _, name = event.actor.partition(":")
    rules = ",".join(sorted({finding.rule_id for finding in event.findings}))
    found = [
        ("rt", str(int(event.time.timestamp() * 1_000))),
        ("externalId", record.audit_id),
        ("act", event.action.value),
        ("outcome", event.outcome.value),
        ("reason", event.code),
        ("suser", name),
        ("suid", event.actor if name else kind),
        *_source(event.data),
        ("cn1Label", "sequence"),
        ("cn1", str(record.seq)),
    ]
    customs = (
        ("resource", event.resource),
        ("digest", event.digest),
        ("leaf", record.leaf.hex()),
        ("rules", rules),
        ("trace", event.trace_id),
    )
    for number, (label, value) in enumerate(customs, 1):
        if value:
            found += [(f"cs{number}Label", label), (f"cs{number}", value)]
    return found


def _source(data: dict[str, object]) -> list[tuple[str, str]]:
    """Where it came from, when that is an IP address: the keys take nothing else, and each its own kind."""
    proved = data.get("authentication")
    text = data.get("client_ip") or (proved.get("source") if isinstance(proved, dict) else "")
    try:
        address = ipaddress.ip_address(str(text))
    except ValueError:
        return []
    if address.version == 4:
        return [("src", str(address))]
    return [("c6a2Label", "Source IPv6 Address"), ("c6a2", str(address))]


def _head(text: str) -> str:
    return _ascii(text[:MAX_VALUE]).replace("\\", "\\\\").replace("|", "\\|")


def _value(text: str) -> str:
    return _ascii(text[:MAX_VALUE]).replace("\\", "\\\\").replace("=", "\\=")


def _ascii(text: str) -> str:
    """Printable ASCII; every other character is written out, so that no viewer reads it as anything else."""
    return visible(text).encode("ascii", "backslashreplace").decode()
