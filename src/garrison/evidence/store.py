"""The tables of the evidence room, and the only SQL in it. Returns domain values, never rows.

`ledger_event` is append-only. `ledger_tile` keeps the roots of complete subtrees at every eighth level
(the tiles of C2SP tlog-tiles), so a proof reads a few hundred hashes however long the log is, and an
append writes one more row per 256 events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from garrison.core.errors import Refused
from garrison.core.event import format_time
from garrison.evidence.merkle import Frontier, Node, Subtree, frontier_at
from garrison.evidence.record import Record, audit_id, read_record
from garrison.storage.sql import COUNT, metadata

TILE_LEVELS = 8  # tile height of C2SP tlog-tiles: 256 hashes
PAGE = 1_000  # rows fetched at a time, so that a verify of any ledger has flat memory

events = sa.Table(
    "ledger_event",
    metadata,
    sa.Column("seq", COUNT, primary_key=True, autoincrement=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
    sa.Index("ledger_event_action", "action", "seq"),
    sa.Index("ledger_event_resource", "resource", "seq"),
    sa.Index("ledger_event_time", "time"),
)
head = sa.Table(
    "ledger_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),
)
tiles = sa.Table(
    "ledger_tile",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
checkpoints = sa.Table(
    "ledger_checkpoint",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("note", sa.LargeBinary, nullable=False),
)
spool = sa.Table(
    "ledger_spool",
    metadata,
    sa.Column("worker", sa.Text, primary_key=True),
    sa.Column("segment", COUNT, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("open", sa.Text, nullable=False),
)


def _blob(column: sa.Column[Any]) -> sa.Label[bytes]:
    """The column as bytes whatever lies in it: SQLite keeps any type in any column."""
    return sa.cast(column, sa.LargeBinary).label(column.name)


INDEXED = ("time", "action", "actor", "resource", "outcome", "code", "digest", "trace_id")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records: an action, a model (by name or name@version), a time span, an outcome, a sequence span."""

    action: str = ""
    model: str = ""
    actor: str = ""
    outcome: str = ""
    since: str = ""  # format_time(); inclusive
    until: str = ""  # exclusive
    after: int = 0  # seq greater than
    limit: int = 0  # 0: all
    trace_id: str = ""  # of a gateway request: its id


def columns_of(record: Record) -> dict[str, str]:
    """What the query columns of a record must hold."""
    event = record.event
    return {
        "time": format_time(event.time),
        "action": event.action.value,
        "actor": event.actor,
        "resource": event.resource,
        "outcome": event.outcome.value,
        "code": event.code,
        "digest": event.digest,
        "trace_id": event.trace_id,
    }


# Statements of every commit, built once: composing them anew costs more than running them.
_READ_HEAD = sa.select(head.c.size, _blob(head.c.frontier)).where(head.c.id == 1)
_LOCK_HEAD = _READ_HEAD.with_for_update()
_MOVE_HEAD = (
    head.update()
    .where(head.c.id == 1)
    .values(size=sa.bindparam("new_size"), frontier=sa.bindparam("new_frontier"))
)
_ADD_EVENT = events.insert()
_ADD_TILE = tiles.insert()
_ADD_CHECKPOINT = checkpoints.insert()


def read_head(connection: sa.Connection, *, lock: bool = False) -> Frontier | None:
    """The stored frontier; None before the first start. Raises ValueError when it is malformed."""
    row = connection.execute(_LOCK_HEAD if lock else _READ_HEAD).one_or_none()
    return None if row is None else Frontier.from_bytes(row.size, row.frontier)


def create_head(connection: sa.Connection) -> None:
    connection.execute(head.insert().values(id=1, size=0, frontier=b""))


def append(
    connection: sa.Connection, records: Sequence[Record], nodes: Sequence[Node], frontier: Frontier
) -> None:
    """Insert records, the tile roots they completed, and the new head. Raises IntegrityError when taken."""
    connection.execute(
        _ADD_EVENT, [{"seq": r.seq, "body": r.body, "leaf": r.leaf, **columns_of(r)} for r in records]
    )
    rows = [{"level": n[0], "position": n[1], "hash": n[2]} for n in nodes if n[0] % TILE_LEVELS == 0]
    if rows:
        connection.execute(_ADD_TILE, rows)
    connection.execute(_MOVE_HEAD, {"new_size": frontier.size, "new_frontier": frontier.as_bytes()})


def save_checkpoints(connection: sa.Connection, notes: Sequence[tuple[int, bytes]]) -> None:
    """Keep signed checkpoints by their size. Raises IntegrityError when one of that size is there."""
    if notes:
        connection.execute(_ADD_CHECKPOINT, [{"size": size, "note": note} for size, note in notes])


def has_checkpoint(connection: sa.Connection, size: int) -> bool:
    query = sa.select(checkpoints.c.size).where(checkpoints.c.size == size)
    return connection.execute(query).one_or_none() is not None


def read_checkpoints(connection: sa.Connection) -> Iterator[tuple[int, bytes]]:
    """Every stored checkpoint, by size."""
    last = -1
    while rows := connection.execute(
        sa.select(checkpoints.c.size, _blob(checkpoints.c.note))
        .where(checkpoints.c.size > last)
        .order_by(checkpoints.c.size)
        .limit(PAGE)
    ).all():
        for size, note in rows:
            yield size if isinstance(size, int) else 0, note or b""
        last = rows[-1][0]


def leaves(connection: sa.Connection) -> Iterator[bytes]:
    """Every stored leaf hash, in order."""
    last = 0
    while rows := connection.execute(
        sa.select(events.c.seq, _blob(events.c.leaf))
        .where(events.c.seq > last)
        .order_by(events.c.seq)
        .limit(PAGE)
    ).all():
        for row in rows:
            yield row.leaf
        last = rows[-1].seq


def rewrite_tree(connection: sa.Connection, nodes: Sequence[Node], frontier: Frontier) -> None:
    """Replace tiles and head, and drop the checkpoints of records that are gone. Repair only."""
    connection.execute(tiles.delete())
    connection.execute(head.delete())
    connection.execute(checkpoints.delete().where(checkpoints.c.size > frontier.size))
    if nodes:
        connection.execute(tiles.insert(), [{"level": n[0], "position": n[1], "hash": n[2]} for n in nodes])
    connection.execute(head.insert().values(id=1, size=frontier.size, frontier=frontier.as_bytes()))


def count_and_last(connection: sa.Connection) -> tuple[int, int]:
    """How many event rows there are, and the largest sequence number (0 when none)."""
    row = connection.execute(sa.select(sa.func.count(), sa.func.max(events.c.seq))).one()
    return row[0], row[1] or 0


def subtree_reader(connection: sa.Connection) -> Subtree:
    """Roots of complete subtrees, from the tiles and the leaf hashes. Raises LookupError for a missing row."""

    def subtree(level: int, index: int) -> bytes:
        base = level - level % TILE_LEVELS
        count = 1 << (level - base)
        hashes = _stored(connection, base, index * count, count)
        if len(hashes) != count:
            raise LookupError(f"the ledger has no complete subtree {level}/{index}")
        return frontier_at(count, _aligned(hashes)).hashes[0] if count > 1 else hashes[0]

    return subtree


def _aligned(hashes: Sequence[bytes]) -> Subtree:
    def subtree(level: int, index: int) -> bytes:
        frontier = Frontier()
        for value in hashes[index << level : (index + 1) << level]:
            frontier, _ = frontier.append(value)
        return frontier.hashes[0]

    return subtree


def _stored(connection: sa.Connection, level: int, first: int, count: int) -> list[bytes]:
    if level == 0:
        query = sa.select(_blob(events.c.leaf)).where(events.c.seq.between(first + 1, first + count))
        return list(connection.execute(query.order_by(events.c.seq)).scalars())
    query = sa.select(_blob(tiles.c.hash)).where(
        tiles.c.level == level, tiles.c.position.between(first, first + count - 1)
    )
    return list(connection.execute(query.order_by(tiles.c.position)).scalars())


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it lies in the database, for the verifier: bytes, nothing about them believed."""

    seq: int
    body: bytes | None
    leaf: bytes | None
    columns: dict[str, bytes | None]


def raw_rows(connection: sa.Connection) -> Iterator[RawRow]:
    """Every row by sequence number. Columns come as bytes: a tampered text need not be valid UTF-8."""
    columns = [events.c.seq, _blob(events.c.body), _blob(events.c.leaf)]
    query = sa.select(*columns, *(_text_bytes(connection, events.c[name]) for name in INDEXED))
    last: int | None = None
    while True:
        page = query.order_by(events.c.seq).limit(PAGE)
        rows = connection.execute(page if last is None else page.where(events.c.seq > last)).all()
        for row in rows:
            yield RawRow(row[0], row[1], row[2], dict(zip(INDEXED, row[3:], strict=True)))
        if len(rows) < PAGE:
            return
        last = rows[-1][0]


def _text_bytes(connection: sa.Connection, column: sa.Column[Any]) -> sa.ColumnElement[bytes]:
    if connection.dialect.name == "sqlite":
        return _blob(column)
    return sa.func.convert_to(column, "UTF8", type_=sa.LargeBinary)


_RECORD = (events.c.seq, _blob(events.c.body), _blob(events.c.leaf))


def _record(row: Any) -> Record:
    try:
        return read_record(row[0], row[1] or b"", row[2] or b"")
    except ValueError as error:
        raise Refused(
            "AUD-EDITED",
            f"{audit_id(row[0])} is not as it was written: {error}",
            fix="run garrison audit verify; treat what that record says as false",
        ) from error


def find(connection: sa.Connection, wanted: Filter) -> Iterator[Record]:
    """Records that match, oldest first. Raises `Refused` AUD-EDITED for a stored body that is none."""
    yield from _paged(connection, wanted, newest_first=False)


def latest(connection: sa.Connection, wanted: Filter) -> list[Record]:
    """The last `wanted.limit` records that match, oldest first."""
    return list(_paged(connection, wanted, newest_first=True))[::-1]


def _paged(connection: sa.Connection, wanted: Filter, *, newest_first: bool) -> Iterator[Record]:
    base = sa.select(*_RECORD).where(*_conditions(wanted))
    base = base.order_by(events.c.seq.desc() if newest_first else events.c.seq)
    left = wanted.limit or None
    last: int | None = None
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        query = base.limit(size)
        if last is not None:
            query = query.where(events.c.seq < last if newest_first else events.c.seq > last)
        rows = connection.execute(query).all()
        for row in rows:
            yield _record(row)
        if len(rows) < size:
            return
        last = rows[-1].seq
        left = None if left is None else left - len(rows)


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.after:
        found.append(events.c.seq > wanted.after)
    exact = {name: getattr(wanted, name) for name in ("action", "actor", "outcome", "trace_id")}
    found.extend(events.c[name] == value for name, value in exact.items() if value)
    if wanted.model:
        versions = events.c.resource.startswith(f"{wanted.model}@", autoescape=True)
        found.append(sa.or_(events.c.resource == wanted.model, versions))
    if wanted.since:
        found.append(events.c.time >= wanted.since)
    if wanted.until:
        found.append(events.c.time < wanted.until)
    return found


def resources(connection: sa.Connection, wanted: Filter) -> set[str]:
    """What the records that match are about, by the columns alone."""
    query = sa.select(events.c.resource).where(*_conditions(wanted)).distinct()
    return set(connection.execute(query).scalars())


def get(connection: sa.Connection, seq: int) -> Record | None:
    row = connection.execute(sa.select(*_RECORD).where(events.c.seq == seq)).one_or_none()
    return None if row is None else _record(row)
