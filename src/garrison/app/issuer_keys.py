"""The keys of other issuers: fetched now and then, kept while the issuer is away, handed on in the snapshot.

Workers never fetch. A key that they do not know is asked for here, at most every few seconds. What was fetched is good
for a bounded time after the issuer stopped answering; it outlives a restart inside the signed snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from garrison.app.oidc_fetch import fetch_keys
from garrison.core.errors import GarrisonError, Undecided
from garrison.trust import dsse, strict_json
from garrison.trust.foreign import ForeignTokens, IssuerKeys
from garrison.trust.issuers import Issuer, parse_issuer
from garrison.trust.jwks import KeySet, key_set
from garrison.trust.keys.public import PublicKey

REFRESH_SECONDS = 300.0  # providers announce a new key hours before they use it
AGAIN_SECONDS = 5.0  # between two fetches from one issuer, whoever asks: a forged token may cause one
LOOK_SECONDS = 1.0
MAX_SNAPSHOT = 16 << 20


@dataclass(slots=True)
class Known:
    """What is known of one issuer's keys. Times are seconds since 1970."""

    issuer: Issuer
    keys: KeySet | None = None
    fetched: float = 0.0  # the last time that it worked
    tried: float = 0.0
    problem: str = ""
    failing_since: float = 0.0


@dataclass(slots=True)
class IssuerRing:
    """All issuers with their keys. `fetch` is what asks one; `stale` how long old keys count, in seconds."""

    stale: float
    fetch: Callable[[Issuer], KeySet] = fetch_keys
    known: dict[str, Known] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def follow(self, issuers: Mapping[str, Issuer]) -> None:
        """Know these issuers and no others. Keys stay with an issuer only while nothing about it changes."""
        with self.lock:
            for url in set(self.known) - set(issuers):
                del self.known[url]
            for url, issuer in issuers.items():
                if url not in self.known or self.known[url].issuer != issuer:
                    self.known[url] = Known(issuer)

    def take(self, issuer: Issuer, keys: KeySet, now: float) -> None:
        """Keys that were just fetched from an issuer that is followed."""
        with self.lock:
            one = self.known.get(issuer.url)
            if one is not None and one.issuer == issuer:
                one.keys, one.fetched, one.tried, one.problem = keys, now, now, ""

    def snapshot(self) -> list[Known]:
        """What is known of each issuer now, by address."""
        with self.lock:
            return [replace(self.known[url]) for url in sorted(self.known)]

    def due(self, now: float) -> list[Known]:
        with self.lock:
            return [
                one
                for url, one in self.known.items()
                if now - one.tried >= AGAIN_SECONDS
                and (
                    one.keys is None
                    or one.problem
                    or url in self.wanted
                    or now - one.fetched > REFRESH_SECONDS
                )
            ]

    def refresh(self, one: Known, now: float) -> tuple[bool, str]:
        """Ask an issuer: (whether its keys are others than before, what is newly wrong)."""
        one.tried = now
        self.wanted.discard(one.issuer.url)
        try:
            keys = self.fetch(one.issuer)
        except Undecided as error:
            is_news = not one.problem
            one.problem, one.failing_since = error.what[:300], one.failing_since or now
            return False, error.what if is_news else ""
        changed = one.keys is None or one.keys != keys
        recovered = bool(one.problem)
        one.keys, one.fetched, one.problem, one.failing_since = keys, now, "", 0.0
        return changed or recovered, ""

    def keys(self) -> list[IssuerKeys]:
        """What may be verified with now."""
        with self.lock:
            return [
                IssuerKeys(one.issuer, one.keys or KeySet({}), one.fetched + self.stale)
                for one in self.known.values()
            ]

    def tokens(self) -> ForeignTokens:
        return ForeignTokens.of(self.keys())

    def as_json(self) -> list[dict[str, Any]]:
        """The part of the snapshot; `garrison.gateway.snapshot` reads it."""
        return [
            {
                "issuer": one.issuer.as_json(),
                "keys": [key.as_json() for key in one.keys.keys.values()],
                "until": int(one.until),
            }
            for one in self.keys()
        ]

    def remember(self, snapshot: Path, signer: PublicKey, payload_type: str) -> None:
        """Take the keys of the last snapshot that this server signed: the issuer may be away at a restart."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, GarrisonError):
            payload, _ = dsse.open_envelope(snapshot.read_bytes(), [signer], payload_type=payload_type)
            for item in strict_json.loads(payload, MAX_SNAPSHOT)["issuers"]:
                issuer = parse_issuer(item["issuer"])
                one = self.known.get(issuer.url)
                if one is not None and one.issuer == issuer and one.keys is None:
                    one.keys = key_set(item["keys"], issuer.algorithms)
                    one.fetched = float(item["until"]) - self.stale


async def keep(
    ring: IssuerRing,
    now: Callable[[], datetime],
    changed: Callable[[], None],
    told: Callable[[Issuer, str], None],
    stop: asyncio.Event,
) -> None:
    """Fetch what is due until `stop`; `changed` publishes, `told` records an issuer that began to fail or changed."""
    while not stop.is_set():
        for one in ring.due(now().timestamp()):
            is_new, problem = await asyncio.to_thread(ring.refresh, one, now().timestamp())
            with contextlib.suppress(GarrisonError, OSError):  # tried again with the next fetch
                if is_new or problem:
                    await asyncio.to_thread(told, one.issuer, problem)
                if is_new or not (problem or one.problem):
                    await asyncio.to_thread(changed)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
