"""What a key signed, and what of it still counts once the key is revoked from some moment on.

The moment is a place in the ledger: everything recorded before the first record at or after it. Times inside
signed documents decide nothing, because a thief writes any time there; and a clock that went back later
does not move a record in front of that place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from garrison.artifacts import attachment_store, store
from garrison.artifacts.registry import published
from garrison.artifacts.release import BARE
from garrison.core.actions import Action
from garrison.core.digest import sha256_bytes
from garrison.core.event import format_time
from garrison.evidence import store as events
from garrison.evidence.told import told_all
from garrison.storage.sql import metadata
from garrison.trust.keyring import message_of, signer_id
from garrison.trust.keys.public import PublicKey

# Every column that holds a document signed by a release key: table, column.
_SIGNED = (
    ("releases", "statement"),
    ("releases", "bundle"),
    ("attachments", "envelope"),
    ("datasets", "statement"),
    ("imports", "record"),
)


@dataclass(frozen=True, slots=True)
class Affected:
    """A version, or a directory signed where it lay, that does not verify any more. `seq` 0: not on record."""

    ref: str
    digest: str
    time: str
    is_published: bool
    was_before: bool

    @property
    def fix(self) -> str:
        if not self.is_published:
            return f"garrison sign DIR --as {self.ref}, after comparing DIR with {self.digest[:19]}…"
        if self.was_before:
            return f"garrison model resign {self.ref}"
        return f"garrison --as ADMIN model resign {self.ref} --from DIR, DIR being the publisher's own copy"


def cutoff(connection: sa.Connection, since: datetime) -> int:
    """The number of the first record at or after `since`; one past the last when there is none.

    As the columns have it, for lists; what decides is asked of `first_after`.
    """
    first = connection.execute(
        sa.select(sa.func.min(events.events.c.seq)).where(events.events.c.time >= format_time(since))
    ).scalar()
    return int(first) if first is not None else events.count_and_last(connection)[1] + 1


def first_after(connection: sa.Connection, since: datetime) -> int:
    """As `cutoff`, from the records themselves. Raises `Refused` AUD-EDITED."""
    last = 0
    for record in told_all(connection):
        if record.event.time >= since:
            return record.seq
        last = record.seq
    return last + 1


def kept_before(connection: sa.Connection, key_id: str, since: datetime | None) -> frozenset[str]:
    """The messages by this key that the ledger had on record before `since`; none at all without one.

    A record counts that holds the digest of a message (`signed`) or of a stored document. Raises `Refused`
    AUD-EDITED for a record that is none.
    """
    if since is None:
        return frozenset()
    words: set[str] = set()
    kept: set[str] = set()
    for record in told_all(connection):
        if record.event.time >= since:
            break
        data = record.event.data
        if data.get("key") == key_id and isinstance(data.get("signed"), list):
            kept.update(str(item) for item in data["signed"])
        words.update(_words(data))
    for document in _documents(connection, key_id):
        message = message_of(document)
        if message and (_digest(document) in words or message in words):
            kept.add(message)
    return frozenset(kept)


def affected(connection: sa.Connection, key: PublicKey) -> list[Affected]:
    """What does not verify any more by a revoked key: published versions, then directories that were signed."""
    if key.revocation is None:
        return []
    kept = key.revocation.kept
    end = cutoff(connection, key.revocation.since)
    found = []
    for release in store.releases(connection):
        papers = [row.envelope for row in attachment_store.attachments_of(connection, release.ref)]
        documents = [release.statement, release.bundle, *papers]
        by_key = [document for document in documents if signer_id(document) == key.key_id]
        if release.retired is None and any(message_of(document) not in kept for document in by_key):
            seq = published(connection, release.ref)[0]
            time = format_time(release.created)
            found.append(Affected(str(release.ref), release.digest, time, True, 0 < seq < end))
    wanted = events.Filter(action=Action.ARTIFACT_SIGN.value)
    for record in events.find(connection, wanted):
        event = record.event
        if event.data.get("key") == key.key_id and event.data.get("kept") == BARE and record.seq >= end:
            found.append(Affected(event.resource, event.digest, format_time(event.time), False, False))
    return found


def signatures(connection: sa.Connection) -> dict[str, tuple[int, str]]:
    """Key id -> how many signing records there are, and the time of the last."""
    found: dict[str, tuple[int, str]] = {}
    for action in (Action.ARTIFACT_SIGN, Action.ARTIFACT_RESIGN):
        for record in events.find(connection, events.Filter(action=action.value, outcome="allowed")):
            key_id = str(record.event.data.get("key", ""))
            count, last = found.get(key_id, (0, ""))
            found[key_id] = (count + 1, max(last, format_time(record.event.time)))
    return found


def _documents(connection: sa.Connection, key_id: str) -> Iterator[bytes]:
    for table, column in _SIGNED:
        if table not in metadata.tables:
            continue
        for value in connection.execute(sa.select(metadata.tables[table].c[column])).scalars():
            if value and signer_id(bytes(value)) == key_id:
                yield bytes(value)


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.removeprefix("sha256:")
    elif isinstance(value, dict):
        for item in value.values():
            yield from _words(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)


def _digest(document: bytes) -> str:
    return sha256_bytes(document).removeprefix("sha256:")
