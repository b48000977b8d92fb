"""Issuers, limits, prices, API keys, patterns, fingerprints, exceptions: folded from events, without a table.

Pure: events in, values out. What no event tells of does not exist, so there is no row that could be edited.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from garrison.core.actions import Action
from garrison.core.errors import Usage
from garrison.core.event import Event
from garrison.trust.api_keys import ApiKey, parse_api_key
from garrison.trust.issuers import Issuer, parse_issuer

TELLING = (
    Action.ISSUER_WRITE,
    Action.LIMIT_WRITE,
    Action.APIKEY_ISSUE,
    Action.DLP_WRITE,
    Action.GUARD_EXCEPT,
)


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

    def copy(self) -> Access:
        return Access(
            dict(self.issuers),
            dict(self.limits),
            dict(self.prices),
            dict(self.api_keys),
            dict(self.patterns),
            dict(self.copies),
            dict(self.exceptions),
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
    elif event.action is Action.GUARD_EXCEPT:
        _keep(access.exceptions, event, "exception")
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
