"""Facts folded from the ledger: counts, activity per model, failed authentication, releases, deployments.

A view is a pure fold over records in order. It remembers the last record (`cursor`), so it can be kept
going; rebuilt from the first record it is equal to the one that was kept. Names come from requests, so
every mapping has a bound, and what is over it is counted under one name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from garrison.core.actions import Action
from garrison.core.event import Event, Outcome, format_time
from garrison.evidence.record import Record

MAX_NAMES = 1_000  # models, versions, subjects or codes told apart; names in refused requests are anyone's
OTHER = "(other)"
MINUTES = 60  # buckets of the request rate that are kept


@dataclass(slots=True)
class ModelActivity:
    """What happened with one model (by name). Times are RFC 3339; latencies milliseconds."""

    requests: int = 0
    allowed: int = 0
    denied: int = 0
    errors: int = 0
    latency_ms_sum: float = 0.0
    latency_ms_max: float = 0.0
    latency_count: int = 0
    last_request: str = ""
    last_verify: str = ""
    last_verify_ok: bool = False
    last_load: str = ""
    isolation: str = ""
    crashes: int = 0
    per_minute: dict[str, int] = field(default_factory=dict)

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    @property
    def latency_ms_mean(self) -> float:
        return self.latency_ms_sum / self.latency_count if self.latency_count else 0.0


@dataclass(slots=True)
class ReleaseFact:
    """A version as the ledger tells it. `state` is published, approved or retired."""

    digest: str
    state: str
    owner: str = ""
    tier: str = ""


@dataclass(slots=True)
class Facts:
    """Everything folded so far. `counts` maps "action outcome code" to a number."""

    cursor: int = 0
    last_time: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    models: dict[str, ModelActivity] = field(default_factory=dict)
    failed_authentication: dict[str, int] = field(default_factory=dict)
    releases: dict[str, ReleaseFact] = field(default_factory=dict)
    deployments: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)  # subject: longest lifetime in seconds ever issued
    probes: dict[str, tuple[int, int]] = field(default_factory=dict)  # sandbox level: (denied, tried)


def fold(facts: Facts, records: Iterable[Record]) -> Facts:
    """`facts` with the records added that come after its cursor; others are passed over. Returns it."""
    for record in records:
        if record.seq > facts.cursor:
            _add(facts, record.event)
            facts.cursor = record.seq
    return facts


def _add(facts: Facts, event: Event) -> None:
    facts.last_time = format_time(event.time)
    _count(facts.counts, f"{event.action.value} {event.outcome.value} {event.code}".rstrip())
    if event.code.startswith(("TOK-", "ID-")):
        _count(facts.failed_authentication, event.code)
    if event.action is Action.MODEL_INVOKE:
        _request(_model(facts, event.resource), event)
    elif event.action in _OF_MODELS:
        _happened(_model(facts, event.resource), event)
    if event.outcome is Outcome.ALLOWED:
        _changed(facts, event)


def _request(activity: ModelActivity, event: Event) -> None:
    activity.requests += 1
    activity.allowed += event.outcome is Outcome.ALLOWED
    activity.denied += event.outcome in {Outcome.DENIED, Outcome.UNKNOWN}
    activity.errors += event.outcome is Outcome.ERROR
    activity.last_request = format_time(event.time)
    latency = _number(event.data.get("latency_ms"))
    if latency is not None:
        activity.latency_ms_sum += latency
        activity.latency_count += 1
        activity.latency_ms_max = max(activity.latency_ms_max, latency)
    minute = format_time(event.time)[:16]
    activity.per_minute[minute] = activity.per_minute.get(minute, 0) + 1
    if len(activity.per_minute) > MINUTES:
        del activity.per_minute[min(activity.per_minute)]


_OF_MODELS = frozenset({Action.ARTIFACT_VERIFY, Action.RUNTIME_LOAD, Action.RUNTIME_CRASH})


def _happened(activity: ModelActivity, event: Event) -> None:
    if event.action is Action.ARTIFACT_VERIFY:
        activity.last_verify = format_time(event.time)
        activity.last_verify_ok = event.outcome is Outcome.ALLOWED
    elif event.action is Action.RUNTIME_LOAD and event.outcome is Outcome.ALLOWED:
        activity.last_load = activity.last_verify = format_time(event.time)
        activity.last_verify_ok = True  # a load verifies, or does not happen
        activity.isolation = _text(event.data, "isolation")
    elif event.action is Action.RUNTIME_CRASH:
        activity.crashes += 1


def _changed(facts: Facts, event: Event) -> None:
    """What an allowed action made true."""
    data, resource = event.data, event.resource
    if event.action is Action.ARTIFACT_PUBLISH and not data.get("unchanged"):
        if len(facts.releases) < MAX_NAMES or resource in facts.releases:
            facts.releases[resource] = ReleaseFact(
                event.digest, "published", _text(data, "owner"), _text(data, "tier")
            )
    elif event.action is Action.ARTIFACT_APPROVE and data.get("complete") and resource in facts.releases:
        facts.releases[resource].state = "approved"
    elif event.action is Action.ARTIFACT_RETIRE and resource in facts.releases:
        facts.releases[resource].state = "retired"
    elif event.action is Action.OWNER_WRITE:
        for ref, release in facts.releases.items():
            if _name(ref) == _name(resource):
                release.owner = _text(data, "owner") or release.owner
    elif event.action in {Action.DEPLOY_APPLY, Action.DEPLOY_ROLLBACK}:
        if len(facts.deployments) < MAX_NAMES or _name(resource) in facts.deployments:
            facts.deployments[_name(resource)] = resource
    elif event.action is Action.DEPLOY_STOP:
        facts.deployments.pop(_name(resource), None)
    elif event.action is Action.TOKEN_ISSUE:
        seconds = _number(data.get("seconds"))
        if seconds is not None:
            key = _bounded(facts.tokens, resource)
            facts.tokens[key] = max(facts.tokens.get(key, 0), int(seconds))
    elif event.action is Action.RUNTIME_PROBE:
        denied, tried = _number(data.get("denied")), _number(data.get("tried"))
        if denied is not None and tried is not None:
            facts.probes[_bounded(facts.probes, _text(data, "isolation"))] = (int(denied), int(tried))


def _model(facts: Facts, resource: str) -> ModelActivity:
    return facts.models.setdefault(_bounded(facts.models, _name(resource)), ModelActivity())


def _name(resource: str) -> str:
    return resource.partition("@")[0]


def _count(counts: dict[str, int], key: str) -> None:
    key = _bounded(counts, key)
    counts[key] = counts.get(key, 0) + 1


def _bounded(known: dict[str, Any], key: str) -> str:
    return key if key in known or len(known) < MAX_NAMES else OTHER


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key, "")
    return value if isinstance(value, str) else ""
