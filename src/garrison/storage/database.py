"""Opens the database of a data directory: for the server, which may begin one, and for whoever only reads."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from garrison.core.errors import Refused
from garrison.storage.database_record import FILE, Record, read_record, write_record
from garrison.storage.postgres_address import parse
from garrison.storage.sql import Database, metadata, open_database

installation = sa.Table(
    "installation",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
)


def open_kept(data: Path) -> Database:
    """For reading, whether a server runs or not. Raises `Undecided` DB-UNAVAILABLE, DB-RECORD."""
    record = read_record(data)
    if record is None:
        return open_database(data / FILE, read_only=True)
    return _open(record, read_only=True)


def begin(data: Path, address: str = "", passfile: str = "") -> Database:
    """For the server: the database as recorded or as asked, at the schema of this release and ours alone.

    Raises `Refused` DB-CHANGED for another kind of database than the one begun with, DB-OTHER for a database
    of something else, SRV-RUNNING when another server has it, and as `postgres.open_postgres`.
    """
    from garrison.storage.schema import upgrade  # alembic: 0.1 s that only a start needs

    record = read_record(data)
    if record is None and not address:
        database = open_database(data / FILE)
    elif (data / FILE).exists():
        raise Refused(
            "DB-CHANGED",
            f"this data directory was begun with SQLite, and its records are in {data / FILE}",
            fix="take the setting database away, or begin a new data directory with --data DIR",
        )
    else:
        known = record or Record(secrets.token_hex(16), address)
        record = replace(known, address=address or known.address, passfile=passfile or known.passfile)
        database = _open(record, read_only=False)
    try:
        if record is None:
            upgrade(database)
        else:
            _claim(data, database, record)
    except BaseException:
        database.close()
        raise
    return database


def _open(record: Record, *, read_only: bool) -> Database:
    from garrison.storage.postgres import open_postgres  # an extra, and nothing that SQLite needs

    return open_postgres(parse(record.address), record.passfile, read_only=read_only)


def _claim(data: Path, database: Database, record: Record) -> None:
    """Ours, or nobody's and then ours from now on. The record comes first: a kill in between is gone on with."""
    from garrison.storage.schema import upgrade  # as above

    place = parse(record.address).place
    with database.write() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        if tables and "alembic_version" not in tables:
            raise _other(place, "holds tables that are not Garrison's")
        owner = (
            connection.execute(sa.select(installation.c.id)).scalar() if installation.name in tables else None
        )
    if owner not in (None, record.id):
        raise _other(place, "belongs to another data directory")
    if owner is None and record.is_begun:
        raise _other(place, "holds nothing of this data directory")
    if owner is None:
        write_record(data, record)
    upgrade(database)
    if owner is None:
        with database.write() as connection:
            connection.execute(installation.insert().values(id=record.id))
    if read_record(data) != (begun := replace(record, is_begun=True)):
        write_record(data, begun)


def _other(place: str, why: str) -> Refused:
    return Refused(
        "DB-OTHER",
        f"the database {place} {why}",
        fix="name the right database with --database, put its backup back, or make an empty one (createdb)",
        evidence={"database": place},
    )
