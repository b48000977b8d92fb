"""One database, opened once: SQLite in WAL mode on one machine, PostgreSQL when there are several.

Tables are declared by the rooms that write them (`store.py`) on the shared `metadata`; the schema is
built and upgraded by the one Alembic history in `migrations/`. Nothing else in Garrison speaks SQL.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from garrison.core.errors import Undecided

metadata = sa.MetaData()

BUSY_TIMEOUT_MS = 5_000  # a writer waits this long for another writer, then fails with a sentence


class Database:
    """A pool of connections. `write()` begins an immediate transaction; `read()` a snapshot."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: all of it is committed, or nothing. Raises `Undecided` when the disk refuses."""
        with _translated(), self.engine.connect() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with _translated(), self.engine.connect() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            yield connection
            connection.rollback()

    def close(self) -> None:
        self.engine.dispose()


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
    return Database(engine)


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
def _translated() -> Iterator[None]:
    try:
        yield
    except (sa.exc.OperationalError, sqlite3.OperationalError) as error:
        reason = str(getattr(error, "orig", None) or error)
        if "full" in reason:
            raise Undecided(
                "DISK-FULL",
                f"the database could not be written: {reason}",
                fix="free space on the disk that holds the data directory, then try again; nothing was changed",
            ) from error
        raise Undecided(
            "DB-UNAVAILABLE",
            f"the database did not answer: {reason}",
            fix="check that the data directory is there and writable (garrison doctor), then try again",
        ) from error
    except sa.exc.DatabaseError as error:
        if type(error) is not sa.exc.DatabaseError:
            raise  # a constraint or a statement: its caller knows what that means
        raise Undecided(
            "DB-UNAVAILABLE",
            f"the database is damaged: {error.orig}",
            fix="put the newest backup of the data directory back, then run garrison audit verify",
        ) from error
