"""One database, opened once: SQLite in WAL mode below the data directory, or PostgreSQL (`postgres.py`).

Tables are declared by the rooms that write them (`store.py`) on the shared `metadata`; the schema is
built and upgraded by the one Alembic history in `migrations/`. Nothing else in Garrison speaks SQL.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from garrison.core.errors import GarrisonError, Undecided

metadata = sa.MetaData()

BUSY_TIMEOUT_MS = 5_000  # a writer waits this long for another writer, then fails with a sentence


COUNT = sa.BigInteger().with_variant(
    sa.Integer, "sqlite"
)  # SQLite's INTEGER has 64 bits and is the row's own id


def _nothing_more(_connection: sa.Connection) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Manner:
    """What differs between databases: how a transaction begins, what an error means, how a schema is finished."""

    explain: Callable[[sa.exc.SQLAlchemyError], GarrisonError | None]
    begin_write: str = ""
    begin_read: str = ""
    finish: Callable[[sa.Connection], None] = _nothing_more


class Database:
    """Pools of connections. `write()` is one at a time; `read()` is a snapshot, from `reader` when there is one."""

    def __init__(self, engine: sa.Engine, *, manner: Manner, reader: sa.Engine | None = None) -> None:
        self.engine = engine
        self.manner = manner
        self._reader = reader or engine

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: all of it is committed, or nothing. Raises `Undecided` when the disk refuses.

        When the connection breaks during the commit itself, either may have happened.
        """
        with _translated(self.manner), self.engine.connect() as connection:
            if self.manner.begin_write:
                connection.exec_driver_sql(self.manner.begin_write)
            try:
                yield connection
            except BaseException:
                with suppress(sa.exc.DBAPIError):  # a connection that is gone has nothing to take back
                    connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with _translated(self.manner), self._reader.connect() as connection:
            if self.manner.begin_read:
                connection.exec_driver_sql(self.manner.begin_read)
            yield connection
            connection.rollback()

    def close(self) -> None:
        self.engine.dispose()
        self._reader.dispose()


def open_database(path: Path, *, read_only: bool = False) -> Database:
    """Open the SQLite database at `path`. `read_only` never creates, migrates or writes it.

    Raises `Undecided` DB-UNAVAILABLE when the file cannot be opened.
    """
    mode = "ro" if read_only else "rwc"
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: _connect(path, mode),
        poolclass=sa.pool.QueuePool,
        pool_size=4,
    )
    if not read_only:
        _make_private(path)
        event.listen(engine, "connect", _durable)
    return Database(engine, manner=_SQLITE)


def _make_private(path: Path) -> None:
    """For this user alone from the start; SQLite gives its other files the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Undecided(
            "DB-UNAVAILABLE",
            f"the database {path} cannot be opened: {error.strerror}",
            fix="check that the data directory is there and writable (garrison doctor), then try again",
        ) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    query = f"mode={mode}"
    if mode == "ro" and _is_at_rest(path):
        query += (
            "&immutable=1"  # a read-only copy or disk: SQLite could not make the files that readers share
        )
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{query}", uri=True, check_same_thread=False, isolation_level=None
    )
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


def _is_at_rest(path: Path) -> bool:
    """Nobody can be writing: this process may not, and no write-ahead log says that another one does."""
    log = path.with_name(path.name + "-wal")
    return not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)


def _durable(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


@contextmanager
def _translated(manner: Manner) -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as error:  # of the pool
        raise _unanswered("every connection is in use") from error
    except sqlite3.OperationalError as error:
        raise _told(str(error)) from error
    except sa.exc.DatabaseError as error:
        explained = manner.explain(error)
        if explained is None:
            raise
        raise explained from error


def _explain(error: sa.exc.SQLAlchemyError) -> GarrisonError | None:
    """None for a constraint or a statement: its caller knows what that means."""
    if isinstance(error, sa.exc.OperationalError):
        return _told(str(error.orig))
    if type(error) is sa.exc.DatabaseError:
        return Undecided(
            "DB-UNAVAILABLE",
            f"the database is damaged: {error.orig}",
            fix="put the newest backup of the data directory back, then run garrison audit verify",
        )
    return None


def _told(reason: str) -> Undecided:
    if "full" in reason:
        return Undecided(
            "DISK-FULL",
            f"the database could not be written: {reason}",
            fix="free space on the disk that holds the data directory, then try again; nothing was changed",
        )
    return _unanswered(reason)


def _unanswered(reason: str) -> Undecided:
    return Undecided(
        "DB-UNAVAILABLE",
        f"the database did not answer: {reason}",
        fix="check that the data directory is there and writable (garrison doctor), then try again",
    )


_SQLITE = Manner(explain=_explain, begin_write="BEGIN IMMEDIATE", begin_read="BEGIN")
