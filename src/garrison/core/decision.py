"""The words of a decision: a subject asks to do an action on a resource in a context."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from garrison.core.actions import Action


class Tier(StrEnum):
    """Sensitivity of the data a model sees, from least to most. `rank` orders them."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    PERSONAL = "personal"
    HEALTH = "health"
    SECRET = "secret"

    @property
    def rank(self) -> int:
        return list(Tier).index(self)


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks. `kind` is `user`, `service` or `anonymous`; `models` empty means no model limit.

    `via` says how the identity was established (`token`, `socket`, `mtls`) for the audit row.
    """

    kind: str
    name: str
    roles: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    via: str = ""

    @property
    def actor(self) -> str:
        return f"{self.kind}:{self.name}"


ANONYMOUS = Subject("anonymous", "")


@dataclass(frozen=True, slots=True)
class Request:
    """One question for `trust.policy.decide`. `context` holds facts; a missing fact never allows."""

    subject: Subject
    action: Action
    resource: str
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer. `rule_id` names the deciding rule; `code` is the refusal code when not allowed."""

    allowed: bool
    rule_id: str
    reason: str
    code: str = ""
    policy_version: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a served model answers. `address` is `unix:/path/to.sock` or `http://host:port`.

    `tasks` are the OpenAI-style operations it serves (`chat`, `completions`, `embeddings`).
    """

    name: str
    version: int
    digest: str
    tier: Tier
    address: str
    tasks: frozenset[str]
