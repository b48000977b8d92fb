"""What is committed in PostgreSQL when its answer is lost, and when a statement of it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.app.household import opened
from tests.fakes.postgres import Cluster

from garrison.app.settings import Settings
from garrison.artifacts.registry import get
from garrison.artifacts.store import insert
from garrison.core.actions import Action
from garrison.core.digest import Ref
from garrison.core.errors import GarrisonError, Refused
from garrison.core.event import Event, Outcome
from garrison.evidence import store
from garrison.evidence.ledger import Ledger
from garrison.evidence.verify import verify_ledger
from garrison.evidence.witness import FileWitness
from garrison.storage.database import begin
from garrison.storage.sql import Database
from garrison.trust.keys.file import FileSigner
from garrison.trust.keys.public import public_from_pem

pytestmark = pytest.mark.xdist_group("postgres")
NOW = datetime(2026, 11, 22, 14, 3, tzinfo=UTC)


def test_a_name_that_is_taken_ends_neither_its_transaction_nor_the_ledger(
    postgres: Cluster, name: str, tmp_path: Path
) -> None:
    model, data = tmp_path / "model", tmp_path / "data"
    model.mkdir()
    (model / "config.json").write_text("{}")
    with opened(data, Settings(data=data, database=postgres.address(name))) as home:
        home.publish(model, "m@1")
        release = get(home.house.registry, Ref.parse("m@1"))
        with home.house.ledger.transaction() as transaction:
            assert not insert(transaction.connection, release)
            transaction.append(event("taken"))
    changed = Settings(data=data, store_encryption="aes-256-gcm")
    with pytest.raises(Refused, match="STO-CHANGED"), opened(data, changed):
        pass
    begin(data).close()  # a start that was refused holds nothing
    assert postgres.sql("SELECT count(*) FROM ledger_event WHERE resource = 'taken'", name) == [(1,)]


def test_a_commit_whose_answer_was_lost_is_looked_up_before_the_ledger_goes_on(
    database: Database, postgres: Cluster, name: str, tmp_path: Path
) -> None:
    """The server commits and waits for a standby that there is none of; there it is cut off."""
    signer = FileSigner("ledger")
    witness = FileWitness(tmp_path / "witness" / "checkpoint")
    ledger = Ledger.open(database, signer, witness, "garrison.local/test", lambda: NOW)
    ledger.append(event("before"))
    lost: list[GarrisonError] = []

    def append() -> None:
        try:
            ledger.append(event("lost"))
        except GarrisonError as error:
            lost.append(error)

    commit_unheard(postgres, name, append)
    assert [error.code for error in lost] == ["DB-UNAVAILABLE"]
    ledger.append(event("after"))
    ledger.close()
    with database.read() as connection:
        resources = [record.event.resource for record in store.find(connection, store.Filter())]
    assert resources == ["before", "lost", "after"]
    report = verify_ledger(database, [public_from_pem(signer.public_pem(), "ledger")], witness)
    assert report.code == ""


def commit_unheard(postgres: Cluster, name: str, act: Callable[[], None]) -> None:
    """The next commit happens, and whoever made it is cut off before it hears of that."""
    thread = threading.Thread(target=act)
    waiting = f"FROM pg_stat_activity WHERE datname = '{name}' AND wait_event = 'SyncRep'"
    try:
        with postgres.setting("synchronous_standby_names", "nobody"):
            thread.start()
            until = time.monotonic() + 60
            while not postgres.sql(f"SELECT pid {waiting}"):
                assert time.monotonic() < until, "nothing is committed"
            postgres.sql(f"SELECT pg_terminate_backend(pid, 60000) {waiting}")
    finally:
        thread.join(60)


ONLY_A_RELEASE_WAITS = """\
CREATE FUNCTION hurry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NOT EXISTS (SELECT FROM releases) THEN PERFORM set_config('synchronous_commit', 'local', true); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER hurry AFTER INSERT ON ledger_event EXECUTE FUNCTION hurry()"""


def test_a_publication_that_was_committed_unheard_is_whole_after_the_same_command_again(
    postgres: Cluster, name: str, tmp_path: Path
) -> None:
    model, data = tmp_path / "model", tmp_path / "data"
    model.mkdir()
    (model / "config.json").write_text("{}")
    with opened(data, Settings(data=data, database=postgres.address(name))) as home:
        postgres.sql(ONLY_A_RELEASE_WAITS, name)
        told: list[str] = []

        def publish() -> None:
            try:
                home.publish(model, "m@1")
            except GarrisonError as error:
                told.append(error.code)

        commit_unheard(postgres, name, publish)
        assert told == ["DB-UNAVAILABLE"]
        home.publish(model, "m@1")
        home.ask("model.verify", ref="m@1")
        assert [one["ref"] for one in home.ask("model.list")["models"]] == ["m@1"]
    asked = "SELECT outcome, code FROM ledger_event WHERE action = 'artifact.publish' ORDER BY seq"
    assert postgres.sql(asked, name) == [("allowed", ""), ("unknown", "DB-UNAVAILABLE"), ("allowed", "")]


def event(resource: str) -> Event:
    return Event(NOW, Action.MODEL_INVOKE, "user:dana", resource, Outcome.ALLOWED)
