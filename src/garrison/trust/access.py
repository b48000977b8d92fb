"""Issuers, limits, prices, API keys, patterns, fingerprints, exceptions, sinks: folded from events, without a table.

Pure: events in, values out. What no event tells of does not exist, so there is no row that could be edited.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from garrison.core.actions import Action
from garrison.core.errors import Usage
from garrison.core.event import Event, format_time
from garrison.trust.api_keys import ApiKey, parse_api_key
from garrison.trust.issuers import Issuer, parse_issuer

TELLING = (
    Action.ISSUER_WRITE,
    Action.LIMIT_WRITE,
    Action.APIKEY_ISSUE,
    Action.DLP_WRITE,
    Action.GUARD_EXCEPT,
    Action.GUARD_WRITE,
    Action.SINK_WRITE,
    Action.PROXY_WRITE,
    Action.DETECT_WRITE,
    Action.ALERT_RAISE,
    Action.ALERT_CLOSE,
)
MAX_ALERTS = 5_000  # remembered, the newest


@dataclass(slots=True)
class Access:
    """Everything folded so far. Limits are kept as the event told them; the gateway reads them."""

    issuers: dict[str, Issuer] = field(default_factory=dict)
    limits: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    prices: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    api_keys: dict[str, ApiKey] = field(default_factory=dict)
    patterns: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    copies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    exceptions: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by "rule model"
    sinks: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    proxies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    responses: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # to alerts, by code
    networks: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    alerts: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by id, oldest first
    actions: dict[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # with values, by "tier direction class"
    canaries: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    hosts: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # that answers may point to
    packs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    guards: dict[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # by model, how orders to it are judged
    tier2: dict[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # who is asked in doubt, by "tier2.CHANNEL"

    names: dict[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # one, when names of people are looked for

    def copy(self) -> Access:
        return Access(
            dict(self.issuers),
            dict(self.limits),
            dict(self.prices),
            dict(self.api_keys),
            dict(self.patterns),
            dict(self.copies),
            dict(self.exceptions),
            dict(self.sinks),
            dict(self.proxies),
            dict(self.responses),
            dict(self.networks),
            dict(self.alerts),
            dict(self.actions),
            dict(self.canaries),
            dict(self.hosts),
            dict(self.packs),
            dict(self.guards),
            dict(self.tier2),
            dict(self.names),
        )


def fold(access: Access, event: Event) -> None:
    """Add one event that was allowed. One that cannot be read gives nobody anything."""
    with contextlib.suppress(KeyError, TypeError, ValueError, Usage):
        _fold(access, event)


def _fold(access: Access, event: Event) -> None:
    data = event.data
    if event.action is Action.ISSUER_WRITE:
        if data.get("removed") is True:
            access.issuers.pop(event.resource, None)
        else:
            access.issuers[event.resource] = parse_issuer(data["issuer"])
    elif event.action is Action.LIMIT_WRITE:
        target = access.prices if data.get("price") is True else access.limits
        if data.get("removed") is True:
            target.pop(event.resource, None)
        else:
            target[event.resource] = dict(data["limit"])
    elif event.action is Action.DLP_WRITE:
        _keep(access.patterns, event, "pattern")
        _keep(access.copies, event, "copies")
        _keep(access.actions, event, "handling")
        _keep(access.canaries, event, "canary")
        _keep(access.hosts, event, "host")
        _keep(access.packs, event, "pack")
        _keep(access.names, event, "names")
    elif event.action is Action.GUARD_EXCEPT:
        _keep(access.exceptions, event, "exception")
    elif event.action is Action.GUARD_WRITE:
        _keep(access.guards, event, "guard")
        _keep(access.tier2, event, "tier2")
    elif event.action is Action.SINK_WRITE:
        _keep(access.sinks, event, "sink")
    elif event.action is Action.PROXY_WRITE:
        _keep(access.proxies, event, "proxy")
    elif event.action is Action.DETECT_WRITE:
        _keep(access.responses, event, "answer_to")
        _keep(access.networks, event, "network")
    elif event.action is Action.ALERT_RAISE:
        alert = dict(data["alert"])
        access.alerts[str(alert["id"])] = {
            **alert,
            "code": event.code,
            "time": format_time(event.time),
            "led_to": dict(data["led_to"]),
            "state": "open",
        }
        if len(access.alerts) > MAX_ALERTS:
            del access.alerts[next(iter(access.alerts))]
    elif event.action is Action.ALERT_CLOSE:
        changed: dict[str, Any] = {key: str(data[key]) for key in ("state", "owner", "note") if key in data}
        access.alerts[event.resource] = {**access.alerts[event.resource], **changed}
    elif event.action is Action.APIKEY_ISSUE:
        key = parse_api_key(data["issued_key"])
        access.api_keys[key.key_id] = key


def _keep(target: dict[str, Mapping[str, Any]], event: Event, kind: str) -> None:
    """Put in, or take out, what an event says of one kind."""
    facts = event.data.get(kind)
    if facts is None:
        return
    if event.data.get("removed") is True:
        target.pop(event.resource, None)
    else:
        target[event.resource] = dict(facts)
