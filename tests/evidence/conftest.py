"""A ledger in a temporary directory, with a key in memory and a clock that moves a second per event."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from garrison.core.actions import Action
from garrison.core.event import Event, Outcome
from garrison.evidence import store
from garrison.evidence.ledger import Ledger
from garrison.evidence.witness import FileWitness
from garrison.storage.sql import Database, open_database
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import PublicKey, public_from_pem

START = datetime(2026, 11, 22, 14, 3, tzinfo=UTC)
ORIGIN = "garrison.local/test"


def an_event(number: int = 0, **fields: object) -> Event:
    values: dict[str, object] = {
        "time": START + timedelta(seconds=number),
        "action": Action.MODEL_INVOKE,
        "actor": "user:dana",
        "resource": f"fraud@{number % 3 + 1}",
        "outcome": Outcome.ALLOWED,
        "digest": "sha256:" + "ab" * 32,
        "data": {"number": number, "latency_ms": 12.5},
    }
    return Event(**{**values, **fields})  # type: ignore[arg-type]  # the test chooses fields by name


class House:
    """The places of one ledger and the ways to open it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.db_path = root / "garrison.db"
        self.witness = FileWitness(root / "witness" / "checkpoint")
        self.signer = FileSigner("ledger")
        self._databases: list[Database] = []

    @property
    def keys(self) -> list[PublicKey]:
        return [public_from_pem(self.signer.public_pem(), "ledger")]

    def clock(self) -> Callable[[], datetime]:
        ticks = itertools.count()
        return lambda: START + timedelta(seconds=next(ticks))

    def database(self, *, read_only: bool = False) -> Database:
        database = open_database(self.db_path, read_only=read_only)
        if not read_only:
            store.metadata.create_all(
                database.engine,
                tables=[store.events, store.head, store.tiles, store.checkpoints, store.spool],
            )
        self._databases.append(database)
        return database

    def ledger(self, **options: Any) -> Ledger:
        return Ledger.open(self.database(), self.signer, self.witness, ORIGIN, self.clock(), **options)

    def filled(self, count: int) -> None:
        """A ledger of `count` records, one commit each, closed."""
        ledger = self.ledger()
        for number in range(count):
            ledger.append(an_event(number))
        ledger.close()
        self.close()

    def close(self) -> None:
        for database in self._databases:
            database.close()
        self._databases.clear()


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.close()
