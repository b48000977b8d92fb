"""Every way to change a stored ledger is found, and the first bad record is named."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.evidence.conftest import ORIGIN, House, an_event

from garrison.core.errors import Undecided
from garrison.evidence.checkpoint import Checkpoint, sign_checkpoint
from garrison.evidence.merkle import Frontier, leaf_hash
from garrison.evidence.record import make_record
from garrison.evidence.verify import verify_ledger
from garrison.storage.sql import open_database

COUNT = 12


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """One closed ledger of a dozen records; tests change copies of its bytes."""
    house = House(tmp_path_factory.mktemp("original"))
    house.filled(COUNT)
    return house


def changed(original: House, root, *statements: tuple[str, tuple]) -> House:
    house = House(root)
    house.signer = original.signer
    house.db_path.unlink(missing_ok=True)
    house.db_path.write_bytes(original.db_path.read_bytes())
    house.witness.write(original.witness.read()[0])
    connection = sqlite3.connect(house.db_path)
    for statement, values in statements:
        connection.execute(statement, values)
    connection.commit()
    connection.close()
    return house


def verified(house: House):
    database = open_database(house.db_path, read_only=True)
    try:
        return verify_ledger(database, house.keys, house.witness)
    finally:
        database.close()


@pytest.mark.row("C16", kind="R")
def test_an_untouched_ledger_is_intact(original) -> None:
    report = verified(original)
    assert (report.verdict, report.exit_status, report.problems) == ("intact", 0, ())
    assert (report.size, report.signed, report.checkpoints) == (COUNT, COUNT, COUNT + 2)


@pytest.mark.row("C16", kind="R")
@pytest.mark.parametrize("seq", range(1, COUNT + 1))
def test_every_removed_record_is_named(original, tmp_path, seq) -> None:
    report = verified(changed(original, tmp_path, ("DELETE FROM ledger_event WHERE seq = ?", (seq,))))
    assert report.exit_status == 1
    assert report.first_bad == f"a-{seq:06d}"
    assert report.code == ("AUD-TRUNCATED" if seq == COUNT else "AUD-MISSING")


COLUMNS = ["time", "action", "actor", "resource", "outcome", "code", "digest", "trace_id", "body", "leaf"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(TEXT, st.binary(max_size=40), st.integers(-(2**62), 2**62))


@pytest.mark.row("C16", kind="R")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, COUNT), st.sampled_from(COLUMNS), VALUES)
def test_any_edit_of_any_column_of_any_record_is_named(original, tmp_path, seq, column, value) -> None:
    house = changed(original, tmp_path)
    connection = sqlite3.connect(house.db_path)
    read = f"SELECT CAST({column} AS BLOB) FROM ledger_event WHERE seq = ?"
    before = connection.execute(read, (seq,)).fetchone()
    connection.execute(f"UPDATE ledger_event SET {column} = ? WHERE seq = ?", (value, seq))
    after = connection.execute(read, (seq,)).fetchone()
    connection.commit()
    connection.close()
    report = verified(house)
    if before == after:
        assert report.exit_status == 0
    else:
        assert (report.exit_status, report.first_bad, report.code) == (1, f"a-{seq:06d}", "AUD-EDITED")


@pytest.mark.row("C16", kind="R")
@pytest.mark.parametrize("seq", range(1, COUNT))
def test_two_records_exchanged_are_named(original, tmp_path, seq) -> None:
    swap = [
        ("UPDATE ledger_event SET seq = 1000 WHERE seq = ?", (seq,)),
        ("UPDATE ledger_event SET seq = ? WHERE seq = ?", (seq, seq + 1)),
        ("UPDATE ledger_event SET seq = ? WHERE seq = 1000", (seq + 1,)),
    ]
    report = verified(changed(original, tmp_path, *swap))
    assert (report.exit_status, report.first_bad, report.code) == (1, f"a-{seq:06d}", "AUD-EDITED")


@pytest.mark.row("C16", kind="R")
@pytest.mark.parametrize("keep", range(COUNT))
def test_every_cut_of_the_tail_is_noticed_even_when_all_else_is_made_to_fit(original, tmp_path, keep) -> None:
    house = changed(original, tmp_path, *fitting(original, keep))
    report = verified(house)
    assert (report.exit_status, report.first_bad, report.code) == (1, f"a-{keep + 1:06d}", "AUD-TRUNCATED")
    assert report.problems[0].until == COUNT


def fitting(original, keep: int) -> list[tuple[str, tuple]]:
    """Cut the tail the way a careful intruder does: rows, checkpoints and head agree."""
    frontier = Frontier()
    connection = sqlite3.connect(original.db_path)
    for (leaf,) in connection.execute("SELECT leaf FROM ledger_event ORDER BY seq LIMIT ?", (keep,)):
        frontier, _ = frontier.append(leaf)
    connection.close()
    return [
        ("DELETE FROM ledger_event WHERE seq > ?", (keep,)),
        ("DELETE FROM ledger_checkpoint WHERE size > ?", (keep,)),
        ("UPDATE ledger_head SET size = ?, frontier = ?", (keep, frontier.as_bytes())),
    ]


@pytest.mark.row("C16", kind="R")
@pytest.mark.parametrize("seq", [1, 5, COUNT])
def test_a_rewrite_with_every_hash_made_anew_is_named_by_the_signed_roots(original, tmp_path, seq) -> None:
    forged = make_record(seq, an_event(seq - 1, actor="user:nobody"))
    connection = sqlite3.connect(original.db_path)
    leaves = [row[0] for row in connection.execute("SELECT leaf FROM ledger_event ORDER BY seq")]
    connection.close()
    leaves[seq - 1] = forged.leaf
    frontier = Frontier()
    for leaf in leaves:
        frontier, _ = frontier.append(leaf)
    update = "UPDATE ledger_event SET body = ?, leaf = ?, actor = 'user:nobody' WHERE seq = ?"
    rewrite = [
        (update, (forged.body, forged.leaf, seq)),
        ("UPDATE ledger_head SET frontier = ?", (frontier.as_bytes(),)),
    ]
    report = verified(changed(original, tmp_path, *rewrite))
    assert (report.exit_status, report.first_bad, report.code) == (1, f"a-{seq:06d}", "AUD-FORKED")
    without = [*rewrite, ("DELETE FROM ledger_checkpoint", ())]
    report = verified(changed(original, tmp_path, *without))
    assert (report.exit_status, report.code) == (1, "AUD-FORKED")
    assert report.problems[0].until == COUNT


@pytest.mark.parametrize("seq", [-4, 0, COUNT + 1, COUNT + 5])
def test_an_inserted_record_is_noticed(original, tmp_path, seq) -> None:
    record = make_record(max(seq, 1), an_event())
    insert = (
        "INSERT INTO ledger_event SELECT ?, time, action, actor, resource, outcome, code, digest, trace_id, ?, ?"
        " FROM ledger_event WHERE seq = 1"
    )
    report = verified(changed(original, tmp_path, (insert, (seq, record.body, leaf_hash(record.body)))))
    assert report.exit_status == 1
    assert report.first_bad == (f"a-{COUNT + 1:06d}" if seq > 0 else "a-000001")


@pytest.mark.row("C16", kind="R")
def test_an_old_copy_of_the_database_is_noticed(original, tmp_path) -> None:
    house = changed(original, tmp_path)
    ledger = house.ledger()
    ledger.append(an_event())
    ledger.close()
    house.close()
    house.db_path.write_bytes(original.db_path.read_bytes())
    report = verified(house)
    assert (report.exit_status, report.first_bad, report.code) == (1, f"a-{COUNT + 1:06d}", "AUD-TRUNCATED")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_checkpoint SET note = replace(note, char(10, 53, 10), char(10, 54, 10)) WHERE size = 5",
        "UPDATE ledger_checkpoint SET size = 99 WHERE size = 5",
        "UPDATE ledger_checkpoint SET size = 'many' WHERE size = 5",
        "UPDATE ledger_checkpoint SET note = 17 WHERE size = 5",
        "UPDATE ledger_checkpoint SET note = x'00ff' WHERE size = 5",
    ],
)
def test_a_changed_checkpoint_is_a_bad_signature(original, tmp_path, statement) -> None:
    report = verified(changed(original, tmp_path, (statement, ())))
    assert (report.exit_status, report.code) == (1, "AUD-SIGNATURE")


@pytest.mark.parametrize("change", ["DELETE FROM", "UPDATE frontier = 5", "UPDATE size = 'x'"])
def test_a_changed_head_is_noticed(original, tmp_path, change) -> None:
    verb, _, assignment = change.partition(" ")
    statement = "DELETE FROM ledger_head" if verb == "DELETE" else f"UPDATE ledger_head SET {assignment}"
    assert verified(changed(original, tmp_path, (statement, ()))).exit_status == 1


def test_without_a_witness_the_answer_is_could_not_tell(original, tmp_path) -> None:
    house = changed(original, tmp_path)
    (tmp_path / "witness" / "checkpoint").unlink()
    report = verified(house)
    assert (report.verdict, report.exit_status, report.code) == ("undecided", 3, "AUD-WITNESS")


def test_records_after_the_last_checkpoint_are_could_not_tell(original, tmp_path) -> None:
    house = changed(original, tmp_path)
    before = house.witness.read()[0]
    ledger = house.ledger()
    ledger.append(an_event())
    house.close()
    house.witness.write(before)
    report = verified(house)
    assert (report.exit_status, report.code) == (3, "AUD-UNSIGNED")
    assert report.problems[0].seq == COUNT + 1


def test_a_witness_of_another_key_is_a_bad_signature(original, tmp_path) -> None:
    house = changed(original, tmp_path)
    other = House(tmp_path)
    house.witness.write(sign_checkpoint(Checkpoint(ORIGIN, COUNT, bytes(32)), other.signer))
    assert verified(house).code == "AUD-SIGNATURE"
    house.signer = other.signer  # and when the verifier trusts another key than the ledger's
    assert verified(house).exit_status == 1


def test_no_database_a_damaged_one_and_an_empty_one_are_never_intact(original, tmp_path) -> None:
    house = House(tmp_path)
    with pytest.raises(Undecided, match="DB-UNAVAILABLE"):
        verified(house)
    house.db_path.write_bytes(b"this is not a database, and it is long enough to be read as one" * 40)
    with pytest.raises(Undecided, match="DB-UNAVAILABLE"):
        verified(house)
    house.db_path.write_bytes(b"")
    assert verified(house).exit_status == 3
    house.witness.write(original.witness.read()[0])
    house.signer = original.signer
    assert verified(house).code == "AUD-TRUNCATED"


def test_a_ledger_is_verified_while_a_server_writes_it(tmp_path) -> None:
    house = House(tmp_path)
    ledger = house.ledger()
    for number in range(20):
        ledger.append(an_event(number))
        assert verified(house).exit_status == 0
    house.close()


def test_keys_that_signed_before_are_still_believed_after_a_rotation(original, tmp_path) -> None:
    house = changed(original, tmp_path)
    former = house.keys
    house.signer = type(house.signer)("ledger")
    ledger = house.ledger(keys=former)
    ledger.append(an_event())
    ledger.close()
    house.close()
    database = open_database(house.db_path, read_only=True)
    report = verify_ledger(database, [*house.keys, *former], house.witness)
    database.close()
    assert report.exit_status == 0, report.problems
