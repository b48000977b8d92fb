"""PostgreSQL: how it is reached, what it has to be like, who writes to it, and what its errors mean here.

Reads see one snapshot. Writes go over one connection, which holds an advisory lock on the database for as
long as it lives: so they are one at a time, and no second server can write beside the first.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.storage.postgres_address import Address
from garrison.storage.sql import BUSY_TIMEOUT_MS, Database, Manner

OLDEST = 140_000  # server_version_num of PostgreSQL 14
CONNECT_SECONDS = 5
SILENT_MS = 15_000  # a peer that acknowledges nothing for this long is gone
STATEMENT_MS = 120_000
TAKE_MS = 3_000  # for the server to notice that the one before was killed
POOL_SECONDS = BUSY_TIMEOUT_MS / 1000
LOCK = (0x6761_7272, 1)  # "garr": advisory locks are of one database
_LOST = re.compile(r"08|57P0|53300|25P03")
_BUSY = frozenset({"55P03", "57014", "40001", "40P01"})
_SERVER_OPTIONS = {
    "lock_timeout": BUSY_TIMEOUT_MS,
    "statement_timeout": STATEMENT_MS,
    "client_connection_check_interval": 10_000,
    "tcp_keepalives_idle": 10,  # of the server: it lets go of the lock of a machine that is gone
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": SILENT_MS,
}
_FORBID = """\
CREATE OR REPLACE FUNCTION garrison_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'restrict_violation';
END $$"""
_GUARD = """\
CREATE OR REPLACE TRIGGER ledger_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_event
FOR EACH STATEMENT EXECUTE FUNCTION garrison_append_only()"""
_UNGUARD = "ALTER TABLE ledger_event DISABLE TRIGGER ledger_event_append_only"


def open_postgres(address: Address, passfile: str = "", *, read_only: bool = False) -> Database:
    """Open a database; nothing is connected yet. Raises `Undecided` DB-EXTRA without psycopg, DB-PASSFILE."""
    _check_password(passfile)
    try:
        reader = _engine(address, passfile, "REPEATABLE READ", pool_size=4, max_overflow=4)
        event.listen(reader, "connect", _only_read)
        writer = (
            reader if read_only else _engine(address, passfile, "READ COMMITTED", pool_size=1, max_overflow=0)
        )
    except ImportError as error:  # of psycopg, or by psycopg for want of libpq
        raise Undecided(
            "DB-EXTRA",
            "PostgreSQL needs the extra postgres and the library libpq, and one of them is not installed",
            fix="apt-get install libpq5; pip install 'garrison[postgres]'; then repeat the command",
        ) from error
    if not read_only:
        event.listen(writer, "connect", _take)
    return Database(writer, reader=reader, manner=Manner(explain=explain, finish=finish))


def _engine(
    address: Address, passfile: str, isolation: Any, *, pool_size: int, max_overflow: int
) -> sa.Engine:
    return sa.create_engine(
        sa.URL.create("postgresql+psycopg", username=address.user, database=address.name),
        connect_args=_arguments(address, passfile),
        isolation_level=isolation,
        pool_pre_ping=True,  # a connection that a restart of the server ended is not handed out
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=POOL_SECONDS,
        use_native_hstore=False,
    )


def _arguments(address: Address, passfile: str) -> dict[str, Any]:
    """For libpq. All that decides where and how safely is said here, so that no variable of its own speaks."""
    security = (
        {"sslmode": "disable"} if address.is_socket else {"sslmode": "verify-full", **dict(address.tls)}
    )
    return {
        "host": address.host,
        "hostaddr": "",  # or PGHOSTADDR would lead elsewhere
        "port": address.port,
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": SILENT_MS,
        "application_name": own_name(),
        "gssencmode": "disable",
        "client_encoding": "utf8",
        "options": " ".join(f"-c {name}={value}" for name, value in _SERVER_OPTIONS.items()),
        **security,
        **({"passfile": passfile} if passfile else {}),
    }


def own_name() -> str:
    """How this process shows itself to whoever asks the server who holds the database."""
    return f"garrison {socket.gethostname()[:40]}/{os.getpid()}"


def _check_password(passfile: str) -> None:
    """A password comes from a file that is this user's alone, and from nowhere else."""
    if "PGPASSWORD" in os.environ:
        raise Refused(
            "DB-PASSFILE",
            "PGPASSWORD is set: a password in the environment is seen by every process of this user",
            fix="unset PGPASSWORD and put the password into a file: docs/postgresql.md, `The password`",
        )
    if not passfile:
        return
    try:
        found = os.stat(passfile)
    except OSError as error:
        raise Undecided(
            "DB-PASSFILE",
            f"the file of the database's password, {passfile}, cannot be read: {error.strerror}",
            fix="check database_passfile; the file holds host:port:database:user:password",
        ) from error
    mine = found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o077
    if not mine or not stat.S_ISREG(found.st_mode) or not Path(passfile).is_absolute():
        raise Refused(
            "DB-PASSFILE",
            f"{passfile} with mode {stat.S_IMODE(found.st_mode):04o} is not an absolute path to a file that is "
            "this user's alone",
            fix=f"chmod 600 {passfile}",
        )


def _only_read(connection: Any, _record: Any) -> None:
    connection.read_only = True


def _take(connection: Any, _record: Any) -> None:
    """Of a new connection for writing: is the server fit, and does nobody else write?"""
    try:
        connection.autocommit = True
        _check_server(connection)
        _lock(connection)
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise


def _check_server(connection: Any) -> None:
    asked = "server_version_num", "server_encoding", "fsync", "full_page_writes", "synchronous_commit"
    row = connection.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in asked)).fetchone()
    found = dict(zip(asked, row, strict=True))
    wrong = [f"{name} is {found[name]}" for name in ("fsync", "full_page_writes") if found[name] != "on"]
    if found["server_encoding"] != "UTF8":
        wrong.append(f"its encoding is {found['server_encoding']}")
    if int(found["server_version_num"]) < OLDEST:
        wrong.append("it is older than PostgreSQL 14")
    if wrong:
        raise Refused(
            "DB-SERVER",
            f"this PostgreSQL could lose or change what it was given: {'; '.join(wrong)}",
            fix="set it right (docs/postgresql.md, `The server`), then start again",
            evidence=found,
        )
    if found["synchronous_commit"] in ("off", "local"):
        connection.execute("SET synchronous_commit = on")


def _lock(connection: Any) -> None:
    connection.execute(f"SET lock_timeout = {TAKE_MS}")
    try:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", LOCK)
        connection.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MS}")
    except Exception as error:
        if getattr(error, "sqlstate", None) != "55P03":
            raise
        holder = connection.execute(
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s AND l.objid = %s "
            "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            LOCK,
        ).fetchone()
        name = str(holder[0])[:64] if holder else "another one, just gone"
        if name == own_name():
            raise Undecided(
                "DB-UNAVAILABLE",
                "the database has not noticed yet that this server's last connection is gone",
                fix="try again in half a minute",
                retry_after=5,
            ) from error
        raise Refused(
            "SRV-RUNNING",
            f"the database is in use by another server: {name}",
            fix="stop that server, or give this one a database of its own with --database",
            evidence={"holder": name},
        ) from error


def finish(connection: sa.Connection) -> None:
    """After a step of the schema: text sorts by its bytes, as in SQLite, and the ledger is append-only."""
    texts = connection.exec_driver_sql(
        "SELECT c.table_name, c.column_name FROM information_schema.columns c JOIN information_schema.tables t "
        "USING (table_schema, table_name) WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' "
        "AND c.data_type = 'text' AND c.collation_name IS DISTINCT FROM 'C'"
    ).all()
    quote = connection.dialect.identifier_preparer.quote
    for table, column in texts:
        connection.exec_driver_sql(
            f'ALTER TABLE {quote(table)} ALTER COLUMN {quote(column)} TYPE text COLLATE "C"'
        )
    connection.exec_driver_sql(_FORBID)
    connection.exec_driver_sql(_GUARD)


def explain(error: sa.exc.SQLAlchemyError) -> GarrisonError | None:
    """What an error of PostgreSQL is to a person, by its SQLSTATE; None for a constraint or a defect of ours."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    if isinstance(error, sa.exc.DataError) and not state:
        return Usage("DB-TEXT", "a text holds the character NUL", fix="leave the character U+0000 out")
    if state == "53100":
        return Undecided(
            "DISK-FULL",
            "the disk of the database is full",
            fix="free space on the disk of the PostgreSQL server, then try again; nothing was changed",
        )
    if state.startswith(("28", "3D")) or state == "42501":
        return _refused(error)
    if state in ("42P01", "25006") or state in _BUSY or _LOST.match(state) or not state:
        return _away(error, state)
    if state.startswith("XX"):
        return Undecided(
            "DB-UNAVAILABLE",
            f"the database is damaged: {_first_line(error)}",
            fix="put the newest backup of the database back, then run garrison audit verify",
        )
    return None


def _refused(error: sa.exc.SQLAlchemyError) -> Undecided:
    return Undecided(
        "DB-UNAVAILABLE",
        f"the database lets this user do less than it needs: {_first_line(error)}",
        fix="grant the rights that docs/postgresql.md lists under `Roles`, then try again",
    )


def _away(error: sa.exc.SQLAlchemyError, state: str) -> Undecided:
    what, fix = "did not answer", "start PostgreSQL again and look at its log; garrison goes on by itself"
    if state in _BUSY:
        what, fix = "was busy for too long", "try again; pg_stat_activity shows who holds it"
    elif state == "25006":
        what, fix = "takes no writes", "name the primary server with --database, not a standby"
    elif state == "42P01":
        what, fix = "has no tables of Garrison", "garrison up makes them at its first start"
    return Undecided("DB-UNAVAILABLE", f"the database {what}: {_first_line(error)}", fix=fix, retry_after=5)


def _first_line(error: sa.exc.SQLAlchemyError) -> str:
    """What libpq or the server said. Neither repeats a password or the values of a statement."""
    orig = getattr(error, "orig", None)
    primary = getattr(getattr(orig, "diag", None), "message_primary", None)
    text = primary or " ".join(str(orig or error).split())
    return str(text)[:300]
