"""The migration history and the tables that the rooms declare are one schema."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import garrison.artifacts.attachment_store
import garrison.artifacts.dataset_store
import garrison.artifacts.import_store
import garrison.artifacts.store
import garrison.evidence.sinks.store
import garrison.evidence.store
import garrison.runtime.store
import garrison.trust.key_store
import garrison.trust.store  # noqa: F401 - importing declares the tables
from garrison.core.errors import Undecided
from garrison.storage.schema import upgrade
from garrison.storage.sql import metadata, open_database


def test_the_history_ends_at_the_declared_tables(tmp_path: Path) -> None:
    database = open_database(tmp_path / "garrison.db")
    assert upgrade(database)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_a_second_upgrade_does_nothing(tmp_path: Path) -> None:
    database = open_database(tmp_path / "garrison.db")
    upgrade(database)
    assert not upgrade(database)
    database.close()


def test_a_database_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    database = open_database(tmp_path / "garrison.db")
    upgrade(database)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Undecided, match="DB-NEWER"):
        upgrade(database)
    database.close()


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    database = open_database(tmp_path / "garrison.db")
    upgrade(database)
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.execute(sa.text("INSERT INTO owners VALUES ('m', 'o', 'b', 't'), ('m', 'o', 'b', 't')"))
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM owners")).scalar() == 0
    database.close()


def test_a_read_only_database_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    database = open_database(tmp_path / "garrison.db")
    upgrade(database)
    reader = open_database(tmp_path / "garrison.db", read_only=True)
    with database.write() as connection:
        connection.execute(sa.text("INSERT INTO owners VALUES ('m', 'o', 'b', 't')"))
        with reader.read() as other:
            assert other.execute(sa.text("SELECT count(*) FROM owners")).scalar() == 0
    reader.close()
    database.close()
