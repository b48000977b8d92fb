"""One contract of SQLite and PostgreSQL: the schema, what a transaction is, what a snapshot is, how text sorts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from tests.fakes.postgres import Cluster

import garrison.artifacts.attachment_store
import garrison.artifacts.dataset_store
import garrison.artifacts.import_store
import garrison.artifacts.store
import garrison.evidence.sinks.store
import garrison.evidence.store
import garrison.runtime.store
import garrison.storage.database
import garrison.trust.key_store
import garrison.trust.store  # noqa: F401 - importing declares the tables
from garrison.core.errors import Undecided
from garrison.storage.postgres import open_postgres
from garrison.storage.postgres_address import parse
from garrison.storage.schema import upgrade
from garrison.storage.sql import Database, metadata, open_database

pytestmark = pytest.mark.xdist_group("postgres")
OWNER = "INSERT INTO owners VALUES (:model, 'o', 'b', 't')"
EVENT = "INSERT INTO ledger_event VALUES (:seq, 't', 'a', 'a', 'r', 'o', 'c', 'd', 't', :blob, :blob)"


@pytest.fixture(params=["sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Database]:
    """Opens the same new database, each time it is called."""
    if request.param == "sqlite":
        return lambda read_only=False: open_database(tmp_path / "garrison.db", read_only=read_only)
    cluster: Cluster = request.getfixturevalue("postgres")
    address = parse(cluster.address())
    return lambda read_only=False: open_postgres(address, read_only=read_only)


@pytest.fixture
def database(opener: Callable[..., Database]) -> Iterator[Database]:
    opened = opener()
    upgrade(opened)
    yield opened
    opened.close()


def models(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.text("SELECT model FROM owners ORDER BY model")).scalars())


def add(database: Database, model: str) -> None:
    with database.write() as connection:
        connection.execute(sa.text(OWNER), {"model": model})


def test_the_history_ends_at_the_declared_tables(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_second_upgrade_does_nothing(database: Database) -> None:
    assert not upgrade(database)


def test_a_database_of_a_later_release_is_left_alone(database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Undecided, match="DB-NEWER"):
        upgrade(database)


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.execute(sa.text(OWNER), [{"model": "m"}, {"model": "m"}])
    with database.read() as connection:
        assert models(connection) == []


def test_a_reader_keeps_its_snapshot_while_others_write(
    database: Database, opener: Callable[..., Database]
) -> None:
    add(database, "before")
    reader = opener(read_only=True)
    with reader.read() as connection:
        assert models(connection) == ["before"]
        add(database, "after")
        assert models(connection) == ["before"]
    with reader.read() as connection:
        assert models(connection) == ["after", "before"]
    with pytest.raises(Undecided, match="DB-UNAVAILABLE"):
        add(reader, "by a reader")
    reader.close()


def test_of_two_that_insert_what_is_not_there_one_wins(database: Database) -> None:
    begun = threading.Barrier(2)

    def race(name: str) -> None:
        begun.wait(60)
        with database.write() as connection:
            if not models(connection):
                connection.execute(sa.text(OWNER), {"model": name})

    threads = [threading.Thread(target=race, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.read() as connection:
        assert len(models(connection)) == 1


def test_text_sorts_by_its_bytes_and_numbers_of_records_have_64_bits(database: Database) -> None:
    for model in ("a", "B", "_", "é", "b"):
        add(database, model)
    with database.write() as connection:
        connection.execute(sa.text(EVENT), {"seq": 2**40, "blob": b"\0\xff"})
    with database.read() as connection:
        assert models(connection) == ["B", "_", "a", "b", "é"]
        assert connection.execute(sa.text("SELECT seq, leaf FROM ledger_event")).all() == [(2**40, b"\0\xff")]


def test_a_writer_that_is_killed_in_a_transaction_leaves_nothing_and_nobody_waits_for_it(
    opener: Callable[..., Database],
) -> None:
    first = opener()
    upgrade(first)
    first.close()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # has its own connection, and never comes back into the test
        with opener().write() as connection:
            connection.execute(sa.text(OWNER), {"model": "half"})
            os.write(writing, b"x")
            signal.pause()
    try:
        os.close(writing)
        assert os.read(reading, 1) == b"x"
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    after = opener()
    add(after, "whole")
    with after.read() as connection:
        assert models(connection) == ["whole"]
    after.close()
