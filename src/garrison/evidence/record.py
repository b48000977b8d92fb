"""One event as the ledger keeps it: canonical JSON bytes, their leaf hash, and the way back.

The body is what the tree covers. It names its own position (`id`), so a record moved elsewhere
contradicts itself. Producers put masked facts into events; should one slip, fields that by their name
hold content or a secret are kept as digest and length only, and the size of everything is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from garrison.core.actions import Action
from garrison.core.digest import canonical_json, sha256_bytes
from garrison.core.errors import Usage
from garrison.core.event import Event, Outcome, parse_time
from garrison.core.finding import Finding, Severity
from garrison.evidence.merkle import leaf_hash

SCHEMA = "garrison.event/1"
MAX_BODY_BYTES = 65_536  # an event is ~600 bytes; a larger one is a defect of its maker, kept by digest
MAX_TEXT = 1_024  # actor, resource and the like: longer than any name, path or URL that belongs in a row
MAX_FINDINGS = 100  # the first hundred say why; the count says how many
# Names under which content or a secret would travel. No event of ours uses them for anything else.
CONTENT_FIELDS = frozenset(
    {
        "prompt",
        "prompts",
        "message",
        "messages",
        "content",
        "text",
        "input",
        "output",
        "completion",
        "answer",
        "response",
        "document",
        "body",
        "secret",
        "password",
        "token",
        "access_token",
        "api_key",
        "authorization",
        "cookie",
        "pin",
        "private_key",
    }
)
_TEXTS = ("actor", "resource", "code", "digest", "trace_id")
_ID = re.compile(r"a-([0-9]{1,18})\Z")


@dataclass(frozen=True, slots=True)
class Record:
    """Number `seq` (from 1) of the ledger. `body` are the bytes under `leaf`."""

    seq: int
    event: Event
    body: bytes
    leaf: bytes

    @property
    def audit_id(self) -> str:
        return audit_id(self.seq)

    def as_json(self) -> dict[str, Any]:
        """The body with the leaf hash beside it, for people and exports."""
        return {**json.loads(self.body), "leaf": self.leaf.hex()}


def audit_id(seq: int) -> str:
    return f"a-{seq:06d}"


def parse_audit_id(text: str) -> int:
    """The sequence number of `a-000412`. Raises `Usage` AUD-ID."""
    match = _ID.match(text)
    if match is None:
        raise Usage("AUD-ID", f"{text!r} is not an audit id", fix="use an id such as a-000412 (audit list)")
    return int(match[1])


def make_record(seq: int, event: Event) -> Record:
    """The record of `event` at position `seq`. Raises TypeError or ValueError when data is not JSON."""
    masked = _masked(event.data)
    if masked is not event.data:
        event = replace(event, data=masked)
    fields = event.as_json()
    short = all(len(fields[name]) <= MAX_TEXT for name in _TEXTS) and len(event.findings) <= MAX_FINDINGS
    try:
        body = _body(seq, fields) if short else b""
    except UnicodeEncodeError:  # an undecodable file name; written out below
        body = b""
    if not 0 < len(body) <= MAX_BODY_BYTES:
        fields = _bounded(seq, fields)
        body, event = _body(seq, fields), event_from_json(fields)
    if canonical_json(json.loads(body)) != body:
        raise ValueError("an event's data is JSON whose keys are strings")
    return Record(seq, event, body, leaf_hash(body))


def _masked(data: dict[str, Any]) -> dict[str, Any]:
    """The data with content fields replaced by what identifies them; the same object when there are none."""
    changed: dict[str, Any] = {}
    for key, value in data.items():
        if key in CONTENT_FIELDS:
            raw = str(value).encode("utf-8", "backslashreplace")
            changed[key] = {"masked": sha256_bytes(raw), "bytes": len(raw)}
        elif isinstance(value, dict):
            inner = _masked(value)
            if inner is not value:
                changed[key] = inner
        elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
            changed[key] = [_masked(item) if isinstance(item, dict) else item for item in value]
    return {**data, **changed} if changed else data


def _body(seq: int, fields: dict[str, Any]) -> bytes:
    return canonical_json({"schema": SCHEMA, "id": audit_id(seq), **fields})


def _bounded(seq: int, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields made encodable and cut to their limits; what was cut is kept by count or digest."""
    fields = _encodable(fields)
    for name in _TEXTS:
        fields[name] = fields[name][:MAX_TEXT]
    if len(fields["findings"]) > MAX_FINDINGS:
        fields["data"] = {**fields["data"], "findings_total": len(fields["findings"])}
        fields["findings"] = fields["findings"][:MAX_FINDINGS]
    body = _body(seq, fields)
    if len(body) > MAX_BODY_BYTES:
        fields["findings"] = []
        fields["data"] = {"oversize": {"bytes": len(body), "digest": sha256_bytes(body)}}
    return fields


def read_record(seq: int, body: bytes, leaf: bytes) -> Record:
    """A stored record. Raises ValueError when the body is not the canonical form of an event at `seq`."""
    if len(body) > MAX_BODY_BYTES:
        raise ValueError("the body is larger than any event")
    try:
        fields = json.loads(body)
    except RecursionError as error:
        raise ValueError("the body is nested too deep") from error
    if not isinstance(fields, dict) or fields.get("schema") != SCHEMA or fields.get("id") != audit_id(seq):
        raise ValueError(f"the body is not the record {audit_id(seq)}")
    if canonical_json(fields) != body:
        raise ValueError("the body is not canonical")
    return Record(seq, event_from_json(fields), body, leaf)


def event_from_json(fields: Mapping[str, Any]) -> Event:
    """The inverse of `Event.as_json`, every type checked. Raises ValueError."""
    texts = {name: fields.get(name, "") for name in _TEXTS}
    data, findings = fields.get("data", {}), fields.get("findings", [])
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("actor, resource, code, digest and trace_id are strings")
    if not isinstance(data, dict) or not isinstance(findings, list):
        raise ValueError("data is an object and findings a list")
    moment, action, outcome = fields.get("time"), fields.get("action"), fields.get("outcome")
    if not isinstance(moment, str) or not isinstance(action, str) or not isinstance(outcome, str):
        raise ValueError("time, action and outcome are strings")
    return Event(
        time=parse_time(moment),
        action=Action(action),
        outcome=Outcome(outcome),
        findings=tuple(_finding(row) for row in findings),
        data=data,
        **texts,
    )


def _finding(row: Any) -> Finding:
    if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
        raise ValueError("a finding is an object of strings")
    return Finding(
        row.get("rule_id", ""),
        Severity(row.get("severity", "info")),
        row.get("message", ""),
        row.get("where", ""),
        row.get("fix", ""),
    )


def _encodable(value: Any) -> Any:
    """The value with unpaired surrogates (from undecodable file names) written as `\\udcxx`."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("the keys of an event's data are strings")
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value
