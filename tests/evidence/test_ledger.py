"""Effects and events are one; heads are signed; a start notices what a kill or a hand left."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evidence.conftest import ORIGIN, an_event

from garrison.core.actions import Action
from garrison.core.errors import Refused, Undecided
from garrison.core.finding import Finding, Severity
from garrison.evidence import store
from garrison.evidence.checkpoint import read_checkpoint
from garrison.evidence.merkle import inclusion_proof, leaf_hash, root_of, verify_inclusion
from garrison.evidence.record import MAX_BODY_BYTES, make_record, read_record
from garrison.evidence.verify import verify_ledger
from garrison.evidence.witness import TokenWitness, Witnesses, accept_loss, accepted_loss, clear_accepted_loss
from garrison.storage.sql import open_database


def witnessed(house):
    (note,) = house.witness.read()
    return read_checkpoint(note, house.keys, ORIGIN)


def test_audit_ids_count_up_across_transactions_and_restarts(house) -> None:
    ledger = house.ledger()
    assert ledger.append(an_event()) == "a-000001"
    assert ledger.append_many([an_event(1), an_event(2)]) == ["a-000002", "a-000003"]
    ledger.close()
    assert house.ledger().append(an_event()) == "a-000004"


def test_an_effect_that_fails_leaves_no_event_and_an_event_that_fails_no_effect(house) -> None:
    ledger = house.ledger()

    def failing_effect() -> None:
        with ledger.transaction() as transaction:
            transaction.append(an_event())
            raise ZeroDivisionError

    def failing_event() -> None:
        with ledger.transaction() as transaction:
            transaction.connection.execute(
                store.spool.insert().values(worker="w", segment=1, position=0, open="")
            )
            transaction.append(an_event(data={"x": object()}))

    with pytest.raises(ZeroDivisionError):
        failing_effect()
    with pytest.raises(TypeError):
        failing_event()
    assert ledger.state().size == 0
    with house.database().read() as connection:
        assert connection.execute(store.spool.select()).all() == []
    assert ledger.append(an_event()) == "a-000001"


def test_every_commit_is_signed_over_the_new_root_and_kept_outside_the_database(house) -> None:
    ledger = house.ledger()
    bodies = []
    for number in range(5):
        ledger.append(an_event(number))
        bodies.append(make_record(number + 1, an_event(number)).body)
        checkpoint = witnessed(house)
        assert checkpoint.size == number + 1
        assert checkpoint.root == root_of(leaf_hash(body) for body in bodies)


def test_a_long_ledger_proves_each_record_from_its_tiles(house) -> None:
    ledger = house.ledger()
    ledger.append_many([an_event(number) for number in range(700)])
    root = witnessed(house).root
    with house.database(read_only=True).read() as connection:
        reader = store.subtree_reader(connection)
        for seq in (1, 2, 255, 256, 257, 511, 513, 700):
            record = store.get(connection, seq)
            assert verify_inclusion(seq - 1, 700, record.leaf, root, inclusion_proof(seq - 1, 700, reader))


class TroubledSigner:
    def __init__(self, signer) -> None:
        self._signer = signer
        self.key_id, self.label, self.public_pem = signer.key_id, signer.label, signer.public_pem
        self.away = False

    def sign(self, data: bytes) -> bytes:
        if self.away:
            raise Undecided("KEY-UNAVAILABLE", "the token is away", fix="put it back")
        return self._signer.sign(data)


def test_a_token_that_is_away_never_loses_a_commit_and_the_head_is_signed_later(house) -> None:
    house.signer = TroubledSigner(house.signer)
    ledger = house.ledger()
    house.signer.away = True
    assert ledger.append(an_event()) == "a-000001"
    assert ledger.state().signed == 0
    assert "KEY-UNAVAILABLE" in ledger.state().problem
    house.signer.away = False
    assert ledger.sign_head()
    assert ledger.state() == type(ledger.state())(1, 1, "")
    assert witnessed(house).size == 1


def test_a_new_ledger_does_not_begin_without_a_first_checkpoint(house) -> None:
    house.signer = TroubledSigner(house.signer)
    house.signer.away = True
    with pytest.raises(Undecided, match="AUD-UNSIGNED"):
        house.ledger()


@pytest.mark.row("C16", kind="R")
def test_a_kill_between_commit_and_witness_is_repaired_and_recorded(house) -> None:
    house.filled(3)
    before = house.witness.read()[0]
    ledger = house.ledger()
    ledger.append(an_event(3))
    house.close()
    house.witness.write(before)  # as if the process had died before the new note was there
    ledger = house.ledger()
    assert ledger.state().size == 5
    with house.database().read() as connection:
        repair = store.get(connection, 5).event
    assert repair.action is Action.SYSTEM_REPAIR
    assert repair.data == {"unsigned": {"first": "a-000004", "last": "a-000004"}}
    assert witnessed(house).size == 5


def edit(house, *statements: str) -> None:
    with sqlite3.connect(house.db_path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_a_start_refuses_a_ledger_whose_tail_was_cut(house) -> None:
    house.filled(9)
    edit(house, "DELETE FROM ledger_event WHERE seq > 7")
    with pytest.raises(Refused, match="AUD-TRUNCATED") as error:
        house.ledger()
    assert "a-000008" in error.value.what


@pytest.mark.row("C16", kind="R")
def test_a_start_refuses_an_old_copy_of_the_database(house) -> None:
    house.filled(5)
    old = house.db_path.read_bytes()
    ledger = house.ledger()
    ledger.append(an_event(5))
    ledger.close()
    house.close()
    house.db_path.write_bytes(old)
    with pytest.raises(Refused, match="AUD-TRUNCATED"):
        house.ledger()


def test_a_start_refuses_another_history_of_the_same_length(house) -> None:
    house.filled(4)
    note = house.witness.read()[0]
    for file in house.root.glob("garrison.db*"):
        file.unlink()
    house.witness.write(b"")
    (house.root / "witness" / "checkpoint").unlink()
    ledger = house.ledger()
    ledger.append_many([an_event(number + 100) for number in range(4)])
    ledger.close()
    house.close()
    house.witness.write(note)
    with pytest.raises(Refused, match="AUD-FORKED"):
        house.ledger()


def test_a_start_refuses_a_deleted_database(house) -> None:
    house.filled(2)
    for file in house.root.glob("garrison.db*"):
        file.unlink()
    with pytest.raises(Refused, match="AUD-TRUNCATED"):
        house.ledger()


def test_a_start_refuses_a_missing_witness_a_broken_one_and_one_of_another_key(house) -> None:
    house.filled(2)
    path = house.root / "witness" / "checkpoint"
    note = path.read_bytes()
    path.unlink()
    with pytest.raises(Refused, match="AUD-WITNESS"):
        house.ledger()
    path.write_bytes(note.replace(b"\n2\n", b"\n1\n"))
    with pytest.raises(Refused, match="AUD-SIGNATURE"):
        house.ledger()
    path.write_bytes(note)
    house.signer = type(house.signer)("ledger")
    with pytest.raises(Refused, match="AUD-SIGNATURE"):
        house.ledger()


def test_a_start_refuses_a_hole_in_the_middle_even_when_a_loss_is_accepted(house) -> None:
    house.filled(6)
    edit(house, "DELETE FROM ledger_event WHERE seq = 3")
    for options in ({}, {"accept": "we know"}):
        with pytest.raises(Refused, match="AUD-MISSING"):
            house.ledger(**options)


def test_an_accepted_loss_goes_on_and_is_recorded(house) -> None:
    house.filled(9)
    edit(house, "DELETE FROM ledger_event WHERE seq > 7")
    directory = house.root / "witness"
    accept_loss(directory, "disk\nfailure on 22 November")
    ledger = house.ledger(accept=accepted_loss(directory))
    clear_accepted_loss(directory)
    assert ledger.state().size == 8
    with house.database().read() as connection:
        repair = store.get(connection, 8).event
    assert repair.code == "AUD-TRUNCATED"
    assert repair.data["accepted"] == "disk failure on 22 November"
    assert accepted_loss(directory) == ""
    ledger.close()
    assert house.ledger().state().size == 8


def test_a_running_ledger_notices_that_something_else_wrote(house) -> None:
    ledger = house.ledger()
    ledger.append(an_event())
    other = house.ledger()
    other.append(an_event(1))
    with pytest.raises(Refused, match="AUD-FORKED"):
        ledger.append(an_event(2))


def test_a_transaction_inside_a_transaction_is_a_defect_and_not_a_hang(house) -> None:
    ledger = house.ledger()
    with pytest.raises(RuntimeError), ledger.transaction():
        ledger.append(an_event())
    assert ledger.append(an_event()) == "a-000001"


def test_threads_append_without_losing_or_doubling_a_record(house) -> None:
    ledger = house.ledger()
    ids: list[str] = []

    def work() -> None:
        for number in range(25):
            ids.append(ledger.append(an_event(number)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids) == [f"a-{number:06d}" for number in range(1, 101)]
    assert ledger.state().signed == 100
    ledger.close()
    assert house.ledger().state().size == 100


class MemoryToken:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_data(self, label: str, data: bytes) -> None:
        self.objects[label] = data

    def get_data(self, label: str) -> bytes | None:
        return self.objects.get(label)


def test_a_witness_in_the_token_notices_when_database_and_file_were_both_put_back(house) -> None:
    token, file = MemoryToken(), house.witness
    house.witness = Witnesses(file, TokenWitness(token))
    house.filled(3)
    old_database, old_note = house.db_path.read_bytes(), file.read()[0]
    ledger = house.ledger()
    ledger.append(an_event(3))
    ledger.close()
    house.close()
    house.db_path.write_bytes(old_database)
    file.write(old_note)
    with pytest.raises(Refused, match="AUD-TRUNCATED"):
        house.ledger()


def test_an_event_that_is_too_large_is_kept_by_its_digest() -> None:
    record = make_record(1, an_event(data={"reason": "x" * MAX_BODY_BYTES}))
    assert len(record.body) < 2_000
    assert record.event.data["oversize"]["digest"].startswith("sha256:")
    many = make_record(1, an_event(findings=(Finding("r.x", Severity.LOW, "m"),) * 500))
    assert many.event.data["findings_total"] == 500
    assert len(many.event.findings) == 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.text(st.characters(), max_size=50), st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_any_event_reads_back_as_it_was_written(resource: str, data: dict) -> None:
    record = make_record(7, an_event(resource=resource, data=data))
    again = read_record(7, record.body, record.leaf)
    assert again == record
    assert again.leaf == leaf_hash(record.body)
    with pytest.raises(ValueError):
        read_record(8, record.body, record.leaf)


@pytest.mark.row("C16", kind="R")
def test_a_server_killed_at_any_moment_leaves_a_ledger_that_starts_and_verifies(house) -> None:
    for number in range(6):
        started, told = os.pipe()
        child = os.fork()  # forked, so that both have the key that exists in memory alone
        if child == 0:
            ledger = house.ledger()
            for count in range(100_000):
                ledger.append_many([an_event(count)] * (number + 1))
                os.write(told, b".")
            os._exit(0)
        for _ in range(5 + number * 3):  # so many commits have been seen; then it dies wherever it is
            os.read(started, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(started)
        os.close(told)
        ledger = house.ledger()
        assert ledger.state().problem == ""
        ledger.close()
        house.close()
        database = open_database(house.db_path, read_only=True)
        report = verify_ledger(database, house.keys, house.witness)
        database.close()
        assert report.exit_status == 0, report.problems
