"""An OpenTelemetry receiver by OTLP/HTTP with JSON bodies: events as logs, requests as spans, figures as metrics.

Records are taken when the receiver says 2xx and rejects none of them. A sender of our own, because the vendor's
SDK would sit on the request path; this one reads the ledger, behind it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from garrison.evidence.record import Record
from garrison.evidence.sinks.base import token_of
from garrison.evidence.sinks.http import post, rejected
from garrison.evidence.sinks.sink import Sink, place_of
from garrison.evidence.telemetry import otlp
from garrison.evidence.telemetry.family import Family

_PATHS = {"logs": "/v1/logs", "traces": "/v1/traces", "metrics": "/v1/metrics"}
_REJECTED = ("rejectedLogRecords", "rejectedSpans", "rejectedDataPoints")


class Otlp:
    """`resource` says who sends: service.name, service.version, service.instance.id."""

    def __init__(self, sink: Sink, resource: Mapping[str, str]) -> None:
        self._sink = sink
        self._resource = resource

    def send(self, records: Sequence[Record]) -> None:
        for signal, made in (("logs", otlp.logs), ("traces", otlp.traces)):
            if signal in self._sink.signals and (body := made(records, self._resource)):
                self._post(signal, body)

    def send_metrics(self, families: Iterable[Family], start: int, now: int) -> None:
        """Raises as `send`."""
        self._post("metrics", otlp.metrics(families, self._resource, start, now))

    def _post(self, signal: str, body: dict[str, Any]) -> None:
        token = token_of(self._sink)
        headers = {"content-type": "application/json"}
        headers |= {"authorization": f"Bearer {token}"} if token else {}
        base = place_of(self._sink.url).path.rstrip("/")
        data = json.dumps(body, separators=(",", ":")).encode("ascii")
        self._check(post(self._sink, base + _PATHS[signal], headers, data))

    def _check(self, answer: bytes) -> None:
        """A partial success is one only when nothing was rejected (OTLP, "Partial success")."""
        try:
            partial = json.loads(answer).get("partialSuccess") or {}
            count = sum(int(partial.get(name, 0)) for name in _REJECTED)
        except (ValueError, AttributeError, TypeError, RecursionError):
            return  # an empty body, or one of a receiver that says less
        if count:
            raise rejected(self._sink, f"it rejected {count} of them")
