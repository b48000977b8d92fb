"""The checks before an answer begins: who asks, may they, how much, and what the prompt says.

`admit` is the only maker of `Admitted`, and only an `Admitted` can be streamed: a skipped check does not
type-check. Nothing here waits, and nothing has been sent to a model server when any of it refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from garrison.core.actions import Action
from garrison.core.decision import Decision, Endpoint, Request, Subject, Tier
from garrison.core.errors import Refused, Undecided, Usage
from garrison.detect.base import Direction, Inspection, Outcome
from garrison.detect.handling import How, how, needs_vault
from garrison.detect.route_guard import AS_EVER, RouteGuard
from garrison.detect.tokens import Vault
from garrison.gateway.failures import Failures
from garrison.gateway.http_parse import Head
from garrison.gateway.limits import DEFAULT_COMPLETION, STREAM_SECONDS, Limiter, Spend
from garrison.gateway.openai_shapes import Call, rewrite_strings, strings_of
from garrison.gateway.proxies import CALLER, look_through
from garrison.gateway.record import Record
from garrison.gateway.restrictions import explained, restrict
from garrison.gateway.rules import PLAIN
from garrison.gateway.snapshot import Snapshot
from garrison.trust.identity import Principal, refusal
from garrison.trust.mtls import Shown, read_shown

CHARACTERS_PER_TOKEN = 4  # English text; only for reservations and for model servers that do not count
MAX_REMEMBERED = 8_192  # positive answers per snapshot: about 3 MB
TAG_HEADER = b"x-garrison-tier"
ORDERS = ("injection", "jailbreak")  # kinds of findings
_SEAL = object()


class Inspect(Protocol):
    """`detect.inspect.Inspector`, as the pipeline uses it."""

    def is_clean(self, texts: Sequence[str], direction: Direction) -> bool: ...

    def inspect(
        self,
        text: str,
        direction: Direction,
        excepted: frozenset[str] = frozenset(),
        how: How | None = None,
        *,
        tolerant: bool = False,
        guard: RouteGuard = AS_EVER,
    ) -> Inspection: ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that passed every check. Made by `admit` and nowhere else."""

    call: Call
    endpoint: Endpoint
    served: str  # name@version, as the client sees it
    payload: bytes
    seal: object
    answers: How | None = None  # what is done with values in the answer, when its tier says
    vault: Vault | None = None  # the tokens that stand for values of the request

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("only admit() makes an Admitted")


def identify(
    head: Head, snapshot: Snapshot, wall: float, certificate: bytes, source: str, failures: Failures
) -> Principal:
    """Who asks: by the bearer token (RFC 6750 section 2.1), by a client certificate alone, or as a listed proxy says.

    Raises `Refused` TOK-*, answered with 401, LIM-AUTH, or `Undecided` TOK-ISSUER.
    """
    if certificate or CALLER in head.headers:
        revoked = (snapshot.revoked_tokens, snapshot.revoked_subjects)
        through = look_through(head.headers, certificate, snapshot.proxies, wall, revoked)
        if through.caller is not None:
            return through.caller
        certificate = through.certificate
    given = head.headers.get(b"authorization")
    if given is None and b"x-api-key" in head.headers:  # how Anthropic's client sends it
        given = b"bearer " + head.headers[b"x-api-key"]
    if given is None and certificate:
        return _by_certificate(read_shown(certificate), snapshot, wall)
    scheme, _, token = (given or b"").partition(b" ")
    if scheme.lower() != b"bearer":
        raise refusal("TOK-MISSING", "missing")
    text = token.strip().decode("ascii")
    principal = snapshot.tokens.remembered(text, wall)
    if principal is None:
        failures.check(source, wall)
        principal = snapshot.tokens.verify(text, wall)
    if principal.certificate and principal.certificate != (
        read_shown(certificate).thumbprint if certificate else ""
    ):
        raise refusal("TOK-BOUND", "certificate", principal.subject.name)
    return principal


def _by_certificate(shown: Shown, snapshot: Snapshot, wall: float) -> Principal:
    """A workload that has a role here. TLS has checked the certificate; when it ends, so does what it began."""
    subject = snapshot.workloads.get(shown.name)
    if subject is None:
        raise refusal("TOK-MISSING", "certificate", shown.name)
    principal = Principal(subject, shown.expires, shown.cert_id, certificate=shown.thumbprint)
    if shown.expires <= wall:
        raise refusal("TOK-EXPIRED", "expired", shown.name)
    if principal.is_withdrawn(snapshot.revoked_tokens, snapshot.revoked_subjects):
        raise refusal("TOK-REVOKED", "revoked", shown.name)
    return principal


def may_invoke(
    snapshot: Snapshot, subject: Subject, target: Endpoint | str, task: str, tag: str = ""
) -> Decision:
    """The policy's answer for one endpoint, or for the name of a model that there is not."""
    facts: dict[str, object] = {"task": task}
    if tag:
        facts["sensitivity"] = Tier(tag).rank
    if isinstance(target, Endpoint):
        facts |= {"tier": target.tier.value, "boundary": target.tier.rank, "version": target.version}
        target = target.name
    return snapshot.policy.decide(Request(subject, Action.MODEL_INVOKE, target, facts))


def tag_of(head: Head) -> str:
    """The sensitivity that the caller says the request has; it can only narrow where it may go.

    Raises `Usage` PAT-TIER.
    """
    text = head.headers.get(TAG_HEADER)
    if text is None:
        return ""
    try:
        return Tier(text.decode("ascii").strip().lower()).value
    except ValueError:
        raise Usage(
            "PAT-TIER",
            "the request is tagged with something that is not a sensitivity tier",
            fix=f"choose one of {', '.join(tier.value for tier in Tier)}, or leave the header out",
        ) from None


def decide(snapshot: Snapshot, principal: Principal, call: Call, tag: str = "") -> Endpoint:
    """The endpoint that this principal may use. Raises `Refused` RBAC-*, PAT-BOUNDARY, GW-MODEL or `Usage` GW-TASK.

    Whether a model exists is only told to those who could use it. Who acts for somebody needs the rights of both.
    """
    endpoint = snapshot.route(call.model)
    task = call.operation.task
    decision = may_invoke(snapshot, principal.subject, endpoint or call.model, task, tag)
    if principal.agent is not None and decision.code != "PAT-BOUNDARY":
        for_agent = may_invoke(snapshot, principal.agent, endpoint or call.model, task, tag)
        lacking = principal.subject if not decision.allowed else principal.agent
        if not decision.allowed or not for_agent.allowed:
            raise Refused(
                "RBAC-DELEGATE",
                f"{principal.agent.actor} acts for {principal.subject.actor}, and {lacking.actor} may not do that",
                fix="an agent may do what both it and its user may; ask for the right that is missing",
                evidence={"policy_version": decision.policy_version},
            )
    if not decision.allowed:
        raise Refused(
            decision.code or "RBAC-403",
            decision.reason,
            fix="ask for a token that covers it: garrison token issue --model NAME, by someone who may",
            evidence={"rule_id": decision.rule_id, "policy_version": decision.policy_version},
        )
    if endpoint is None:
        raise Refused(
            "GW-MODEL",
            "no model of this name and version is served here",
            fix="use one of the names that GET /v1/models lists",
            evidence={"param": "model"},
        )
    if call.operation.task not in endpoint.tasks:
        raise Usage(
            "GW-TASK",
            f"{endpoint.name} does not serve {call.operation.path}",
            fix=f"it serves: {', '.join(sorted(endpoint.tasks))}",
            evidence={"param": "model"},
        )
    return endpoint


def admit(
    snapshot: Snapshot,
    principal: Principal,
    call: Call,
    limiter: Limiter,
    inspector: Inspect,
    record: Record,
    tag: str = "",
    wall: float = 0.0,
) -> Admitted:
    """decide -> throttle -> inspect -> route. Raises `Refused` or `Usage`; then nothing has happened."""
    subject = principal.subject
    record.policy_version = snapshot.policy.version
    # By identity: hashing a principal costs more than the checks. The entry keeps it alive, so its id is its own.
    key = (id(principal), call.model, call.operation.task, tag)
    known = snapshot.admitted.get(key)
    if known is None:
        record.asked_for(call.model if snapshot.route(call.model) is not None else "")
        endpoint = decide(snapshot, principal, call, tag)
        served = f"{endpoint.name}@{endpoint.version}" if endpoint.version else endpoint.name
        if len(snapshot.admitted) >= MAX_REMEMBERED:
            snapshot.admitted.clear()
        counted = snapshot.counted(subject.name, endpoint.name, principal.tenant)
        known = snapshot.admitted[key] = (principal, endpoint, served, counted)
    _, endpoint, served, counted = known
    record.endpoint, record.resource = endpoint, served
    held = snapshot.restricted.get(subject.actor, ()) if snapshot.restricted else ()
    if held:
        counted = restrict(held, counted, wall)
    characters = call.size
    wanted = (call.max_tokens or DEFAULT_COMPLETION) * call.choices if call.operation.streams else 0
    asked = characters // CHARACTERS_PER_TOKEN
    seconds = STREAM_SECONDS if call.stream else 0
    spend = Spend(asked, wanted, seconds, counted.price.of(asked, wanted))
    record.counted, record.spend = counted, spend
    try:
        record.reservation = limiter.reserve(counted, spend)
    except Refused as error:
        told = explained(error, held)
        if told is error:
            raise
        raise told from error
    body, vault, plan = call.body, None, snapshot.actions.of(endpoint.tier)
    texts = strings_of(body)
    joined = "".join(texts)
    is_clean = inspector.is_clean(texts, Direction.INPUT)
    record.scanned_in = len(joined) if joined.isascii() else len(joined.encode())
    if not is_clean:
        until = snapshot.excepted.get(endpoint.name, ())
        excepted = frozenset(rule for rule, end in until if wall < end)
        leaves = not endpoint.version or bool(record.asked_by)
        if needs_vault(plan.get(Direction.INPUT)):
            vault = Vault(subject.actor, joined)
        treated = how(plan.get(Direction.INPUT), vault, alone=not leaves)
        tolerant = snapshot.rules.get(endpoint.name, PLAIN).tolerates
        guard = snapshot.guards.get(endpoint.name, AS_EVER)
        body = inspected(
            call, inspector, record, excepted, leaves=leaves, treated=treated, tolerant=tolerant, guard=guard
        )
    record.prompt_tokens = characters // CHARACTERS_PER_TOKEN
    body["model"] = endpoint.name
    if call.stream:
        body["stream_options"] = {"include_usage": True}
    answers = how(plan.get(Direction.OUTPUT))
    return Admitted(call, endpoint, served, orjson.dumps(body), _SEAL, answers, vault)


def inspected(
    call: Call,
    inspector: Inspect,
    record: Record,
    excepted: frozenset[str],
    *,
    leaves: bool,
    treated: How | None = None,
    tolerant: bool = False,
    guard: RouteGuard = AS_EVER,
) -> dict[str, object]:
    """The body that may go on. Raises `Refused` PRM-INJECT or DLP-BLOCK when any text in it is blocked.

    Of texts in doubt it is the body that may go on if they are settled well (`second_opinion.settle`).

    Rules that are `excepted` for this model are noted and block nothing.

    What a person wrote is redacted only when it `leaves`, for an upstream that Garrison does not run. A
    model in its sandbox may read it, and what it answers is redacted on the way out. What the tier of the model
    says of values (`treated`) holds wherever the text goes.
    """
    passes_on = leaves or treated is not None

    def rewrite(text: str) -> str:
        try:
            inspection = inspector.inspect(
                text, Direction.INPUT, excepted, treated, tolerant=tolerant, guard=guard
            )
        except Undecided:
            record.scanned_in = 0  # the event claims no byte that a detector failed on
            raise
        if inspection.doubt is not None:
            record.doubts.append((inspection.doubt, excepted))
        else:
            note(record, inspection, excepted)
        if inspection.verdict is Outcome.ALLOW:
            return text
        if inspection.verdict is Outcome.REDACT:
            record.redacted = record.redacted or passes_on
            return inspection.text if passes_on else text
        raise blocked(inspection)

    return {
        name: value if name == "model" else rewrite_strings(value, rewrite)
        for name, value in call.body.items()
    }


def note(record: Record, inspection: Inspection, excepted: frozenset[str]) -> None:
    """Tell the event of what was found, what failed, and what was only observed."""
    record.incomplete |= frozenset(inspection.incomplete)
    rules = {found.rule_id for found in inspection.findings}
    if inspection.findings:
        record.found("input", inspection.findings)
        record.excepted |= excepted & rules
    if inspection.observed:
        orders = {found.rule_id for found in inspection.findings if found.kind in ORDERS}
        record.observed |= orders - excepted


def blocked(inspection: Inspection) -> Refused:
    """What the caller of a blocked text is told."""
    orders = [found for found in inspection.findings if found.kind in ORDERS]
    if not orders:
        return Refused(
            "DLP-BLOCK",
            "the request holds a value that may not be sent to a model; nothing was sent on",
            fix="ask without the value; an operator finds the rule in the event of this audit id",
            evidence={"rule_id": inspection.findings[0].rule_id, "param": "messages"},
        )
    # A signature says what was seen; the classifier only how sure it is.
    worst = max(orders, key=lambda found: (not found.rule_id.startswith(("tier1.", "tier2.")), found.score))
    return Refused(
        "PRM-INJECT",
        f"the prompt looks like an attempt to override instructions ({worst.kind}); nothing was sent on",
        fix="rephrase the request; an operator can look the rule up with garrison explain PRM-INJECT",
        evidence={"rule_id": worst.rule_id, "score": round(inspection.score, 2), "param": "messages"},
    )
