"""Facts folded from the ledger: counts, requests per model, checks per version, periodic jobs, releases.

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
from garrison.evidence.record import Record, audit_id

MAX_NAMES = 1_000  # models, subjects or codes told apart; names in refused requests are anyone's
MAX_VERSIONS = 50_000  # told apart once they were verified or loaded, which no refused request does
OTHER = "(other)"
MINUTES = 60  # buckets of the request rate that are kept


@dataclass(slots=True)
class ModelActivity:
    """The requests for one model (by name). Times are RFC 3339; latencies milliseconds."""

    requests: int = 0
    allowed: int = 0
    denied: int = 0
    errors: int = 0
    latency_ms_sum: float = 0.0
    latency_ms_max: float = 0.0
    latency_count: int = 0
    last_request: str = ""
    incomplete: int = 0  # requests that a detector failed on, and when the last was
    last_incomplete: str = ""
    observed: int = 0  # requests that would have been blocked, had their route not only observed
    per_minute: dict[str, int] = field(default_factory=dict)

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    @property
    def latency_ms_mean(self) -> float:
        return self.latency_ms_sum / self.latency_count if self.latency_count else 0.0


@dataclass(slots=True)
class VersionActivity:
    """What was checked of one version, and how it runs. `verify_id` is the audit id of the last check."""

    last_verify: str = ""
    last_verify_ok: bool = False
    verify_id: str = ""
    last_load: str = ""
    isolation: str = ""
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """The last answer to a question that is asked again and again, with the audit id of its event."""

    time: str
    outcome: str
    code: str
    reason: str
    audit_id: str
    every_seconds: int = 0  # of a job
    keyring: int = 0  # the version that an event about keys made
    list_sha256: str = ""  # of the timestamp.json of an approved list


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
    versions: dict[str, VersionActivity] = field(default_factory=dict)
    jobs: dict[str, Told] = field(default_factory=dict)  # of `garrison schedule`
    drift: dict[str, Told] = field(default_factory=dict)  # by version
    approved_list: Told | None = None
    keyring: Told | None = None
    failed_authentication: dict[str, int] = field(default_factory=dict)
    failed_by: dict[str, int] = field(
        default_factory=dict
    )  # "reason expired", "source 10.0.0.9", "identity dana"
    stages: dict[str, int] = field(default_factory=dict)  # how many requests came to each of their parts
    last_failed: str = ""  # the audit id of the last failed authentication
    releases: dict[str, ReleaseFact] = field(default_factory=dict)
    deployments: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)  # subject: longest lifetime in seconds ever issued
    probes: dict[str, tuple[int, int]] = field(default_factory=dict)  # sandbox level: (denied, tried)


def fold(facts: Facts, records: Iterable[Record]) -> Facts:
    """`facts` with the records added that come after its cursor; others are passed over. Returns it."""
    for record in records:
        if record.seq > facts.cursor:
            _add(facts, record.event, record.seq)
            facts.cursor = record.seq
    return facts


def _add(facts: Facts, event: Event, seq: int) -> None:
    facts.last_time = format_time(event.time)
    _count(facts.counts, f"{event.action.value} {event.outcome.value} {event.code}".rstrip())
    if event.code.startswith(("TOK-", "ID-", "LIM-AUTH")):
        _count(facts.failed_authentication, event.code)
        facts.last_failed = audit_id(seq)
        for key, value in sorted(_mapping(event.data, "authentication").items()):
            if isinstance(value, str) and value:
                _count(facts.failed_by, f"{key} {value}")
    if event.action is Action.MODEL_INVOKE:
        for stage in _mapping(event.data, "stages_us"):
            _count(facts.stages, stage)
        _request(_model(facts, event.resource), event)
    elif event.action in _OF_VERSIONS:
        _happened(_version(facts, event), event, seq)
    else:
        _asked_again(facts, event, seq)
    if event.outcome is Outcome.ALLOWED:
        _changed(facts, event)


def _request(activity: ModelActivity, event: Event) -> None:
    activity.requests += 1
    activity.allowed += event.outcome is Outcome.ALLOWED
    activity.denied += event.outcome in {Outcome.DENIED, Outcome.UNKNOWN}
    activity.errors += event.outcome is Outcome.ERROR
    activity.last_request = format_time(event.time)
    activity.observed += bool(event.data.get("observed"))
    if event.data.get("incomplete") or event.code == "PRM-UNDECIDED":
        activity.incomplete += 1
        activity.last_incomplete = format_time(event.time)
    latency = _number(event.data.get("latency_ms"))
    if latency is not None:
        activity.latency_ms_sum += latency
        activity.latency_count += 1
        activity.latency_ms_max = max(activity.latency_ms_max, latency)
    minute = format_time(event.time)[:16]
    activity.per_minute[minute] = activity.per_minute.get(minute, 0) + 1
    if len(activity.per_minute) > MINUTES:
        del activity.per_minute[min(activity.per_minute)]


_OF_VERSIONS = frozenset({Action.ARTIFACT_VERIFY, Action.RUNTIME_LOAD, Action.RUNTIME_CRASH})


def _happened(activity: VersionActivity, event: Event, seq: int) -> None:
    if event.action is Action.ARTIFACT_VERIFY:
        if event.code.startswith((*_OF_CALLERS, "PROV-")):
            return  # somebody was not allowed to ask: that says nothing about the version
        activity.last_verify, activity.verify_id = format_time(event.time), audit_id(seq)
        activity.last_verify_ok = event.outcome is Outcome.ALLOWED
    elif event.action is Action.RUNTIME_LOAD and event.outcome is Outcome.ALLOWED:
        activity.last_load = activity.last_verify = format_time(event.time)
        activity.last_verify_ok, activity.verify_id = (
            True,
            audit_id(seq),
        )  # a load verifies, or does not happen
        activity.isolation = _text(event.data, "isolation")
    elif event.action is Action.RUNTIME_CRASH:
        activity.crashes += 1


def _asked_again(facts: Facts, event: Event, seq: int) -> None:
    """Events that answer a question anew: what was told last counts."""
    is_allowed = event.outcome is Outcome.ALLOWED
    told = Told(
        format_time(event.time),
        event.outcome.value,
        event.code,
        _text(event.data, "reason"),
        audit_id(seq),
        int(_number(event.data.get("every_seconds")) or 0),
        int(_number(event.data.get("keyring")) or 0),
        _text(_mapping(event.data, "list"), "timestamp_sha256"),
    )
    if event.action is Action.SCHEDULE_RUN and (is_allowed or not event.code.startswith(_OF_CALLERS)):
        facts.jobs[_bounded(facts.jobs, event.resource)] = told
    elif event.action is Action.ARTIFACT_DRIFT and (is_allowed or event.code.startswith(("DRIFT-", "LIN-"))):
        facts.drift[_bounded(facts.drift, event.resource)] = told
    elif event.action is Action.APPROVALS_PUBLISH and is_allowed:
        facts.approved_list = told
    elif event.action in _OF_KEYS and is_allowed and "keyring" in event.data:
        facts.keyring = told


_OF_CALLERS = ("RBAC-", "ID-", "TOK-", "ARG-", "SCHED-")  # refused before the job began
_OF_KEYS = frozenset({Action.KEY_CREATE, Action.KEY_ADD, Action.KEY_ROTATE, Action.KEY_REVOKE})


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
        facts.drift.pop(resource, None)  # nobody compares it any more
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


def _version(facts: Facts, event: Event) -> VersionActivity:
    """The version's own activity; a name that was never verified is anyone's, and they share one."""
    key = event.resource
    if key not in facts.versions and (
        event.outcome is not Outcome.ALLOWED or len(facts.versions) >= MAX_VERSIONS
    ):
        key = OTHER
    return facts.versions.setdefault(key, VersionActivity())


def _name(resource: str) -> str:
    return resource.partition("@")[0]


def _count(counts: dict[str, int], key: str) -> None:
    key = _bounded(counts, key)
    counts[key] = counts.get(key, 0) + 1


def _bounded(known: dict[str, Any], key: str) -> str:
    return key if key in known or len(known) < MAX_NAMES else OTHER


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mapping(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key, "")
    return value if isinstance(value, str) else ""
