"""Brings a database to the schema of this release, by the one Alembic history for every backend."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from garrison.core.errors import Undecided
from garrison.storage.sql import Database

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(database: Database) -> bool:
    """Run the missing steps, all of them or none; True when there were any.

    Raises `Undecided` DB-NEWER when the database was made by a later release.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    with database.write() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        if current == scripts.get_current_head():
            return False
        if current is not None and current not in {step.revision for step in scripts.walk_revisions()}:
            raise Undecided(
                "DB-NEWER",
                f"the database has schema {current}, which this release does not know",
                fix="start the release that made it, or restore the backup taken before the upgrade",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        database.manner.finish(connection)
    return True
