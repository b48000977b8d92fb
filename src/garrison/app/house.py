"""The built product: every part that the verbs work with, made once by the wiring."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Condition, Lock
from threading import Event as Flag
from typing import Any, TypeVar

import sqlalchemy as sa

from garrison.app.detection import detection, restrictions, watched
from garrison.app.issuer_keys import IssuerRing
from garrison.app.keychain import Keychain
from garrison.app.people import PeopleView, check_row, row_of
from garrison.app.pinned import PinnedImages
from garrison.app.route_options import snapshot_route
from garrison.app.settings import Settings
from garrison.app.tier2_keeper import Tier2Keeper
from garrison.app.watch_state import Watching
from garrison.artifacts.registry import Registry
from garrison.artifacts.search import Licences
from garrison.core.actions import Action
from garrison.core.decision import Endpoint, Subject
from garrison.core.digest import Ref, canonical_json
from garrison.core.errors import Refused, Undecided
from garrison.core.event import Event, Outcome, format_time
from garrison.detect.anomaly.sketch import KEY_BYTES
from garrison.evidence.ledger import Ledger
from garrison.runtime import store as serving
from garrison.runtime.supervisor import Supervisor
from garrison.storage.local import write_atomically
from garrison.storage.sql import Database
from garrison.trust import dsse
from garrison.trust.identity import Principal, TokenVerifier, refusal
from garrison.trust.keyring import RELEASE
from garrison.trust.keys.base import Signer
from garrison.trust.keys.pkcs11 import Token
from garrison.trust.keys.public import PublicKey
from garrison.trust.people import People
from garrison.trust.policy import Policy
from garrison.trust.roles import kind_of
from garrison.trust.store import User, disabled_users, find_user, revoked_tokens

T = TypeVar("T")

SNAPSHOT_TYPE = "application/vnd.garrison.snapshot+json"
DEFAULT_STALE = 3_600.0  # seconds; the setting issuer_stale_seconds
SYSTEM = Subject("service", "garrison", frozenset({"service"}), via="server")


class Busy:
    """How many commands are running; entered by each of them, waited for before the ledger is closed."""

    def __init__(self) -> None:
        self._running = 0
        self._changed = Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._running += 1

    def __exit__(self, *_exception: object) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until none is running; False when one still is after `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, seconds)


@dataclass(slots=True)
class House:
    """Built by `wiring.build`; the loop is the control process's own and runs what must be asynchronous."""

    settings: Settings
    database: Database
    ledger: Ledger
    policy: Policy
    registry: Registry
    supervisor: Supervisor
    token: Token
    release_key: Signer
    token_signer: Signer
    snapshot_signer: Signer
    public_keys: tuple[PublicKey, ...]
    keychain: Keychain
    token_kind: str
    now: Callable[[], datetime]
    loop: asyncio.AbstractEventLoop
    routed: dict[str, Any] = field(default_factory=dict)
    endpoints: dict[Ref, Endpoint] = field(default_factory=dict)
    settled: Callable[[int], object] = lambda _version: None
    rotate: Callable[[], object] = lambda: None
    follow_sinks: Callable[[], object] = lambda: None
    broker: Callable[[Mapping[str, dict[str, Any]]], str] = lambda _keys: ""
    second: Tier2Keeper | None = None
    deploying: Lock = field(default_factory=Lock)
    scheduling: Lock = field(default_factory=Lock)
    snapshots: Lock = field(default_factory=Lock)
    snapshot_version: int = 0
    busy: Busy = field(default_factory=Busy)
    stopping: Flag = field(default_factory=Flag)
    told: PeopleView = field(default_factory=PeopleView)
    licences: Licences = field(default_factory=Licences)
    pinned: PinnedImages = field(default_factory=PinnedImages)
    admitted: dict[tuple[str, str], int] = field(
        default_factory=dict
    )  # verbs/cluster.py: read from the ledger
    watching: Watching = field(default_factory=Watching)
    sketch_key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES), repr=False)
    issuers: IssuerRing = field(default_factory=lambda: IssuerRing(DEFAULT_STALE))

    def go_on(self) -> None:
        """Called at every step of a long command. Raises `Undecided` SRV-STOPPING once the server stops."""
        if self.stopping.is_set():
            raise Undecided(
                "SRV-STOPPING",
                "the server is stopping, so the command was given up; nothing of it was kept",
                fix="start the server again, then repeat the command",
            )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do asynchronous work from a verb's thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def principal(self, token: str) -> Principal:
        """Whose access token that is, ours or another issuer's. Raises `Refused` TOK-*, `Undecided` TOK-ISSUER."""
        with self.database.read() as connection:
            revoked, disabled = self._withdrawn(connection)
        verifier = TokenVerifier(
            [key for key in self.public_keys if key.label == "token"],
            revoked_tokens=frozenset(revoked),
            revoked_subjects=frozenset(disabled),
            others=self.issuers.tokens(),
        )
        return verifier.verify(token, self.now().timestamp())

    def identify(self, token: str) -> Subject:
        """The subject of an access token that came over the control socket. Raises as `principal`."""
        principal = self.principal(token)
        if principal.certificate:  # nobody shows one over this door
            raise refusal("TOK-BOUND", "certificate", principal.subject.name)
        if principal.agent is not None:
            raise Refused(
                "RBAC-DELEGATE",
                f"{principal.agent.actor} acts for {principal.subject.actor}, and only in asking models",
                fix="use a token of your own for commands",
            )
        return principal.subject

    def local_subject(self, name: str, *, via: str) -> Subject:
        """An identity named over the socket, with the roles it has; none when it is unknown or disabled."""
        people = self.people()
        person, roles = people.persons.get(name), people.roles_of(name, self.now())
        models = frozenset[str]() if person is None else person.models
        return Subject(kind_of(roles), name, roles, models, via=via)

    def people(self) -> People:
        """Who there is and who answers for what, as the ledger tells it now."""
        return self.told.current(self.ledger)

    def user(self, name: str) -> User | None:
        """The row of an identity. Raises `Refused` DB-EDITED when the ledger tells another story."""
        people = self.people()
        with self.database.read() as connection:
            return check_row(people, find_user(connection, name), name)

    def _withdrawn(self, connection: sa.Connection) -> tuple[list[str], list[str]]:
        """Revoked tokens and disabled identities: what a row says and what the ledger tells, both count."""
        people, now = self.people(), self.now()
        tokens = {token for token, until in people.revoked.items() if until > now}
        subjects = {name for name, person in people.persons.items() if person.disabled}
        return (
            sorted({*revoked_tokens(connection, now), *tokens}),
            sorted({*disabled_users(connection), *subjects}),
        )

    def serving(self, name: str) -> serving.Deployment | None:
        with self.database.read() as connection:
            found = serving.find_deployment(connection, name)
        return found if found is not None and found.state == "serving" else None

    def public_key_path(self, label: str) -> Path:
        return self.settings.data / "keys" / "public" / f"{label}.pem"

    def use_keys(self) -> None:
        """Sign and verify releases by the keyring as it is now: after a rotation or a revocation."""
        self.release_key = self.keychain.release_signer()
        keys = self.keychain.ring.of_role(RELEASE)
        self.registry = replace(self.registry, signer=self.release_key, keys=keys)
        self.registry.approved.sign_with(self.keychain.list_signer())

    def record(self, event: Event) -> str:
        return self.ledger.append(event)

    def publish_snapshot(self) -> None:
        """Sign what the gateway workers need to know, and return when all of them serve by it.

        A worker that is late has died or hangs; its successor starts with the newest snapshot.
        """
        self.settled(self._write_snapshot())

    def _write_snapshot(self) -> int:
        with self.snapshots:
            now = self.now()
            # Workers never go back to a lower version, and a clock may: then it counts on from the last one.
            self.snapshot_version = max(self.snapshot_version + 1, int(now.timestamp() * 1_000_000))
            people = self.people()
            self.issuers.follow(people.access.issuers)
            with self.database.read() as connection:
                revoked, disabled = self._withdrawn(connection)
                added = [
                    route
                    for route in serving.routes(connection)
                    if people.routes.get(route.name) == row_of(route)
                ]
                external = [_external(route) for route in added]
                keys = {name: key for _, wanted in external for name, key in wanted.items()}
                body = {
                    "version": self.snapshot_version,
                    "issued": format_time(now),
                    "expires": format_time(now + timedelta(seconds=self.settings.snapshot_seconds)),
                    "policy_version": self.policy.version,
                    "policy": {"cedar": self.policy.cedar_text, "schema": self.policy.schema_text},
                    "token_keys": [
                        {"kid": key.key_id, "pem": key.pem.decode()}
                        for key in self.public_keys
                        if key.label == "token"
                    ],
                    "revoked": {
                        "tokens": revoked,
                        "subjects": disabled,
                    },
                    # A later one of the same name wins: what Garrison verified and runs itself.
                    "routes": [
                        *(route for route, _ in external),
                        *self.routed.values(),
                    ],
                    "broker": self.broker(keys),
                    "limits": {
                        "requests_per_minute": self.settings.requests_per_minute,
                        "tokens_per_minute": self.settings.tokens_per_minute,
                        "concurrency": self.settings.concurrency,
                    },
                    "limit_rules": [people.access.limits[name] for name in sorted(people.access.limits)],
                    "workloads": [
                        {"name": one.name, "roles": sorted(one.roles), "models": sorted(one.models)}
                        for one in people.persons.values()
                        if not one.disabled and kind_of(one.roles) == "service"
                    ],
                    "proxies": [people.access.proxies[name] for name in sorted(people.access.proxies)],
                    "prices": [people.access.prices[name] for name in sorted(people.access.prices)],
                    "detect": detection(people.access, self.settings, now),
                    "watch": watched(people.access, self.sketch_key),
                    "restrictions": restrictions(people.access, now),
                    "max_token_lifetime": 86_400,
                    "issuers": self.issuers.as_json(),
                    "api_keys": [
                        key.as_json()
                        for key in people.access.api_keys.values()
                        if key.expires > now.timestamp()
                    ],
                }
            envelope = dsse.sign(canonical_json(body), SNAPSHOT_TYPE, self.snapshot_signer)
            write_atomically(self.settings.run / "snapshot.json", canonical_json(envelope))
            return self.snapshot_version

    def event(self, action: Action, resource: str, **facts: Any) -> Event:
        """An event of the server itself."""
        return Event(
            time=self.now(),
            action=action,
            actor=SYSTEM.actor,
            resource=resource,
            outcome=facts.pop("outcome", Outcome.ALLOWED),
            code=facts.pop("code", ""),
            digest=facts.pop("digest", ""),
            data=facts,
        )


def _external(route: serving.Route) -> tuple[dict[str, Any], dict[str, Any]]:
    """A route of the snapshot and the keys it needs.

    A model that something else serves has no digest that Garrison could vouch for: it says so.
    """
    shown, keys = snapshot_route(route.name, route.upstream, route.tier.value, route.options)
    return {**shown, "version": 0, "digest": "", "tasks": sorted(route.tasks)}, keys
