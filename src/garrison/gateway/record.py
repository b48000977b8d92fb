"""What is known about one request, gathered as it goes, and the one event it leaves. Never any text.

Names that a caller chose appear only when they have the form of a name; everything else is counts, rule
ids, codes and times.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from garrison.core.actions import Action
from garrison.core.decision import ANONYMOUS, Endpoint, Subject
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused, Usage
from garrison.core.event import Outcome, format_time
from garrison.core.finding import Finding, Severity
from garrison.core.trace import Trace
from garrison.detect.base import Doubt, TextFinding
from garrison.gateway.limits import Counted, Reservation, Spend
from garrison.gateway.rules import PLAIN, RouteRules
from garrison.gateway.upstreams.backend import Backend

PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "sagemaker": "aws.sagemaker",
    "vertex": "gcp.vertex_ai",
}  # by kind of server; the others are called the same
MAX_FINDINGS = 20  # per event: one line has a size limit, and the first twenty tell the story


@dataclass(slots=True)
class Record:
    """One request's facts. `ended` is `complete`, `refused`, `cut`, `failed` or `client_gone`."""

    request_id: str
    started: float  # monotonic seconds
    subject: Subject = ANONYMOUS
    token_id: str = ""
    action: Action = Action.MODEL_INVOKE
    resource: str = "unknown"
    operation: str = ""
    endpoint: Endpoint | None = None
    policy_version: str = ""
    snapshot_version: int = 0
    stream: bool = False
    unproved: dict[str, str] | None = None  # of a failed authentication: source, reason, identity
    counted: Counted | None = None
    spend: Spend | None = None
    reservation: Reservation | None = None
    findings: list[Finding] = field(default_factory=list)
    redacted: bool = False
    use: dict[str, Any] | None = None  # from where, with what: `use.Uses`
    incomplete: frozenset[str] = frozenset()  # detectors that failed, where the route lets that pass
    excepted: frozenset[str] = frozenset()  # rules that would have counted here and were excepted
    observed: frozenset[str] = frozenset()  # rules that would have blocked on a route that enforces
    doubts: list[tuple[Doubt, frozenset[str]]] = field(
        default_factory=list
    )  # not settled yet, and what is excepted
    rules: RouteRules = PLAIN
    scanned_in: int = 0  # bytes of text (UTF-8) that detectors were given, of the request
    scanned_out: int = 0  # and of the answer
    images: int = 0  # passed on, not read
    backend: Backend | None = None  # who answered, of a route with several
    retries: int = 0
    asked_by: str = ""  # the proxy that only asked, and passes the request on itself
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens_counted: bool = False  # by the model server; otherwise they are an estimate
    # Monotonic seconds, 0 when it did not come so far: read and known; judged; the model answered (a stream: began
    # to); the first bytes that may be shown.
    parsed: float = 0.0
    judged: float = 0.0
    answered: float = 0.0
    first_byte: float = 0.0
    trace: Trace | None = None  # of a caller who told one
    ended: str = "failed"
    outcome: Outcome = Outcome.ERROR
    code: str = ""

    def asked_for(self, model: str) -> None:
        """Note the name of a model that is served; any other name is text from outside and is not kept."""
        try:
            self.resource = str(Ref.parse(model)) if "@" in model else Ref.parse(f"{model}@1").name
        except Usage:
            self.resource = "unknown"

    def found(self, direction: str, found: Iterable[TextFinding]) -> None:
        for item in found:
            if len(self.findings) < MAX_FINDINGS:
                severity = Severity.HIGH if item.score >= 0.8 else Severity.MEDIUM
                where = f"{direction}[{item.start}:{item.end}]"
                self.findings.append(Finding(item.rule_id, severity, item.kind, where))

    def refused(self, error: GarrisonError) -> None:
        self.code = error.code
        if isinstance(error, Refused | Usage):
            self.outcome, self.ended = Outcome.DENIED, "refused"
        else:
            self.outcome, self.ended = Outcome.ERROR, "failed"

    def complete(self) -> None:
        self.outcome, self.ended = Outcome.ALLOWED, "complete"

    @property
    def digest(self) -> str:
        """Of the model that answered, or would have."""
        if self.backend is not None:
            return self.backend.digest
        return self.endpoint.digest if self.endpoint is not None else ""

    @property
    def provider(self) -> str:
        """Who runs the model, in the words of the GenAI conventions; a sandbox here is ours."""
        if self.backend is not None:
            return PROVIDERS.get(self.backend.kind, self.backend.kind)
        return "garrison" if self.endpoint is not None and self.endpoint.version else "openai"

    def stages(self, now: float) -> dict[str, int]:
        """Microseconds in each part, one after the other; the last one is where it ended."""
        started, parsed, judged, answered = self.started, self.parsed, self.judged, self.answered
        if answered:
            return {
                "ingress": int((parsed - started) * 1e6),
                "prompt_handling": int((judged - parsed) * 1e6),
                "upstream": int((answered - judged) * 1e6),
                "delivery": int((now - answered) * 1e6),
            }
        found = {"ingress": int(((parsed or now) - started) * 1e6)}
        if parsed:
            found["prompt_handling"] = int(((judged or now) - parsed) * 1e6)
        if judged:
            found["upstream"] = int((now - judged) * 1e6)
        return found

    def settle(self, now: float) -> None:
        """Give back what was reserved and not used."""
        if self.reservation is not None:
            seconds = now - self.started if self.stream else 0.0
            self.reservation.settle(self.prompt_tokens, self.completion_tokens, seconds)

    def event(self, time: str, now: float) -> dict[str, Any]:
        """The one event, in the shape of `core.event.Event.as_json`. `time` is RFC 3339, `now` monotonic seconds.

        The mapping is built directly: through an `Event` it would cost a tenth of the whole request.
        """
        endpoint = self.endpoint
        data: dict[str, Any] = {
            "ended": self.ended,
            "operation": self.operation,
            "stream": self.stream,
            "latency_ms": _milliseconds(now - self.started),
            "stages_us": self.stages(now),
            "policy_version": self.policy_version,
            "snapshot_version": self.snapshot_version,
        }
        if self.trace is not None:
            trace = self.trace
            data["trace"] = {"id": trace.id, "parent": trace.parent, "sampled": trace.sampled}
        if self.unproved is not None:
            data["authentication"] = self.unproved
        if self.token_id:
            data["token_id"] = self.token_id
            data["via"] = self.subject.via
        if endpoint is not None:
            data["tier"] = endpoint.tier
            data["provider"] = self.provider
            data["prompt_tokens"] = self.prompt_tokens
            data["completion_tokens"] = self.completion_tokens
            data["tokens_counted"] = self.tokens_counted
            data["redacted"] = self.redacted
            data["inspection"] = "request only" if self.asked_by else self.rules.stream
            data["scanned_in"], data["scanned_out"] = self.scanned_in, self.scanned_out
            if self.backend is not None:
                data["upstream"], data["retries"] = self.backend.id, self.retries
            if self.images:
                data["images_not_read"] = self.images
        if self.asked_by:
            data["asked_by"] = self.asked_by
        if self.use:
            data["use"] = self.use
        if self.incomplete:
            data["incomplete"] = sorted(self.incomplete)
        if self.excepted:
            data["excepted"] = sorted(self.excepted)
        if self.observed:
            data["observed"] = sorted(self.observed)
        if self.first_byte:
            data["ttft_ms"] = _milliseconds(self.first_byte - self.started)
        return {
            "time": time,
            "action": self.action,
            "actor": self.subject.actor,
            "resource": self.resource,
            "outcome": self.outcome,
            "code": self.code,
            "digest": self.digest,
            "findings": [finding.as_json() for finding in self.findings] if self.findings else [],
            "data": data,
            "trace_id": self.request_id,
        }


def _milliseconds(seconds: float) -> float:
    """With one decimal, cut rather than rounded."""
    return int(seconds * 10_000) / 10


class ClockText:
    """RFC 3339 times with microseconds; the text of a second is made once (`core.event.format_time`)."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def at(self, wall: float) -> str:
        second = int(wall)
        if second != self._second:
            self._second = second
            self._prefix = format_time(datetime.fromtimestamp(second, UTC))[:20]
        return f"{self._prefix}{int((wall - second) * 1_000_000):06d}Z"
