"""One step of delivery: the next records after the cursor are sent, and the cursor moves when they were taken.

At least once: a kill between the two sends them again, with the same `uid`. A record is never passed over because
it failed; the cursor stays before it, and whoever asks is told which one it is.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from garrison.core.errors import Refused
from garrison.core.event import format_time
from garrison.evidence import store as events
from garrison.evidence.record import Record, audit_id
from garrison.evidence.sinks import store
from garrison.evidence.sinks.base import Wire
from garrison.evidence.sinks.store import Cursor
from garrison.storage.sql import Database

BATCH = 500  # records of one step
BATCH_BYTES = 1 << 20  # of their bodies; one record alone may have 64 kB


def step(database: Database, wire: Wire, name: str, now: datetime, most: int = BATCH) -> int:
    """Deliver up to `most` records; returns how many were taken. Raises what `wire.send` raises, and `Refused`
    SINK-CURSOR when the cursor does not belong to this ledger."""
    with database.read() as connection:
        cursor = store.find(connection, name)
        if cursor is None:
            return 0
        _check(connection, cursor)
        records = _next(connection, cursor.seq, most)
    if not records:
        return 0
    wire.send(records)
    last = records[-1]
    moved = Cursor(name, last.seq, last.leaf, format_time(now))
    with database.write() as connection:
        current = store.find(connection, name)
        if current is None or current.seq != cursor.seq:
            return 0  # removed, or moved by somebody, while it was under way: what they said counts
        store.save(connection, moved)
    return len(records)


def note_failure(database: Database, name: str, code: str, reason: str, now: datetime) -> None:
    """Write down why nothing is taken; `since` stays what it was when that began."""
    with database.write() as connection:
        cursor = store.find(connection, name)
        if cursor is not None and (cursor.code, cursor.reason) != (code, reason):
            since = cursor.since or format_time(now)
            store.save(connection, replace(cursor, code=code, reason=reason[:500], since=since))


def note_recovery(database: Database, name: str) -> None:
    with database.write() as connection:
        cursor = store.find(connection, name)
        if cursor is not None and cursor.code:
            store.save(connection, replace(cursor, code="", reason="", since=""))


def start_at(connection: sa.Connection, name: str, seq: int) -> None:
    """Let delivery go on behind record number `seq`; 0 is the beginning of the ledger."""
    record = events.get(connection, seq) if seq else None
    store.save(connection, Cursor(name, seq, record.leaf if record else b""))


def _check(connection: sa.Connection, cursor: Cursor) -> None:
    if cursor.seq == 0 or not cursor.leaf:
        return
    record = events.get(connection, cursor.seq)
    if record is None or record.leaf != cursor.leaf:
        raise Refused(
            "SINK-CURSOR",
            f"the sink {cursor.name} has the ledger up to {audit_id(cursor.seq)}, and that record is not here",
            fix=f"garrison audit verify; then garrison sink seek {cursor.name} AUDIT-ID --reason TEXT",
        )


def _next(connection: sa.Connection, after: int, most: int) -> list[Record]:
    records: list[Record] = []
    size = 0
    for record in events.find(connection, events.Filter(after=after, limit=most)):
        size += len(record.body)
        if records and size > BATCH_BYTES:
            break
        records.append(record)
    return records
