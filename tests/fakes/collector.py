"""An OTLP/HTTP receiver that decodes what it gets by OpenTelemetry's own definitions, unknown fields refused."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.fakes.receivers import Receiver

_KINDS: dict[str, Any] = {
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/traces": ExportTraceServiceRequest,
}
_IDS = ("traceId", "spanId", "parentSpanId")  # hex in OTLP's JSON, base64 in protobuf's


class Collector:
    """What was decoded, by signal. A body that is not OTLP is answered with 400."""

    def __init__(self) -> None:
        self.got: dict[str, list[Any]] = {path: [] for path in _KINDS}
        self.receiver = Receiver(self.answer)

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        kind = _KINDS.get(path)
        if kind is None:
            return 404, b""
        try:
            self.got[path].append(decoded(kind, body))
        except (ValueError, json_format.ParseError) as error:
            return 400, str(error).encode()
        return 200, b"{}"

    def logs(self) -> list[Any]:
        return [
            record
            for one in self.got["/v1/logs"]
            for resource in one.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def spans(self) -> list[Any]:
        return [
            span
            for one in self.got["/v1/traces"]
            for resource in one.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def metrics(self) -> dict[str, Any]:
        return {
            metric.name: metric
            for one in self.got["/v1/metrics"]
            for resource in one.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def decoded(kind: Any, body: bytes) -> Any:
    return json_format.ParseDict(_with_base64(json.loads(body)), kind())


def _with_base64(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode() if key in _IDS else _with_base64(item)
            for key, item in value.items()
        }
    return [_with_base64(item) for item in value] if isinstance(value, list) else value


def attributes(thing: Any) -> dict[str, Any]:
    """The attributes of a span, log record or data point as plain values."""
    found = {}
    for one in thing.attributes:
        which = one.value.WhichOneof("value")
        value = getattr(one.value, which)
        found[one.key] = [item.string_value for item in value.values] if which == "array_value" else value
    return found
