"""The wire of a sink: its kind and its form put together, each event no larger than the receiver takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from garrison.core.event import Event
from garrison.evidence.cef import to_cef
from garrison.evidence.export import to_ocsf
from garrison.evidence.record import Record, make_record
from garrison.evidence.sinks.base import Wire
from garrison.evidence.sinks.file import File
from garrison.evidence.sinks.hec import Hec
from garrison.evidence.sinks.http import Http
from garrison.evidence.sinks.otlp import Otlp
from garrison.evidence.sinks.sink import Sink
from garrison.evidence.sinks.syslog import Line, Syslog

HEAD_BYTES = 384  # of a syslog message before its text: a host name has at most 255
KEPT_FINDINGS = 3  # of an event that is too large for its receiver; the ledger has the rest


def wire_of(sink: Sink, version: str, host: str, instance: str) -> Wire:
    line = _fitting(_line(sink, version), sink.largest)
    match sink.kind:
        case "syslog":
            return Syslog(sink, line, host)
        case "hec":
            return Hec(sink, _json(sink, version), host)
        case "otlp":
            return Otlp(sink, resource_of(version, host, instance))
        case "http":
            return Http(sink, line)
    return File(sink, line)


def resource_of(version: str, host: str, instance: str) -> Mapping[str, str]:
    """Who measures, in OpenTelemetry's resource attributes."""
    return {
        "service.name": "garrison",
        "service.version": version,
        "service.instance.id": instance,
        "host.name": host,
    }


def _line(sink: Sink, version: str) -> Line:
    if sink.form == "cef":
        return lambda record: to_cef(record, version)
    to_json = _json(sink, version)
    return lambda record: json.dumps(to_json(record), separators=(",", ":"))


def _json(sink: Sink, version: str) -> Any:
    if sink.form == "json":
        return lambda record: record.as_json()
    return lambda record: to_ocsf(record, version)


def _fitting(line: Line, largest: int) -> Line:
    """The same line, made from less of the event when it is larger than that: never cut in the middle."""
    if not largest:
        return line

    def fitted(record: Record) -> str:
        text = line(record)
        if len(text) + HEAD_BYTES <= largest:
            return text
        event = record.event
        shorter = replace(event, data={"left_out_bytes": len(text)}, findings=event.findings[:KEPT_FINDINGS])
        text = line(_of(record, shorter))
        if len(text) + HEAD_BYTES <= largest:
            return text
        return line(_of(record, replace(shorter, findings=(), resource=event.resource[:200])))

    return fitted


def _of(record: Record, event: Event) -> Record:
    """The record with less in it, still under its own leaf hash: that is how the whole one is found."""
    return replace(make_record(record.seq, event), leaf=record.leaf)
