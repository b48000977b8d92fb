"""The signed configuration a worker serves by: policy, token keys, revocations, routes and limits.

The control process signs one immutable JSON document per change (DSSE); a worker pins the signing key when
it starts, never goes back to an older version, and answers nothing once the newest one has expired. Each
request keeps the snapshot that it began with, so a reload fails none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.core.decision import Endpoint, Subject, Tier
from garrison.core.digest import is_digest
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import parse_time
from garrison.detect.copies import MAX_SETS
from garrison.detect.custom import MAX_PATTERNS, parse_pattern
from garrison.detect.handling import MAX_ACTIONS, Actions, parse_actions
from garrison.detect.route_guard import RouteGuard, parse_guard
from garrison.gateway.limits import MAX_RULES, Counted, Limits, Price, Rule, default_rule, parse_rule
from garrison.gateway.proxies import NONE, Proxies, parse_proxies
from garrison.gateway.restrictions import Restrictions, parse_restrictions
from garrison.gateway.rules import PLAIN, RouteRules, parse_rules
from garrison.gateway.use import Uses, parse_uses
from garrison.trust import dsse, strict_json
from garrison.trust.api_keys import MAX_API_KEYS, ApiKey, parse_api_key
from garrison.trust.foreign import ForeignTokens, IssuerKeys
from garrison.trust.identity import Principal, TokenVerifier
from garrison.trust.issuers import MAX_ISSUERS, parse_issuer
from garrison.trust.jwks import key_set
from garrison.trust.keys.public import PublicKey
from garrison.trust.policy import Policy
from garrison.trust.roles import kind_of

PAYLOAD_TYPE = "application/vnd.garrison.snapshot+json"
MAX_BYTES = 16 << 20  # some 50,000 revocations and 1,000 routes take 5 MB
MAX_ROUTES = 4_096
MAX_EXCEPTIONS = 256


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version, verified. `routes` is by name; times are seconds since 1970."""

    version: int
    expires: float
    policy: Policy
    tokens: TokenVerifier
    foreign: ForeignTokens
    revoked_tokens: frozenset[str]
    revoked_subjects: frozenset[str]
    routes: Mapping[str, Endpoint]
    limits: Limits
    rules: Mapping[str, RouteRules]  # of the routes that have any, by name
    limit_rules: tuple[Rule, ...] = ()
    prices: Mapping[str, Price] = field(default_factory=dict)
    workloads: Mapping[str, Subject] = field(default_factory=dict)  # who may come with a certificate alone
    proxies: Proxies = NONE  # who in front may say who calls
    uses: Uses = field(default_factory=Uses)  # what events say of how models are used
    restricted: Restrictions = field(default_factory=dict)  # by actor, what alerts led to
    detect: Mapping[str, Any] = field(default_factory=dict)  # what a customer added, for `detect.own`
    actions: Actions = field(default_factory=Actions)  # what is done with values, by the tier of the model
    guards: Mapping[str, RouteGuard] = field(default_factory=dict)  # by model, how orders to it are judged
    excepted: Mapping[str, tuple[tuple[str, float], ...]] = field(
        default_factory=dict
    )  # model: (rule, until)
    # (id of the principal, model, task, tag): who may use what, the name it is served by, how it is counted
    admitted: dict[tuple[int, str, str, str], tuple[Principal, Endpoint, str, Counted]] = field(
        default_factory=dict
    )

    def counted(self, identity: str, model: str, tenant: str) -> Counted:
        """Under which limits the requests of somebody for a model are."""
        rules = (default_rule(self.limits), *self.limit_rules)
        keyed = tuple((rule, key) for rule in rules if (key := rule.key(identity, model, tenant)) is not None)
        return Counted(keyed, self.prices.get(model, Price()), model)

    def route(self, model: str) -> Endpoint | None:
        """The endpoint that serves `name` or exactly `name@version`."""
        name, at, version = model.partition("@")
        endpoint = self.routes.get(name)
        if endpoint is None or (at and version != str(endpoint.version)):
            return None
        return endpoint


def open_snapshot(
    data: bytes, key: PublicKey, *, audience: str, issuer: str, previous: Snapshot | None = None
) -> Snapshot:
    """Verify and parse one snapshot file. `previous` lends its parsed policy when the text is the same.

    Raises what `dsse.open_envelope` raises, or `Refused` GW-SNAPSHOT when the document is not one.
    """
    payload, _ = dsse.open_envelope(data, [key], payload_type=PAYLOAD_TYPE)
    try:
        body = strict_json.loads(payload, MAX_BYTES)
        revoked_tokens = frozenset(body["revoked"]["tokens"])
        revoked_subjects = frozenset(body["revoked"]["subjects"])
        keys = [
            PublicKey(item["kid"], "token", item["pem"].encode())
            for item in strict_list(body["token_keys"], 64)
        ]
        tokens = TokenVerifier(
            keys,
            audience,
            issuer,
            revoked_tokens=revoked_tokens,
            revoked_subjects=revoked_subjects,
            max_lifetime=body["max_token_lifetime"],
            others=(foreign := _foreign(body.get("issuers", []))),
            api_keys=_api_keys(body.get("api_keys", [])),
        )
        routes = strict_list(body["routes"], MAX_ROUTES)
        endpoints = [_endpoint(route) for route in routes]
        return Snapshot(
            version=_whole(body["version"]),
            expires=parse_time(body["expires"]).timestamp(),
            policy=_policy(body["policy"], previous),
            tokens=tokens,
            foreign=foreign,
            revoked_tokens=revoked_tokens,
            revoked_subjects=revoked_subjects,
            routes={endpoint.name: endpoint for endpoint in endpoints},
            rules=_rules(routes, body.get("broker", "")),
            limits=Limits(
                *(
                    _whole(body["limits"][name])
                    for name in ("requests_per_minute", "tokens_per_minute", "concurrency")
                )
            ),
            limit_rules=tuple(
                parse_rule(item) for item in strict_list(body.get("limit_rules", []), MAX_RULES)
            ),
            workloads={
                item["name"]: _workload(item) for item in strict_list(body.get("workloads", []), MAX_API_KEYS)
            },
            proxies=parse_proxies(body.get("proxies", [])),
            uses=parse_uses(body.get("watch")),
            restricted=parse_restrictions(body.get("restrictions", [])),
            detect=_detect(body.get("detect", {})),
            actions=_actions(body.get("detect", {}).get("actions", [])),
            excepted=_excepted(body.get("detect", {}).get("exceptions", [])),
            guards={
                str(item["name"]): parse_guard(item)
                for item in strict_list(body.get("detect", {}).get("guards", []), MAX_ROUTES)
            },
            prices={
                item["model"]: Price(_whole(item["asked"]), _whole(item["answered"]))
                for item in strict_list(body.get("prices", []), MAX_ROUTES)
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(
            "GW-SNAPSHOT",
            f"the snapshot is signed but is not one that this version reads: {type(error).__name__}",
            fix="run the same version of Garrison for the control process and its gateway workers",
        ) from error


def _foreign(items: Any) -> ForeignTokens:
    """The other issuers, with the keys that the control process fetched from them."""
    known = []
    for item in strict_list(items, MAX_ISSUERS):
        issuer = parse_issuer(item["issuer"])
        keys = key_set(strict_list(item["keys"], 256), issuer.algorithms)
        known.append(IssuerKeys(issuer, keys, float(_whole(item["until"]))))
    return ForeignTokens.of(known)


def _workload(item: Any) -> Subject:
    roles = frozenset(strict_list(item["roles"], 64))
    return Subject(
        kind_of(roles), item["name"], roles, frozenset(strict_list(item["models"], 4_096)), via="mtls"
    )


def _api_keys(items: Any) -> dict[str, ApiKey]:
    found = [parse_api_key(item) for item in strict_list(items, MAX_API_KEYS)]
    return {key.hash: key for key in found}


def _policy(body: Any, previous: Snapshot | None) -> Policy:
    cedar, schema = body["cedar"], body["schema"]
    if not isinstance(cedar, str) or not isinstance(schema, str):
        raise TypeError("policy")
    if previous is not None and (previous.policy.cedar_text, previous.policy.schema_text) == (cedar, schema):
        return previous.policy
    # Who signed the snapshot has held the policy against its schema: doing so again would stop every request for 13 ms.
    return Policy(cedar, schema, is_validated=True)


def _rules(routes: list[dict[str, Any]], broker: str) -> dict[str, RouteRules]:
    """The rules of the routes that have any."""
    found = {route["name"]: parse_rules(route, broker) for route in routes}
    return {name: rules for name, rules in found.items() if rules != PLAIN}


def _detect(body: Any) -> dict[str, Any]:
    """Patterns are parsed here, so that a snapshot with one that is none is refused like any other."""
    if not isinstance(body, dict):
        raise TypeError("detect")
    for item in strict_list(body.get("patterns", []), MAX_PATTERNS):
        try:
            parse_pattern(item)
        except Usage as error:
            raise ValueError("pattern") from error
    strict_list(body.get("copies", []), MAX_SETS)
    return body


def _actions(items: Any) -> Actions:
    try:
        return parse_actions(strict_list(items, MAX_ACTIONS))
    except Usage as error:
        raise ValueError("action") from error


def _excepted(items: Any) -> dict[str, tuple[tuple[str, float], ...]]:
    """By model, the rules that do not block it and until when."""
    found: dict[str, tuple[tuple[str, float], ...]] = {}
    for item in strict_list(items, MAX_EXCEPTIONS):
        one = (str(item["rule"]), parse_time(item["until"]).timestamp())
        found[item["model"]] = (*found.get(item["model"], ()), one)
    return found


def _endpoint(route: Any) -> Endpoint:
    digest = route["digest"]
    if not isinstance(digest, str) or (digest and not is_digest(digest)):
        raise ValueError("digest")
    for name in ("name", "address"):
        if not isinstance(route[name], str):
            raise TypeError(name)
    tasks = frozenset(strict_list(route["tasks"], 16))
    version = _whole(route["version"])
    return Endpoint(route["name"], version, digest, Tier(route["tier"]), route["address"], tasks)


def strict_list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise TypeError("list")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError("whole number")
    return value


class SnapshotFile:
    """The newest good snapshot of one file. `refresh` is cheap when nothing changed: one `stat`.

    `prepare` makes what takes long and is needed with a snapshot. Like the reading of the file it is done in the
    `background`, before `refresh` tells of the snapshot: compiling patterns takes seconds.
    """

    def __init__(
        self,
        path: Path,
        key: PublicKey,
        *,
        audience: str,
        issuer: str,
        minimum_version: int = 0,
        background: Executor | None = None,
        prepare: Callable[[Snapshot], object] = lambda _snapshot: None,
    ) -> None:
        self._path = path
        self._prepare = prepare
        self._background = background
        self._pending: Future[Snapshot] | None = None
        self._key = key
        self._names = {"audience": audience, "issuer": issuer}
        self._floor = minimum_version
        self._seen: tuple[int, int, int] | None = None
        self._current: Snapshot | None = None
        self.problem: GarrisonError | None = None
        self.rejected = 0

    def refresh(self) -> Snapshot | None:
        """Load the file if it is another one than last time; the new snapshot, or None when there is none.

        A bad or older file changes nothing and is remembered in `problem`.
        """
        if self._pending is not None:
            if not self._pending.done():
                return None
            pending, self._pending = self._pending, None
            return self._take(pending.result)
        try:
            stat = os.stat(self._path)
        except OSError as error:
            self._unreadable(error)
            return None
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen == self._seen:
            return None
        self._seen = seen
        if self._background is None or self._current is None:
            return self._take(self._open)
        self._pending = self._background.submit(self._open)  # what is served meanwhile is not held up
        return None

    def _open(self) -> Snapshot:
        if self._path.stat().st_size > 2 * MAX_BYTES:
            raise Refused("GW-SNAPSHOT", "the snapshot file is too large", fix="restart garrison up")
        opened = open_snapshot(self._path.read_bytes(), self._key, previous=self._current, **self._names)
        self._prepare(opened)
        return opened

    def _take(self, load: Callable[[], Snapshot]) -> Snapshot | None:
        try:
            loaded = load()
            if loaded.version < self._floor:
                raise Refused(
                    "GW-SNAPSHOT",
                    f"the snapshot is version {loaded.version}, older than {self._floor} which was served",
                    fix="nothing to do when the next one is newer; else look at who writes the run directory",
                )
        except OSError as error:
            self._unreadable(error)
            return None
        except GarrisonError as error:
            self.rejected += 1
            self.problem = error
            return None
        self.problem = None
        self._floor = loaded.version
        self._current = loaded
        return loaded

    def _unreadable(self, error: OSError) -> None:
        self._seen = None
        self.problem = Undecided(
            "GW-STALE",
            f"the snapshot file cannot be read: {error.strerror}",
            fix="check that garrison up runs and owns its data directory",
        )

    @property
    def version(self) -> int:
        """The version that is served by; 0 before the first."""
        return 0 if self._current is None else self._current.version

    @property
    def newest(self) -> Snapshot | None:
        """The newest good snapshot, expired or not."""
        return self._current

    def unknown_keys(self) -> list[str]:
        """Issuers whose tokens named a key that this snapshot lacks, each told once."""
        if self._current is None or not self._current.foreign.unknown:
            return []
        urls = sorted(self._current.foreign.unknown)
        self._current.foreign.unknown.clear()
        return urls

    def current(self, now: float) -> Snapshot:
        """What to serve by at `now`. Raises `Undecided` GW-STALE without one, or when it has expired."""
        snapshot = self._current
        if snapshot is None or now >= snapshot.expires:
            raise Undecided(
                "GW-STALE",
                "the gateway has no valid configuration snapshot, so nothing can be decided",
                fix="an operator has to bring the control process back: garrison up, then garrison doctor",
                retry_after=5,
            )
        return snapshot
