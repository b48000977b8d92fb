"""OTLP in its JSON form (opentelemetry-proto 1.x): metrics from families, logs and spans from the ledger's records.

A span is a view of the event that its request left, so it says nothing that the ledger may not hold: no prompt, no
answer, and no identity either, because traces are read by more people than the ledger is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from garrison.core.actions import Action
from garrison.core.event import Event, Outcome
from garrison.core.trace import Trace, span_of, trace_of
from garrison.evidence.export import visible
from garrison.evidence.record import Record
from garrison.evidence.telemetry.family import COUNTER, GAUGE, Family, Labels

SERVER, INTERNAL, CLIENT = 2, 1, 3  # SpanKind
_OK, _ERROR = 0, 2  # Status.code: 0 is unset, as a server leaves it when all is well
_SEVERITY = {
    Outcome.ALLOWED: (9, "INFO"),
    Outcome.DENIED: (13, "WARN"),
    Outcome.UNKNOWN: (13, "WARN"),
    Outcome.ERROR: (17, "ERROR"),
}
_CUMULATIVE = 2
OPERATIONS = {
    "completions": "text_completion",
    "responses": "chat",
    "messages": "chat",
    "infer": "generate_content",
}
STAGES = ("ingress", "prompt_handling", "upstream", "delivery")
"""The parts of a request, one after the other: read and known, judged, asked, passed on."""


def metrics(families: Iterable[Family], resource: Mapping[str, str], start: int, now: int) -> dict[str, Any]:
    """ExportMetricsServiceRequest. `start` and `now` are nanoseconds."""
    found = [_metric(family, start, now) for family in families if family.points]
    scope = {"scope": {"name": "garrison"}, "metrics": found}
    return {"resourceMetrics": [{"resource": _resource(resource), "scopeMetrics": [scope]}]}


def logs(records: Sequence[Record], resource: Mapping[str, str]) -> dict[str, Any]:
    """ExportLogsServiceRequest: each record whole, as its body."""
    scope = {"scope": {"name": "garrison.ledger"}, "logRecords": [_log(record) for record in records]}
    return {"resourceLogs": [{"resource": _resource(resource), "scopeLogs": [scope]}]}


def traces(records: Sequence[Record], resource: Mapping[str, str]) -> dict[str, Any]:
    """ExportTraceServiceRequest: the spans of those records that are requests, and were not asked to be left out."""
    spans = [span for record in records for span in _spans(record)]
    scope = {"scope": {"name": "garrison.gateway"}, "spans": spans}
    return {"resourceSpans": [{"resource": _resource(resource), "scopeSpans": [scope]}]} if spans else {}


def _resource(resource: Mapping[str, str]) -> dict[str, Any]:
    return {"attributes": _attributes(resource.items())}


def _attributes(pairs: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in pairs if value not in ("", None)]


def _value(value: Any) -> dict[str, Any]:
    """An AnyValue. Whole numbers are text, as the JSON form of 64-bit integers is."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if -(1 << 63) <= value < 1 << 63 else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, Mapping):
        values = [{"key": visible(str(key)), "value": _value(item)} for key, item in value.items()]
        return {"kvlistValue": {"values": values}}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": "" if value is None else visible(str(value))}


# --- metrics ---


def _metric(family: Family, start: int, now: int) -> dict[str, Any]:
    body: dict[str, Any] = {"name": family.name, "description": family.help, "unit": family.unit}
    times = {"startTimeUnixNano": str(start), "timeUnixNano": str(now)}
    if family.kind in (COUNTER, GAUGE):
        points = [
            {"attributes": _labels(point.labels), "asDouble": point.value, **times} for point in family.points
        ]
        if family.kind == GAUGE:
            return {**body, "gauge": {"dataPoints": points}}
        return {
            **body,
            "sum": {"dataPoints": points, "aggregationTemporality": _CUMULATIVE, "isMonotonic": True},
        }
    buckets = [
        {
            "attributes": _labels(point.labels),
            "count": str(sum(point.counts)),
            "sum": point.value,
            "bucketCounts": [str(count) for count in point.counts],
            "explicitBounds": list(family.bounds),
            **times,
        }
        for point in family.points
    ]
    return {**body, "histogram": {"dataPoints": buckets, "aggregationTemporality": _CUMULATIVE}}


def _labels(labels: Labels) -> list[dict[str, Any]]:
    return _attributes(labels)


# --- logs ---


def _log(record: Record) -> dict[str, Any]:
    event = record.event
    number, text = _SEVERITY[event.outcome]
    trace = _trace_of(event)
    facts = [
        ("garrison.audit_id", record.audit_id),
        ("garrison.sequence", record.seq),
        ("garrison.leaf", record.leaf.hex()),
        ("garrison.outcome", event.outcome.value),
        ("error.type", event.code),
    ]
    found: dict[str, Any] = {
        "timeUnixNano": _nanoseconds(event),
        "severityNumber": number,
        "severityText": text,
        "eventName": event.action.value,
        "attributes": _attributes(facts),
        "body": _value(event.as_json()),
    }
    if trace is not None:
        found |= {"traceId": trace.id, "spanId": span_of(event.trace_id)}
    return found


def _nanoseconds(event: Event, plus: int = 0) -> str:
    """Whole microseconds: a float would not hold the nanoseconds of today."""
    return str((_microseconds(event) + plus) * 1_000)


def _microseconds(event: Event) -> int:
    return int(event.time.timestamp()) * 1_000_000 + event.time.microsecond


# --- spans ---


def _trace_of(event: Event) -> Trace | None:
    """The trace of a request; None for every other event."""
    if not event.trace_id:
        return None
    told = event.data.get("trace")
    if isinstance(told, dict) and isinstance(told.get("id"), str) and isinstance(told.get("parent"), str):
        return Trace(told["id"], told["parent"], told.get("sampled") is not False)
    return trace_of(event.trace_id)


def _spans(record: Record) -> list[dict[str, Any]]:
    event = record.event
    trace = _trace_of(event)
    latency = event.data.get("latency_ms")
    if trace is None or not trace.sampled or not isinstance(latency, int | float):
        return []
    length = int(latency * 1_000)
    root = span_of(event.trace_id)
    operation, model = _operation(event), event.resource.partition("@")[0]
    is_model = event.action is Action.MODEL_INVOKE
    top = _span(trace.id, root, trace.parent, f"{operation} {model}" if is_model else operation, SERVER)
    top |= {
        "startTimeUnixNano": _nanoseconds(event, -length),
        "endTimeUnixNano": _nanoseconds(event),
        "attributes": _attributes(_facts(record, operation)),
        "status": {"code": _OK if event.outcome is Outcome.ALLOWED else _ERROR},
    }
    return [top, *_parts(event, trace.id, root, length, f"{operation} {model}")]


def _operation(event: Event) -> str:
    told = event.data.get("operation")
    return OPERATIONS.get(told, told) if isinstance(told, str) and told else "request"


def _span(trace: str, span: str, parent: str, name: str, kind: int) -> dict[str, Any]:
    found = {"traceId": trace, "spanId": span, "name": visible(name), "kind": kind}
    return found | {"parentSpanId": parent} if parent else found


def _facts(record: Record, operation: str) -> list[tuple[str, Any]]:
    event, data = record.event, record.event.data
    facts: list[tuple[str, Any]] = [("garrison.audit_id", record.audit_id)]
    if event.action is Action.MODEL_INVOKE:
        facts += [
            ("gen_ai.operation.name", operation),
            ("gen_ai.provider.name", data.get("provider")),
            ("gen_ai.request.model", event.resource.partition("@")[0]),
            ("gen_ai.response.model", event.resource if event.outcome is Outcome.ALLOWED else ""),
            ("gen_ai.request.stream", data.get("stream")),
            ("gen_ai.usage.input_tokens", data.get("prompt_tokens")),
            ("gen_ai.usage.output_tokens", data.get("completion_tokens")),
        ]
    return [
        *facts,
        ("error.type", event.code),
        ("garrison.action", event.action.value),
        ("garrison.outcome", event.outcome.value),
        ("garrison.ended", data.get("ended")),
        ("garrison.model.digest", event.digest),
        ("garrison.policy.version", data.get("policy_version")),
        ("garrison.inspection", data.get("inspection")),
        ("garrison.redacted", data.get("redacted")),
        ("garrison.rules", sorted({finding.rule_id for finding in event.findings}) or None),
    ]


def _parts(event: Event, trace: str, root: str, length: int, asked: str) -> list[dict[str, Any]]:
    """The stages as spans of their own, in the order in which they followed one another."""
    told = event.data.get("stages_us")
    if not isinstance(told, dict):
        return []
    found, at = [], -length
    for stage in STAGES:
        took = told.get(stage)
        if not isinstance(took, int) or took < 0:
            continue
        is_asking = stage == "upstream"
        one = _span(
            trace,
            span_of(event.trace_id, stage),
            root,
            asked if is_asking else f"garrison.{stage}",
            CLIENT if is_asking else INTERNAL,
        )
        one |= {
            "startTimeUnixNano": _nanoseconds(event, at),
            "endTimeUnixNano": _nanoseconds(event, at + took),
        }
        found.append(one)
        at += took
    return found
