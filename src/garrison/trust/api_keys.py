"""API keys for clients that cannot fetch a token: random, kept as a hash only, limited to models, gone in a day.

A compatibility mode. The key itself is shown once; the ledger and the snapshot hold its SHA-256, which is enough for
256 random bits and gives nothing to whoever reads it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from garrison.core.decision import Subject
from garrison.trust.roles import kind_of

PREFIX = "garrison-key-"  # secret scanners find it by this
SECRET_BYTES = 32
MAX_API_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: `hash` is the hexadecimal SHA-256 of the whole text, `key_id` what it is revoked by."""

    key_id: str
    hash: str
    subject: Subject
    expires: float

    def as_json(self) -> dict[str, Any]:
        return {
            "key_id": self.key_id,
            "hash": self.hash,
            "sub": self.subject.name,
            "roles": sorted(self.subject.roles),
            "models": sorted(self.subject.models),
            "expires": self.expires,
        }


def new_api_key() -> str:
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def is_api_key(token: str) -> bool:
    return token.startswith(PREFIX)


def key_hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def parse_api_key(facts: Mapping[str, Any]) -> ApiKey:
    """As `as_json` wrote it. Raises KeyError, TypeError or ValueError; a key without models is none."""
    roles, models = frozenset(facts["roles"]), frozenset(facts["models"])
    if not roles or not models or len(facts["hash"]) != 64:
        raise ValueError("an API key names roles and models")
    subject = Subject(kind_of(roles), facts["sub"], roles, models, via="api key")
    return ApiKey(facts["key_id"], facts["hash"], subject, float(facts["expires"]))
