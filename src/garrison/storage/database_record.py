"""Which database a data directory has: SQLite below it, or the PostgreSQL that `database.json` names.

The record is written at the first start and never holds a password. The database holds the same identity, so
that the server may move or be reached by another user, and the database of another installation is refused.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from garrison.core.digest import canonical_json
from garrison.core.errors import Undecided
from garrison.storage.local import write_atomically
from garrison.storage.postgres_address import parse

FILE = "garrison.db"
NAME = "database.json"
MAX_RECORD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Record:
    """`is_begun` once the database has our identity: before, a kill may have come between the two."""

    id: str
    address: str
    passfile: str = ""
    is_begun: bool = False


def is_begun(data: Path) -> bool:
    """Whether a server was ever started on this data directory."""
    return (data / NAME).is_file() or (data / FILE).is_file()


def read_record(data: Path) -> Record | None:
    """Raises `Undecided` DB-RECORD for a file that is not one."""
    try:
        with (data / NAME).open("rb") as file:
            found = Record(**json.loads(file.read(MAX_RECORD_BYTES)))
        parse(found.address)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Undecided(
            "DB-RECORD",
            f"{data / NAME} does not say which database this data directory has",
            fix="put the file back from the backup of the data directory",
        ) from error
    return found


def write_record(data: Path, record: Record) -> None:
    write_atomically(data / NAME, canonical_json(asdict(record)))
