"""What posture is computed from: values that somebody else gathered, and no judgement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """A version in the registry. `state` is published, approved or retired; `verdict` the scan's; `revoked` the
    label of a revoked key whose signature on it does not count any more."""

    ref: str
    state: str
    verdict: str
    owner: str
    revoked: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentFacts:
    """A version that should be serving."""

    ref: str
    isolation: str
    verified: datetime | None
    is_verified: bool
    crashes: int = 0
    evidence: str = ""  # the audit id of its last verification


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """The outcome of verifying the ledger: intact, broken or undecided, with the code of the first problem."""

    verdict: str
    code: str
    what: str
    last_id: str
    size: int


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A periodic job as the ledger tells it; `last` is None when it never ran. `outcome` is the event's."""

    name: str
    layer: str
    every: timedelta
    last: datetime | None = None
    outcome: str = ""
    code: str = ""
    what: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class DriftFacts:
    """An imported version whose last comparison with its source did not say "the same"."""

    ref: str
    is_drifted: bool
    code: str
    evidence: str


@dataclass(frozen=True, slots=True)
class StandFacts:
    """How a signed document stands (keyring, approved list): a code when it cannot be relied on."""

    what: str
    code: str = ""
    next: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """What a signed snapshot and the events say. `snapshot` is why it cannot be used, empty when it can."""

    snapshot: str
    requests: int
    failed_authentication: int
    tokens: tuple[tuple[str, int], ...]  # subject, longest lifetime in seconds


@dataclass(frozen=True, slots=True)
class SinkFacts:
    """A receiver of events: how many wait, how old the oldest of them is, and why nothing is taken."""

    name: str
    waiting: int
    oldest: datetime | None = None
    code: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class LoginFacts:
    """Failed logins so far, the reason and the source that most of them have, and alerts that nobody closed."""

    failed: int
    mostly: tuple[str, ...] = ()
    alerts: tuple[tuple[str, str], ...] = ()  # id, what it is about
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """How orders to one model are judged: `observes` lets them pass, of which `observed` would have been blocked;
    `tolerant` lets pass what a detector failed on."""

    model: str
    observes: bool = False
    tolerant: bool = False
    observed: int = 0
    failed: int = 0  # requests that a detector failed on lately


@dataclass(frozen=True, slots=True)
class RecoveryFacts:
    """Somebody was made administrator from the host: who, by whom, from when until when."""

    name: str
    by: str
    since: datetime
    until: datetime
    evidence: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything posture is computed from. None or empty means: no evidence."""

    now: datetime
    releases: tuple[ReleaseFacts, ...] = ()
    deployments: tuple[DeploymentFacts, ...] = ()
    software_keys: tuple[str, ...] = ()
    hardware_keys: tuple[str, ...] = ()
    probes: tuple[tuple[str, int, int], ...] = ()  # sandbox level, denied, tried
    gateway: GatewayFacts | None = None
    ledger: LedgerFacts | None = None
    jobs: tuple[JobFacts, ...] = ()
    drift: tuple[DriftFacts, ...] = ()
    keyring: StandFacts | None = None
    approved_list: StandFacts | None = None
    inventory: datetime | None = None
    pipeline_checks: tuple[str, ...] = ()
    exceptions: tuple[tuple[str, str, str, datetime], ...] = ()  # rule, model, owner, until
    alerts: tuple[tuple[str, str, str, str], ...] = ()  # that are open: id, code, subject, what it led to
    sinks: tuple[SinkFacts, ...] = ()
    logins: LoginFacts | None = None
    recoveries: tuple[RecoveryFacts, ...] = ()
    guards: tuple[GuardFacts, ...] = ()  # of models of which there is something to say
    second: tuple[str, ...] = ()  # versions that are asked where the first classifier is in doubt
