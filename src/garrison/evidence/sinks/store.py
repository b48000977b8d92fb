"""How far each sink has the ledger: the one table of the sinks. Which sinks there are is told by events alone."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from garrison.storage.sql import metadata

cursors = sa.Table(
    "ledger_sinks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("cursor", sa.BigInteger, nullable=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
    sa.Column("moved", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("since", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Records up to number `seq`, whose leaf hash is `leaf`, were taken, the last of them when `moved` says.

    `code` and `reason` say why nothing more is taken, `since` since when; empty when all is well.
    """

    name: str
    seq: int
    leaf: bytes = b""
    moved: str = ""
    code: str = ""
    reason: str = ""
    since: str = ""


def find(connection: sa.Connection, name: str) -> Cursor | None:
    row = connection.execute(sa.select(cursors).where(cursors.c.name == name)).one_or_none()
    return None if row is None else _cursor(row)


def all_cursors(connection: sa.Connection) -> dict[str, Cursor]:
    """Every cursor; none in a database of an earlier release that nobody has upgraded yet."""
    if not sa.inspect(connection).has_table(cursors.name):
        return {}
    return {row.name: _cursor(row) for row in connection.execute(sa.select(cursors))}


def save(connection: sa.Connection, cursor: Cursor) -> None:
    values = {
        "cursor": cursor.seq,
        "leaf": cursor.leaf,
        "moved": cursor.moved,
        "code": cursor.code,
        "reason": cursor.reason,
        "since": cursor.since,
    }
    changed = connection.execute(cursors.update().where(cursors.c.name == cursor.name).values(**values))
    if changed.rowcount == 0:
        connection.execute(cursors.insert().values(name=cursor.name, **values))


def remove(connection: sa.Connection, name: str) -> None:
    connection.execute(cursors.delete().where(cursors.c.name == name))


def _cursor(row: sa.Row[tuple[str, int, bytes, str, str, str, str]]) -> Cursor:
    return Cursor(row.name, row.cursor, row.leaf, row.moved, row.code, row.reason, row.since)
