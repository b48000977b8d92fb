"""Counters and histograms of one worker, as Prometheus text. Names follow OpenTelemetry's GenAI conventions
where those have one (opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics). Labels come from closed sets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from garrison.gateway.exchange import Exchange
from garrison.gateway.record import Record

# The bucket bounds that the conventions advise for durations, in seconds.
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
MAX_SERIES = 512  # label sets per metric; models are few, and names come from routes only

Labels = tuple[tuple[str, str], ...]


_HISTOGRAMS = (
    "gen_ai_server_request_duration_seconds",
    "gen_ai_server_time_to_first_token_seconds",
    "gen_ai_server_time_per_output_token_seconds",
    "gen_ai_client_token_usage",
)


_REQUEST_LABELS = ("operation", "model", "ended", "code")


class _Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Series:
    """The histograms of one operation on one model."""

    __slots__ = ("completion", "duration", "each", "first", "labels", "prompt")

    def __init__(self, operation: str, model: str) -> None:
        self.labels: Labels = (("gen_ai_operation_name", operation), ("gen_ai_request_model", model))
        self.duration, self.first, self.each = _Histogram(SECONDS), _Histogram(SECONDS), _Histogram(SECONDS)
        self.prompt, self.completion = _Histogram(TOKENS), _Histogram(TOKENS)

    def all(self) -> tuple[tuple[str, Labels, _Histogram], ...]:
        duration, first, each, usage = _HISTOGRAMS
        return (
            (duration, self.labels, self.duration),
            (first, self.labels, self.first),
            (each, self.labels, self.each),
            (usage, (*self.labels, ("gen_ai_token_type", "input")), self.prompt),
            (usage, (*self.labels, ("gen_ai_token_type", "output")), self.completion),
        )


@dataclass(slots=True)
class Metrics:
    """`observe` once per request; `render` when scraped."""

    counters: dict[tuple[str, Labels], int] = field(default_factory=dict)
    requests: dict[tuple[str, str, str, str], int] = field(
        default_factory=dict
    )  # operation, model, ended, code
    series: dict[tuple[str, str], _Series] = field(default_factory=dict)

    def count(self, name: str, labels: Labels, amount: int = 1) -> None:
        key = (name, labels)
        if key in self.counters or len(self.counters) < MAX_SERIES:
            self.counters[key] = self.counters.get(key, 0) + amount

    def defect(self, kind: str) -> None:
        """Something that should not happen: the type of an exception, never its text."""
        self.count("garrison_gateway_defects_total", (("kind", kind),))

    def observe(self, record: Record, now: float) -> None:
        model = record.endpoint.name if record.endpoint is not None else ""
        operation = record.operation or "other"
        key = (operation, model, record.ended, record.code)
        known = self.requests.get(key)
        if known is not None or len(self.requests) < MAX_SERIES:
            self.requests[key] = (known or 0) + 1
        if not model:
            return
        series = self.series.get((operation, model))
        if series is None:
            if len(self.series) >= MAX_SERIES:
                return
            series = self.series[operation, model] = _Series(operation, model)
        series.duration.add(now - record.started)
        if record.first_byte:
            series.first.add(record.first_byte - record.started)
            if record.completion_tokens > 1:
                series.each.add((now - record.first_byte) / (record.completion_tokens - 1))
        if record.prompt_tokens:
            series.prompt.add(record.prompt_tokens)
        if record.completion_tokens:
            series.completion.add(record.completion_tokens)
        if not record.findings:
            return
        for rule in {finding.rule_id for finding in record.findings}:
            self.count("garrison_gateway_findings_total", (("rule_id", rule), ("model", model)))

    def render(self, gauges: Mapping[str, float]) -> bytes:
        """Prometheus text exposition format 0.0.4."""
        lines: list[str] = []
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        counters = self.counters | {
            ("garrison_gateway_requests_total", tuple(zip(_REQUEST_LABELS, key, strict=True))): value
            for key, value in self.requests.items()
        }
        for family in sorted({name for name, _ in counters}):
            lines.append(f"# TYPE {family} counter")
            lines += [
                f"{name}{_labels(labels)} {value}"
                for (name, labels), value in counters.items()
                if name == family
            ]
        for family in _HISTOGRAMS:
            if self.series:
                lines.append(f"# TYPE {family} histogram")
            for series in self.series.values():
                for name, labels, histogram in series.all():
                    if name == family:
                        lines += _lines(name, labels, histogram)
        return "\n".join(lines).encode() + b"\n"


def _lines(name: str, labels: Labels, histogram: _Histogram) -> list[str]:
    lines, running = [], 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        running += count
        edge = "+Inf" if bound == float("inf") else f"{bound:g}"
        lines.append(f"{name}_bucket{_labels((*labels, ('le', edge)))} {running}")
    lines.append(f"{name}_sum{_labels(labels)} {histogram.total:.6f}")
    lines.append(f"{name}_count{_labels(labels)} {running}")
    return lines


def _labels(labels: Labels) -> str:
    quoted = (
        f'{name}="{value.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"'
        for name, value in labels
    )
    return "{" + ",".join(quoted) + "}" if labels else ""


def answer_scrape(metrics: Metrics, gauges: Mapping[str, float], exchange: Exchange) -> None:
    """GET /metrics on the loopback listener; anything else is 404."""
    head = exchange.head
    if head is None or exchange.defect is not None:
        exchange.send(400, b"", b"")
    elif head.method == "GET" and head.target == "/metrics":
        kind = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
        exchange.send(200, kind, metrics.render(gauges))
    else:
        exchange.send(404, b"", b"")
