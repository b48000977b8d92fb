"""`garrison posture`: the state of the five layers, computed from the files of a data directory."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from garrison.app.cli import instrumented, output
from garrison.app.cli.audit import file_witness, ledger_keys, verified
from garrison.app.cli.link import data_directory
from garrison.app.detection import second_tier
from garrison.app.keychain import labels_by_kind
from garrison.app.people import read_people
from garrison.app.tier2 import name_of
from garrison.artifacts import store as registry
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError
from garrison.core.event import Outcome, age, format_time, parse_time
from garrison.evidence import store, views
from garrison.evidence.sinks import store as sink_store
from garrison.evidence.store import Filter
from garrison.governance import posture
from garrison.governance.facts import (
    DeploymentFacts,
    DriftFacts,
    Facts,
    GatewayFacts,
    GuardFacts,
    JobFacts,
    LedgerFacts,
    LoginFacts,
    RecoveryFacts,
    ReleaseFacts,
    SinkFacts,
    StandFacts,
)
from garrison.runtime import store as serving
from garrison.storage.database import open_kept
from garrison.trust import dsse
from garrison.trust import people as folding
from garrison.trust.key_store import key_tokens
from garrison.trust.keyring import KEYRING_FILE, RELEASE, ROOT_FILE, message_of, open_keyring, signer_id
from garrison.trust.keys.public import PublicKey, load_public
from garrison.trust.people import People

LOGIN_ALERT = "AUTH-ALERT"
SNAPSHOT_TYPE = "application/vnd.garrison.snapshot+json"
MAX_SNAPSHOT_BYTES = 8 << 20  # ten thousand routes and revocations; a larger one is not ours
FAILURES_SHOWN = timedelta(days=1)  # since the last request that a detector failed on
RECOVERY_SHOWN = timedelta(days=7)  # so that whoever was away reads of it
MAX_ALERTS = 20  # named, the newest; garrison alerts list has all
MAX_LIST_BYTES = 16 << 10  # the list's timestamp.json; what TUF clients read at most
# The periodic jobs and the layer that each looks after; app/jobs.py has them, and takes a second to import.
JOB_LAYERS = {
    "refresh-approved": "artifacts",
    "watch-use": "gateway",
    "check-rows": "governance",
    "check-keys": "artifacts",
    "verify-ledger": "governance",
    "check-store": "artifacts",
    "check-drift": "artifacts",
    "verify-at-rest": "artifacts",
}

Gather = Callable[[Path, datetime], Facts]


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "posture",
        help="the state of the five layers, and the next step",
        epilog="example: garrison posture --strict",
    )
    parser.add_argument(
        "--edge", action="store_true", help="are ingress, prompts and retrieval measured, devices included?"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when anything is bad")


def gather(data: Path, now: datetime) -> Facts:
    """The facts below a data directory. What cannot be read is left out, and so becomes red."""
    facts = _Found(data, now)
    facts.read()
    return facts.facts()


def run(args: argparse.Namespace, gather: Gather = gather) -> int:
    if args.edge:
        return instrumented.show(instrumented.measured(data_directory(args)), as_json=args.json)
    state = posture.compute(gather(data_directory(args), datetime.now(UTC)))
    if args.json:
        output.print_json(state.as_json())
    else:
        for line in posture.render(state):
            output.print_line(output.visible(line))
    is_bad = any(layer.level == posture.BAD for layer in state.layers)
    return 1 if args.strict and is_bad else 0


def _live_owner(people: People, owner: str) -> str:
    """The owner, when somebody answers behind that name."""
    return owner if people.live(owner) else ""


def _revoked_keys(data: Path) -> dict[str, PublicKey]:
    """By id. None of a keyring that cannot be read, of which a line of its own tells."""
    try:
        ring = open_keyring((data / KEYRING_FILE).read_bytes(), load_public(data / ROOT_FILE))
    except (OSError, GarrisonError):
        return {}
    return {key.key_id: key.public for key in ring.keys if key.public.revocation is not None}


def _revoked_signer(statement: bytes, revoked: Mapping[str, PublicKey]) -> str:
    """The label of the key, when it is revoked and that signature was not on record before. Empty otherwise."""
    key = revoked.get(signer_id(statement)) if revoked else None
    if key is None or key.revocation is None or message_of(statement) in key.revocation.kept:
        return ""
    return key.label


def sink_facts(connection: sa.Connection, told: Mapping[str, Mapping[str, Any]]) -> Iterable[SinkFacts]:
    """How far each sink that the ledger tells of is behind it."""
    known, (_, last) = sink_store.all_cursors(connection), store.count_and_last(connection)
    for name in sorted(told):
        cursor = known.get(name, sink_store.Cursor(name, 0))
        takes_events = told[name].get("signals", []) != ["metrics"]
        waiting = max(0, last - cursor.seq) if takes_events else 0
        oldest = store.get(connection, cursor.seq + 1) if waiting else None
        yield SinkFacts(
            name,
            waiting,
            oldest.event.time if oldest else None,
            cursor.code,
            parse_time(cursor.since) if cursor.since else None,
        )


def _recoveries(connection: sa.Connection, now: datetime) -> Iterable[RecoveryFacts]:
    """Who was made administrator from the host lately."""
    asked = Filter(
        action=Action.ADMIN_RECOVER.value,
        outcome=Outcome.ALLOWED.value,
        since=format_time(now - RECOVERY_SHOWN),
    )
    for record in store.find(connection, asked):
        event = record.event
        until = folding.recovered_until(event)
        yield RecoveryFacts(event.resource, event.actor, event.time, until, record.audit_id)


def waiting_sinks(data: Path) -> list[dict[str, Any]]:
    """The sinks of a data directory and what waits for them, as `garrison doctor` shows it."""
    with (
        closing(open_kept(data)) as database,
        database.read() as connection,
    ):
        found = list(sink_facts(connection, read_people(connection).access.sinks))
    return [
        {
            "name": one.name,
            "waiting": one.waiting,
            "since": format_time(one.oldest) if one.oldest else None,
            "code": one.code,
        }
        for one in found
    ]


def second_tier_named(data: Path) -> list[str] | None:
    """Who was set as the second classifier, for `garrison doctor`; None when nothing was said of one."""
    with (
        closing(open_kept(data)) as database,
        database.read() as connection,
    ):
        access = read_people(connection).access
        return [name_of(one) for one in second_tier(access)] if access.tier2 else None


class _Found:
    """What the files say, gathered step by step; a step that fails leaves its part empty."""

    def __init__(self, data: Path, now: datetime) -> None:
        self._data = data
        self._now = now
        self._folded = views.Facts()
        self._releases: tuple[ReleaseFacts, ...] = ()
        self._serving: tuple[serving.Deployment, ...] = ()
        self._tokens: dict[str, bytes] = {}
        self._exceptions: tuple[tuple[str, str, str, datetime], ...] = ()
        self._alerts: tuple[tuple[str, str, str, str], ...] = ()
        self._loose: tuple[GuardFacts, ...] = ()
        self._second: tuple[str, ...] = ()
        self._sinks: tuple[SinkFacts, ...] = ()
        self._login_alerts: tuple[tuple[str, str], ...] = ()
        self._recoveries: tuple[RecoveryFacts, ...] = ()
        self._ledger: LedgerFacts | None = None

    def read(self) -> None:
        try:
            with (
                closing(open_kept(self._data)) as database,
                database.read() as connection,
            ):
                self._registry(connection)
                self._folded = views.fold(views.Facts(), store.find(connection, Filter()))
        except GarrisonError as error:
            self._ledger = LedgerFacts("undecided", error.code, error.what, "", 0)
            return
        self._ledger = self._verified()

    def _registry(self, connection: sa.Connection) -> None:
        people, revoked = read_people(connection), _revoked_keys(self._data)
        self._releases = tuple(
            ReleaseFacts(
                str(release.ref),
                "retired" if release.retired is not None else "published",
                str(release.scan.get("verdict", "")),
                _live_owner(people, people.owners.get(release.ref.name, release.owner)),
                _revoked_signer(release.statement, revoked),
            )
            for release in registry.releases(connection)
        )
        self._exceptions = tuple(
            (one["rule"], one["model"], one["owner"], parse_time(one["until"]))
            for _, one in sorted(people.access.exceptions.items())
        )
        observing = {name for name, one in people.access.guards.items() if one.get("mode") == "observe"}
        tolerant = {name for name, told in people.routes.items() if '"unsure":"pass"' in told}
        self._loose = tuple(
            GuardFacts(name, name in observing, name in tolerant) for name in observing | tolerant
        )
        self._second = tuple(str(one["model"]) for one in second_tier(people.access) if one.get("model"))
        self._sinks = tuple(sink_facts(connection, people.access.sinks))
        self._login_alerts = tuple(
            (key, str(one["subject"]))
            for key, one in people.access.alerts.items()
            if one["code"] == LOGIN_ALERT and one["state"] != "closed"
        )
        self._alerts = tuple(
            (name, one["code"], one["subject"], one["led_to"]["action"])
            for name, one in people.access.alerts.items()
            if one["state"] in ("open", "taken")
        )[-MAX_ALERTS:]
        self._recoveries = tuple(_recoveries(connection, self._now))
        self._tokens = key_tokens(connection)
        self._serving = tuple(one for one in serving.deployments(connection) if one.state == "serving")

    def _verified(self) -> LedgerFacts:
        try:
            report = verified(self._data, ledger_keys(self._data), file_witness(self._data))
        except GarrisonError as error:
            return LedgerFacts("undecided", error.code, error.what, "", 0)
        what = report.problems[0].what if report.problems else ""
        last = report.as_json()["last"] or ""
        return LedgerFacts(report.verdict, report.code, what, last, report.size)

    def facts(self) -> Facts:
        software, hardware = labels_by_kind(self._data, self._tokens)
        return Facts(
            now=self._now,
            releases=self._releases,
            deployments=tuple(self._deployments()),
            software_keys=software,
            hardware_keys=hardware,
            probes=tuple((level, *counts) for level, counts in sorted(self._folded.probes.items())),
            gateway=self._gateway(),
            ledger=self._ledger,
            jobs=tuple(self._jobs()),
            drift=tuple(self._drift()),
            keyring=self._keyring(),
            approved_list=self._approved_list(),
            exceptions=self._exceptions,
            alerts=self._alerts,
            sinks=self._sinks,
            logins=self._logins(),
            recoveries=self._recoveries,
            guards=tuple(self._guards()),
            second=self._second,
        )

    def _guards(self) -> Iterable[GuardFacts]:
        since = format_time(self._now - FAILURES_SHOWN)
        by_name = {one.model: one for one in self._loose}
        for resource, model in self._folded.models.items():
            name = resource.partition("@")[0]
            known = by_name.get(name, GuardFacts(name))
            failed = model.incomplete if model.last_incomplete >= since else 0
            by_name[name] = replace(
                known, observed=known.observed + model.observed, failed=known.failed + failed
            )
        return (one for _, one in sorted(by_name.items()) if one.observes or one.tolerant or one.failed)

    def _logins(self) -> LoginFacts:
        folded = self._folded
        mostly = []
        for kind in ("reason", "source"):
            found = {key: n for key, n in folded.failed_by.items() if key.startswith(f"{kind} ")}
            mostly += [max(found, key=lambda key: (found[key], key))] if found else []
        failed = sum(folded.failed_authentication.values())
        return LoginFacts(failed, tuple(mostly), self._login_alerts, folded.last_failed)

    def _deployments(self) -> Iterable[DeploymentFacts]:
        for one in self._serving:
            seen = self._folded.versions.get(str(one.ref), views.VersionActivity())
            when = parse_time(seen.last_verify) if seen.last_verify else None
            yield DeploymentFacts(
                str(one.ref), one.isolation, when, seen.last_verify_ok, seen.crashes, seen.verify_id
            )

    def _jobs(self) -> Iterable[JobFacts]:
        for name, layer in JOB_LAYERS.items():
            told = self._folded.jobs.get(name)
            if told is None:
                yield JobFacts(name, layer, timedelta())
                continue
            every = timedelta(seconds=told.every_seconds)
            yield JobFacts(
                name, layer, every, parse_time(told.time), told.outcome, told.code, told.reason, told.audit_id
            )

    def _drift(self) -> Iterable[DriftFacts]:
        for ref, told in sorted(self._folded.drift.items()):
            if told.outcome != "allowed":
                yield DriftFacts(ref, told.outcome == "denied", told.code, told.audit_id)

    def _keyring(self) -> StandFacts:
        """The copy for verifiers: is it the root's, and the one that the ledger tells of?"""
        told = self._folded.keyring
        evidence = "" if told is None else told.audit_id
        try:
            root = load_public(self._data / ROOT_FILE)
            ring = open_keyring((self._data / KEYRING_FILE).read_bytes(), root)
        except OSError as error:
            what = f"the keyring cannot be read: {error.strerror}"
            return StandFacts(what, "KEY-KEYRING", "garrison key list", evidence)
        except GarrisonError as error:
            return StandFacts(error.what, error.code, "garrison key list", evidence)
        if told is None or told.keyring != ring.version:
            what = f"the keyring is version {ring.version}, and the ledger tells of {told.keyring if told else 'none'}"
            return StandFacts(what, "KEY-ROLLBACK", "garrison explain KEY-ROLLBACK", evidence)
        if ring.active(RELEASE) is None:
            what = "no key signs releases now"
            return StandFacts(what, "KEY-UNKNOWN", "garrison key rotate release", evidence)
        revoked = sum(key.public.revocation is not None for key in ring.keys)
        what = f"keyring {ring.version}: {len(ring.keys)} keys, {revoked} revoked"
        return StandFacts(what, evidence=evidence)

    def _approved_list(self) -> StandFacts | None:
        """Is the list in force the one that the ledger tells of, and how long is it fresh? None before the first."""
        told = self._folded.approved_list
        if told is None:
            return None
        try:
            with (self._data / "tuf" / "metadata" / "timestamp.json").open("rb") as file:
                data = file.read(MAX_LIST_BYTES)
            fresh_until = parse_time(json.loads(data)["signed"]["expires"])
        except (OSError, ValueError, KeyError, TypeError, GarrisonError):
            what = "the approved list cannot be read"
            return StandFacts(what, "TUF-MISSING", "garrison approvals", told.audit_id)
        if hashlib.sha256(data).hexdigest() != told.list_sha256:
            what = "the approved list is not the one that was signed last"
            return StandFacts(what, "TUF-ROLLBACK", "garrison explain TUF-ROLLBACK", told.audit_id)
        if fresh_until <= self._now:
            what = f"the approved list is stale since {age(self._now - fresh_until)}"
            again = "garrison schedule run refresh-approved"
            return StandFacts(what, "TUF-EXPIRED", again, told.audit_id)
        what = f"approved list fresh for {age(fresh_until - self._now)}"
        return StandFacts(what, evidence=told.audit_id)

    def _gateway(self) -> GatewayFacts | None:
        path = self._data / "run" / "snapshot.json"
        if not path.is_file():
            return None
        requests = sum(model.requests for model in self._folded.models.values())
        failed = sum(self._folded.failed_authentication.values())
        tokens = tuple(sorted(self._folded.tokens.items()))
        return GatewayFacts(self._snapshot_problem(path), requests, failed, tokens)

    def _snapshot_problem(self, path: Path) -> str:
        """Why the gateway cannot use its snapshot; the empty text when it can."""
        try:
            key = load_public(self._data / "keys" / "public" / "snapshot.pem")
            with path.open("rb") as file:
                envelope = file.read(MAX_SNAPSHOT_BYTES)
            payload, _ = dsse.open_envelope(envelope, [key], payload_type=SNAPSHOT_TYPE)
            expires = parse_time(str(json.loads(payload)["expires"]))
        except GarrisonError as error:
            return f"its snapshot cannot be believed: {error.what}"
        except (OSError, ValueError, KeyError, TypeError):
            return "its snapshot cannot be read"
        if expires <= self._now:
            return f"not running: its snapshot ended {age(self._now - expires)} ago"
        return ""
