"""Counters and histograms of one worker. Names are those of OpenTelemetry's GenAI conventions where those have one
(github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md). Labels come from closed sets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from garrison.evidence.telemetry.family import COUNTER, GAUGE, HISTOGRAM, Family, Labels, Point
from garrison.evidence.telemetry.otlp import OPERATIONS, STAGES
from garrison.evidence.telemetry.prometheus import CONTENT_TYPE, render
from garrison.gateway.exchange import Exchange
from garrison.gateway.record import Record

# The bucket bounds that the conventions advise.
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
EACH = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(float(4**power) for power in range(14))
# Our own: what the gateway itself does takes microseconds.
STAGE = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
MAX_SERIES = 512  # label sets per metric; models are few, and names come from routes only

DURATION = Family(
    "gen_ai.server.request.duration", HISTOGRAM, "s", "time to the last byte of an answer", bounds=SECONDS
)
TO_FIRST = Family(
    "gen_ai.server.time_to_first_token",
    HISTOGRAM,
    "s",
    "time to the first token that may be shown",
    bounds=FIRST,
)
PER_TOKEN = Family(
    "gen_ai.server.time_per_output_token",
    HISTOGRAM,
    "s",
    "time for each token after the first",
    bounds=EACH,
)
USAGE = Family(
    "gen_ai.client.token.usage", HISTOGRAM, "{token}", "tokens of a request and of its answer", bounds=TOKENS
)
REQUESTS = Family("garrison.gateway.requests", COUNTER, "{request}", "requests by how they ended")
STAGES_TOOK = Family(
    "garrison.gateway.stage.duration",
    HISTOGRAM,
    "s",
    "time in each part of a request: ingress, prompt handling, upstream, delivery",
    bounds=STAGE,
)
FINDINGS = Family(
    "garrison.gateway.findings", COUNTER, "{finding}", "requests in which a rule found something"
)
DEFECTS = Family("garrison.gateway.defects", COUNTER, "{defect}", "exceptions that should not happen")
AUTHENTICATION = Family(
    "garrison.gateway.authentication.failures", COUNTER, "{request}", "requests whose caller was not proved"
)
GAUGES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("garrison.gateway.connections", GAUGE, "{connection}", "open connections of clients"),
        Family("garrison.gateway.requests.active", GAUGE, "{request}", "requests in progress"),
        Family("garrison.gateway.connections.refused", GAUGE, "{connection}", "connections over the limit"),
        Family("garrison.gateway.events.unrecorded", GAUGE, "{event}", "events that could not be written"),
        Family(
            "garrison.gateway.snapshots.rejected", GAUGE, "{snapshot}", "snapshots that were not believed"
        ),
        Family(
            "garrison.gateway.upstreams.left_alone",
            GAUGE,
            "{upstream}",
            "model servers that failed too often",
        ),
    )
}
FAMILIES = (
    *(DURATION, TO_FIRST, PER_TOKEN, USAGE, REQUESTS, STAGES_TOOK, FINDINGS, DEFECTS, AUTHENTICATION),
    *GAUGES.values(),
)
"""Everything a worker measures: what dashboards and rules may name."""

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

    def point(self, labels: Labels) -> Point:
        return Point(labels, self.total, tuple(self.counts))


class _Series:
    """The histograms of one operation on one model at one provider."""

    __slots__ = ("completion", "duration", "each", "first", "labels", "prompt")

    def __init__(self, operation: str, model: str, provider: str) -> None:
        self.labels: Labels = (
            ("gen_ai.operation.name", OPERATIONS.get(operation, operation)),
            ("gen_ai.provider.name", provider),
            ("gen_ai.request.model", model),
        )
        self.duration, self.first, self.each = _Histogram(SECONDS), _Histogram(FIRST), _Histogram(EACH)
        self.prompt, self.completion = _Histogram(TOKENS), _Histogram(TOKENS)


@dataclass(slots=True)
class Metrics:
    """`observe` once per request; `families` when somebody asks."""

    counters: dict[tuple[str, Labels], int] = field(default_factory=dict)
    requests: dict[tuple[str, str, str, str], int] = field(
        default_factory=dict
    )  # operation, model, ended, code
    series: dict[tuple[str, str, str], _Series] = field(default_factory=dict)
    failed: dict[tuple[str, str, str, str], _Histogram] = field(default_factory=dict)  # durations, by error
    stages: dict[str, _Histogram] = field(
        default_factory=lambda: {stage: _Histogram(STAGE) for stage in STAGES}
    )

    def count(self, family: Family, labels: Labels) -> None:
        key = (family.name, labels)
        if key in self.counters or len(self.counters) < MAX_SERIES:
            self.counters[key] = self.counters.get(key, 0) + 1

    def defect(self, kind: str) -> None:
        """Something that should not happen: the type of an exception, never its text."""
        self.count(DEFECTS, (("kind", kind),))

    def observe(self, record: Record, now: float) -> None:
        model = record.endpoint.name if record.endpoint is not None else ""
        operation = record.operation or "other"
        key = (operation, model, record.ended, record.code)
        known = self.requests.get(key)
        if known is not None or len(self.requests) < MAX_SERIES:
            self.requests[key] = (known or 0) + 1
        self._staged(record, now)
        if not model:
            return
        provider = record.provider
        series = self.series.get((operation, model, provider))
        if series is None:
            if len(self.series) >= MAX_SERIES:
                return
            series = self.series[operation, model, provider] = _Series(operation, model, provider)
        if record.code:
            self._failed(operation, model, provider, record.code, now - record.started)
        else:
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
            self.count(FINDINGS, (("rule_id", rule), ("model", model)))

    def _staged(self, record: Record, now: float) -> None:
        stages, parsed, judged, answered = self.stages, record.parsed, record.judged, record.answered
        stages["ingress"].add((parsed or now) - record.started)
        if parsed:
            stages["prompt_handling"].add((judged or now) - parsed)
        if judged:
            stages["upstream"].add((answered or now) - judged)
        if answered:
            stages["delivery"].add(now - answered)

    def _failed(self, operation: str, model: str, provider: str, code: str, seconds: float) -> None:
        key = (operation, model, provider, code)
        histogram = self.failed.get(key)
        if histogram is None:
            if len(self.failed) >= MAX_SERIES:
                return
            histogram = self.failed[key] = _Histogram(SECONDS)
        histogram.add(seconds)

    def families(self, gauges: Mapping[str, float]) -> list[Family]:
        """Everything measured so far. `gauges` are named as in `GAUGES`."""
        each = [one for _, one in sorted(self.series.items())]
        counters = list(self.counters.items())
        failed = [
            histogram.point((*self.series[key[:3]].labels, ("error.type", key[3])))
            for key, histogram in sorted(self.failed.items())
        ]
        usage = [
            histogram.point((*one.labels, ("gen_ai.token.type", kind)))
            for one in each
            for kind, histogram in (("input", one.prompt), ("output", one.completion))
        ]
        ended = [
            Point(tuple(zip(_REQUEST_LABELS, key, strict=True)), count)
            for key, count in self.requests.items()
        ]
        found = [
            _with(DURATION, [*(one.duration.point(one.labels) for one in each), *failed]),
            _with(TO_FIRST, (one.first.point(one.labels) for one in each)),
            _with(PER_TOKEN, (one.each.point(one.labels) for one in each)),
            _with(USAGE, usage),
            _with(REQUESTS, ended),
            _with(STAGES_TOOK, (one.point((("stage", name),)) for name, one in self.stages.items())),
        ]
        counted = [
            _with(family, (Point(labels, n) for (name, labels), n in counters if name == family.name))
            for family in (FINDINGS, DEFECTS, AUTHENTICATION)
        ]
        level = [_with(GAUGES[name], [Point((), value)]) for name, value in gauges.items()]
        return [*found, *counted, *level]

    def render(self, gauges: Mapping[str, float]) -> bytes:
        return render(self.families(gauges))


def _with(family: Family, points: Iterable[Point]) -> Family:
    return Family(family.name, family.kind, family.unit, family.help, tuple(points), family.bounds)


def answer_scrape(metrics: Metrics, gauges: Mapping[str, float], exchange: Exchange) -> None:
    """GET /metrics on the loopback listener, or /metrics.json for the control process; anything else is 404."""
    head = exchange.head
    if head is None or exchange.defect is not None:
        exchange.send(400, b"", b"")
    elif head.method == "GET" and head.target == "/metrics":
        exchange.send(200, f"content-type: {CONTENT_TYPE}\r\n".encode(), metrics.render(gauges))
    elif head.method == "GET" and head.target == "/metrics.json":
        body = orjson.dumps([family.as_json() for family in metrics.families(gauges)])
        exchange.send(200, b"content-type: application/json\r\n", body)
    else:
        exchange.send(404, b"", b"")
