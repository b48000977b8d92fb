"""The state of the five layers, computed from facts: nothing is green without evidence.

Pure: `compute(facts)` judges what someone else gathered. Each line counts what was checked and names its
worst item with a code and the next command. A layer about which nothing is known is bad, never good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from garrison.core.event import age
from garrison.governance.facts import Facts, StandFacts

OK, WARN, BAD = "ok", "warn", "bad"
LAYERS = ("artifacts", "runtime", "gateway", "data pipeline", "governance")
VERIFY_DUE = timedelta(hours=24)  # a serving model is verified at load and again at least daily
TOKEN_WARN = 3_600  # seconds; access tokens live minutes, an hour is already long
TOKEN_BAD = 86_400  # a stolen token that works for a day is a password
EXCEPTION_SOON = timedelta(days=7)
EXCEPTION_SHOWN = timedelta(days=14)  # after its end, for as long
SINK_WARN = timedelta(minutes=10)  # that an event may wait for a receiver
SINK_BAD = timedelta(hours=1)
LATE = 2  # intervals after which a periodic job that ran well should have run again
WIDTH = 79


@dataclass(frozen=True, slots=True)
class Item:
    """One check: its level, and for a warning or failure the code, what is wrong and the next command.

    `evidence` is the audit id of the event that says so.
    """

    level: str
    code: str = ""
    what: str = ""
    next: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of the posture."""

    name: str
    items: tuple[Item, ...]

    def count(self, level: str) -> int:
        return sum(item.level == level for item in self.items)

    @property
    def worst(self) -> Item | None:
        return next((item for level in (BAD, WARN) for item in self.items if item.level == level), None)

    @property
    def level(self) -> str:
        return OK if self.worst is None else self.worst.level


@dataclass(frozen=True, slots=True)
class Posture:
    """The five layers in order, and two sentences about what is in production."""

    layers: tuple[Layer, ...]
    summary: tuple[str, ...]

    @property
    def next(self) -> str:
        """The command for the worst item of all."""
        found = [layer.worst for level in (BAD, WARN) for layer in self.layers if layer.level == level]
        return next((item.next for item in found if item is not None and item.next), "")

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": "garrison.posture/1",
            "layers": [_layer_json(layer) for layer in self.layers],
            "summary": list(self.summary),
            "next": self.next,
        }


def _layer_json(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "level": layer.level,
        **{level: layer.count(level) for level in (OK, WARN, BAD)},
        "items": [
            {
                "level": item.level,
                "code": item.code,
                "what": item.what,
                "next": item.next,
                "evidence": item.evidence,
            }
            for item in layer.items
            if item.level != OK or item.evidence
        ],
    }


def compute(facts: Facts) -> Posture:
    """Judge every layer. A layer without a single check gets one that is bad."""
    judged = {
        "artifacts": [
            *_releases(facts),
            *_keys(facts),
            *_stand(facts.keyring),
            *_stand(facts.approved_list),
            *_drift(facts),
            *_jobs(facts, "artifacts"),
        ]
        if facts.releases
        else [],
        "runtime": [*_deployments(facts), *_probes(facts)] if facts.deployments else [],
        "gateway": [*_gateway(facts), *_exceptions(facts), *_guards(facts), *_logins(facts), *_alerts(facts)],
        "data pipeline": [Item(OK, what=check) for check in facts.pipeline_checks],
        "governance": [
            *_owners(facts),
            *_recoveries(facts),
            *_ledger(facts),
            *_inventory(facts),
            *_sinks(facts),
            *_jobs(facts, "governance"),
        ],
    }
    layers = tuple(Layer(name, tuple(judged[name]) or (_NO_EVIDENCE[name],)) for name in LAYERS)
    return Posture(layers, _summary(facts))


_NO_EVIDENCE = {
    "artifacts": Item(
        BAD, "POS-NONE", "no evidence: nothing published", "garrison model publish DIR --as NAME@1"
    ),
    "runtime": Item(BAD, "POS-NONE", "no evidence: no model is served", "garrison serve NAME@VERSION"),
    "gateway": Item(BAD, "POS-NONE", "no evidence: it never ran", "garrison up"),
    "data pipeline": Item(BAD, "POS-NONE", "no evidence: no document store", "garrison explain POS-NONE"),
    "governance": Item(BAD, "POS-NONE", "no evidence", "garrison up"),
}


def _releases(facts: Facts) -> Iterable[Item]:
    for release in facts.releases:
        if release.state == "retired":
            continue
        if release.verdict != "clean":
            what = f"{release.ref} was not found clean: {release.verdict or 'no scan'}"
            yield Item(BAD, "ART-INCOMPLETE", what, f"garrison model retire {release.ref}")
        else:
            yield Item(OK)
    yield from _revoked(facts)


def _revoked(facts: Facts) -> Iterable[Item]:
    """One line for each revoked key that versions still hang on. Bad while one of them serves."""
    serving = {deployment.ref for deployment in facts.deployments}
    by_key: dict[str, list[str]] = {}
    for release in facts.releases:
        if release.revoked and release.state != "retired":
            by_key.setdefault(release.revoked, []).append(release.ref)
    for label, refs in by_key.items():
        more = f" and {len(refs) - 1} more" if len(refs) > 1 else ""
        level = BAD if serving & set(refs) else WARN
        yield Item(
            level, "KEY-REVOKED", f"{refs[0]}{more} signed by a revoked key", f"garrison key show {label}"
        )


def _keys(facts: Facts) -> Iterable[Item]:
    yield from (Item(OK) for _ in facts.hardware_keys)
    if facts.software_keys:
        names = ", ".join(facts.software_keys)
        what = (
            "signing key is a software token"
            if len(facts.software_keys) == 1
            else "signing keys in a software token"
        )
        yield Item(WARN, "KEY-SOFT", f"{what} ({names})", "garrison explain KEY-SOFT")
    if not facts.software_keys and not facts.hardware_keys:
        yield Item(BAD, "POS-NONE", "no evidence about the signing keys", "garrison key list")


def _stand(stand: StandFacts | None) -> Iterable[Item]:
    if stand is not None:
        yield Item(BAD if stand.code else OK, stand.code, stand.what, stand.next, stand.evidence)


def _drift(facts: Facts) -> Iterable[Item]:
    for one in facts.drift:
        said = "is not what its source holds" if one.is_drifted else "could not be compared with its source"
        level = BAD if one.is_drifted else WARN
        yield Item(level, one.code, f"{one.ref} {said}", f"garrison drift {one.ref}", one.evidence)


def _jobs(facts: Facts, layer: str) -> Iterable[Item]:
    """A check that found something is bad; one that could not be made, never ran or is late is a warning."""
    for job in facts.jobs:
        again = f"garrison schedule run {job.name}"
        if job.layer != layer:
            continue
        if job.last is None:
            yield Item(WARN, "SCHED-LATE", f"{job.name} never ran", again)
        elif job.outcome == "denied":
            yield Item(BAD, job.code, f"{job.name}: {job.what}", again, job.evidence)
        elif job.outcome != "allowed":
            yield Item(WARN, job.code, f"{job.name} failed: {job.what}", again, job.evidence)
        elif facts.now - job.last > LATE * job.every or job.last - facts.now > job.every:
            when = (
                f"{age(facts.now - job.last)} ago" if job.last < facts.now else "in the future, by this clock"
            )
            yield Item(WARN, "SCHED-LATE", f"{job.name} last ran {when}", again, job.evidence)
        else:
            yield Item(OK, what=f"{job.name} found nothing", evidence=job.evidence)


def _deployments(facts: Facts) -> Iterable[Item]:
    for deployment in facts.deployments:
        if deployment.verified is not None and not deployment.is_verified:
            what = f"{deployment.ref} is not what was signed, where it lies; what serves is the verified copy"
            yield Item(BAD, "ART-REST", what, f"garrison model verify {deployment.ref}", deployment.evidence)
        elif deployment.verified is None:
            what = f"{deployment.ref} has no verified load on record"
            fix = f"garrison model verify {deployment.ref}"
            yield Item(BAD, "ART-UNCHECKED", what, fix, deployment.evidence)
        elif facts.now - deployment.verified > VERIFY_DUE:
            what = f"{deployment.ref} was last verified {age(facts.now - deployment.verified)} ago"
            fix = f"garrison model verify {deployment.ref}"
            yield Item(WARN, "ART-UNCHECKED", what, fix, deployment.evidence)
        else:
            yield Item(OK, what=f"{deployment.ref} is verified", evidence=deployment.evidence)
        if deployment.crashes:
            what = f"{deployment.ref.partition('@')[0]} ended unasked {deployment.crashes} times"
            yield Item(WARN, "RUN-CRASHES", what, "garrison audit list --kind runtime.crash")
        if deployment.isolation == "landlock":
            what = f"{deployment.ref} runs at the lowest isolation level"
            yield Item(WARN, "ISO-LOW", what, f"garrison serve {deployment.ref} --isolation bwrap")


def _probes(facts: Facts) -> Iterable[Item]:
    levels = sorted({deployment.isolation for deployment in facts.deployments})
    probed = {level: (denied, tried) for level, denied, tried in facts.probes}
    for level in levels:
        denied, tried = probed.get(level, (0, 0))
        if not tried:
            yield Item(WARN, "ISO-PROBE", f"sandbox {level}: no escape probes on record", "garrison doctor")
        elif denied < tried:
            what = f"sandbox {level}: {tried - denied} of {tried} escape probes got through"
            yield Item(BAD, "ISO-PROBE", what, "garrison doctor")
        else:
            yield Item(OK)


def _gateway(facts: Facts) -> list[Item]:
    gateway = facts.gateway
    if gateway is None:
        return []
    items = [Item(BAD, "GW-SNAPSHOT", gateway.snapshot, "garrison up") if gateway.snapshot else Item(OK)]
    long_lived = sorted(gateway.tokens, key=lambda token: -token[1])
    for subject, seconds in long_lived:
        level = BAD if seconds >= TOKEN_BAD else WARN if seconds > TOKEN_WARN else OK
        what = f"a token of {subject} lives {age(timedelta(seconds=seconds))}"
        items.append(Item(OK) if level == OK else Item(level, "TOK-TTL", what, "garrison explain TOK-TTL"))
    return items


def _exceptions(facts: Facts) -> Iterable[Item]:
    """A rule that does not block somewhere is a hole with a name and an end."""
    for rule, model, owner, until in facts.exceptions:
        if until > facts.now:
            soon = until - facts.now <= EXCEPTION_SOON
            what = f"{rule} does not block {model} until {until:%Y-%m-%d} ({owner})"
            what += f": it ends in {age(until - facts.now)}" if soon else ""
            yield Item(WARN, "GRD-EXCEPT", what, f"garrison guard except {rule} --model {model} --remove")
        elif facts.now - until <= EXCEPTION_SHOWN:
            what = f"{rule} blocks {model} again: its exception ended {until:%Y-%m-%d} ({owner})"
            yield Item(WARN, "GRD-EXCEPT", what, f"garrison guard except {rule} --model {model} --remove")


def _guards(facts: Facts) -> Iterable[Item]:
    """A route that only observes lets orders to its model pass; a detector that failed said nothing of a text."""
    for guard in facts.guards:
        if guard.observes:
            what = f"{guard.model} only observes: {guard.observed} requests would have been blocked"
            yield Item(WARN, "GRD-ROUTE", what, f"garrison guard route set {guard.model} --mode enforce")
        if guard.tolerant:
            what = f"{guard.model} takes requests that a detector failed on (--unsure pass)"
            yield Item(WARN, "PRM-UNDECIDED", what, "garrison route list")
        if guard.failed:
            what = f"detectors failed on {guard.failed} requests to {guard.model}"
            yield Item(WARN, "PRM-UNDECIDED", what, "garrison doctor")
    retired = {release.ref for release in facts.releases if release.state == "retired"}
    for ref in sorted(retired.intersection(facts.second)):
        what = f"the second classifier {ref} is retired: it will not start again, and texts in doubt are refused then"
        yield Item(BAD, "ART-RETIRED", what, "garrison guard tier2 set --model NAME@VERSION")


def _logins(facts: Facts) -> Iterable[Item]:
    logins = facts.logins
    if logins is None or not logins.failed:
        return
    counted = f"{logins.failed} failed logins"
    counted += f", most by {' and '.join(logins.mostly)}" if logins.mostly else ""
    yield Item(OK, what=counted, evidence=logins.evidence)
    for alert, about in logins.alerts:
        what = f"failed logins in a short time: {about} ({logins.failed} in all)"
        yield Item(WARN, "AUTH-ALERT", what, f"garrison alerts show {alert}", logins.evidence)


def _sinks(facts: Facts) -> Iterable[Item]:
    for sink in facts.sinks:
        began = min([moment for moment in (sink.oldest, sink.since) if moment is not None], default=facts.now)
        late = facts.now - began if sink.waiting else timedelta()
        if not sink.code and late < SINK_WARN:
            yield Item(OK)
            continue
        many = f"{sink.waiting} event{'s' * (sink.waiting != 1)} wait"
        what = f"{sink.name}: {many} since {began:%H:%M} UTC, {age(late)}" + (
            f" ({sink.code})" * bool(sink.code)
        )
        yield Item(BAD if late >= SINK_BAD else WARN, "SINK-LAG", what, f"garrison sink test {sink.name}")


def _alerts(facts: Facts) -> Iterable[Item]:
    """Unusual use that nobody has explained yet, and whether anybody looks for it."""
    for name, code, subject, led_to in facts.alerts:
        yield Item(
            WARN, code, f"{subject} is used unusually; led to: {led_to}", f"garrison alerts show {name}"
        )
    if facts.gateway is not None:
        yield from _jobs(facts, "gateway")


def _owners(facts: Facts) -> Iterable[Item]:
    unowned: dict[str, bool] = {}
    for release in facts.releases:
        if release.state != "retired":
            name = release.ref.partition("@")[0]
            unowned[name] = unowned.get(name, True) and not release.owner
    for name, is_missing in sorted(unowned.items()):
        what = f"nobody answers for {name}"
        yield Item(BAD, "GOV-OWNER", what, f"garrison owner set {name} NAME") if is_missing else Item(OK)


def _recoveries(facts: Facts) -> Iterable[Item]:
    """The way back in was used: bad while it is open, to be explained for a week."""
    for one in facts.recoveries:
        is_open = one.until > facts.now
        when = f"until {one.until:%H:%M} UTC" if is_open else f"{age(facts.now - one.since)} ago"
        what = f"{one.name} was made administrator from the host by {one.by}, {when}"
        again = "garrison audit list --kind admin.recover"
        yield Item(BAD if is_open else WARN, "ID-RECOVER", what, again, one.evidence)


def _ledger(facts: Facts) -> Iterable[Item]:
    ledger = facts.ledger
    if ledger is None:
        yield Item(BAD, "POS-NONE", "no evidence: there is no audit ledger", "garrison up")
    elif ledger.verdict == "intact":
        yield Item(OK)
    else:
        yield Item(BAD, ledger.code, f"audit {ledger.verdict}: {ledger.what}", "garrison audit verify")


def _inventory(facts: Facts) -> Iterable[Item]:
    if facts.inventory is None:
        what = "no inventory: shadow models unknown"
        yield Item(BAD, "INV-NONE", what, "garrison explain INV-NONE")
    else:
        yield Item(OK)


def _summary(facts: Facts) -> tuple[str, ...]:
    serving = len(facts.deployments)
    verified = [d.verified for d in facts.deployments if d.is_verified and d.verified is not None]
    when = f" {age(facts.now - max(verified))} ago" if verified else ""
    ledger = facts.ledger
    audit = "no audit ledger" if ledger is None else f"audit {ledger.verdict}"
    if ledger is not None and ledger.verdict == "intact" and ledger.size:
        audit += f" to {ledger.last_id}"
    models = f"{serving} model{'s' * (serving != 1)} in production · {len(verified)} verified{when}"
    return (f"{models} · shadow not looked for", audit) if facts.inventory is None else (models, audit)


def render(posture: Posture) -> Sequence[str]:
    """The posture as lines of at most 79 columns. Colours carry nothing: there are none."""
    lines = [f"{'':<16}{'ok':>4}{'warn':>6}{'bad':>5}   worst"]
    for layer in posture.layers:
        worst = f"{layer.worst.code}  {layer.worst.what}" if layer.worst else ""
        counts = f"{layer.count(OK):>4}{layer.count(WARN):>6}{layer.count(BAD):>5}"
        lines.append(_fit(f"{layer.name:<16}{counts}   {worst}".rstrip()))
    lines.extend(_fit(line) for line in posture.summary)
    if posture.next:
        lines.append(_fit(f"next: {posture.next}"))
    return lines


def _fit(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
