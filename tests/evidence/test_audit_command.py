"""`garrison audit ...` on the files of a data directory, without a server."""

from __future__ import annotations

import argparse
import base64
import json
import sqlite3

import pytest
from tests.evidence.conftest import an_event

from garrison.app.cli import audit
from garrison.core.actions import Action
from garrison.core.errors import GarrisonError, Refused, Undecided, Usage
from garrison.core.event import Outcome
from garrison.evidence import export, store
from garrison.evidence.checkpoint import read_checkpoint
from garrison.evidence.merkle import verify_inclusion
from garrison.evidence.record import CONTENT_FIELDS
from garrison.evidence.store import Filter
from garrison.evidence.witness import accepted_loss

HOSTILE = "x\x1b[31m\r\nFORGED LINE\u202e"


@pytest.fixture
def data(house):
    """A data directory with five records; the server is not running."""
    public = house.root / "keys" / "public"
    public.mkdir(parents=True)
    (public / "ledger.pem").write_bytes(house.signer.public_pem())
    ledger = house.ledger()
    ledger.append_many([an_event(number) for number in range(3)])
    ledger.append(an_event(3, action=Action.TOKEN_ISSUE, resource="dana"))
    ledger.append(
        an_event(4, resource=HOSTILE, actor=f"user:{HOSTILE}", outcome=Outcome.DENIED, code="TOK-EXPIRED")
    )
    ledger.close()
    house.close()
    return house


def command(house, *words: str, as_json: bool = False) -> int:
    parser = argparse.ArgumentParser()
    audit.add(parser.add_subparsers())
    args = parser.parse_args(["audit", *words])
    args.json, args.data = as_json, str(house.root)
    return int(args.run(args))


@pytest.mark.row("C16", kind="R")
def test_verify_says_intact_with_no_server(data, capsys) -> None:
    assert command(data, "verify") == 0
    assert "intact      to a-000005: 5 records" in capsys.readouterr().out
    assert command(data, "verify", as_json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["verdict"], report["last"], report["problems"]) == ("intact", "a-000005", [])


@pytest.mark.row("C16", kind="R")
@pytest.mark.parametrize(
    ("statement", "code", "first"),
    [
        ("UPDATE ledger_event SET actor = 'user:eve' WHERE seq = 2", "AUD-EDITED", "a-000002"),
        ("DELETE FROM ledger_event WHERE seq = 3", "AUD-MISSING", "a-000003"),
        ("DELETE FROM ledger_event WHERE seq = 5", "AUD-TRUNCATED", "a-000005"),
    ],
)
def test_verify_names_the_first_bad_record_and_exits_1(data, capsys, statement, code, first) -> None:
    connection = sqlite3.connect(data.db_path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    assert command(data, "verify") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"REFUSED  {code}  {first}" in shown.err
    assert command(data, "verify", as_json=True) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["first_bad"], report["error"]["code"]) == (first, code)


def test_verify_can_not_tell_without_a_witness_a_key_or_a_database(data, tmp_path) -> None:
    (tmp_path / "witness" / "checkpoint").rename(tmp_path / "elsewhere")
    assert command(data, "verify") == 3
    assert command(data, "verify", "--witness", str(tmp_path / "elsewhere")) == 0
    with pytest.raises(Undecided, match="AUD-WITNESS"):
        command(data, "verify", "--witness", str(tmp_path / "nowhere"))
    (tmp_path / "keys" / "public" / "ledger.pem").unlink()
    with pytest.raises(Undecided, match="KEY-UNKNOWN"):
        command(data, "verify")


def test_a_key_kept_elsewhere_is_trusted_instead_of_the_one_beside_the_database(data, tmp_path) -> None:
    other = type(data.signer)("ledger")
    kept = tmp_path / "kept.pem"
    kept.write_bytes(other.public_pem())
    assert command(data, "verify", "--key", str(kept)) == 1


def test_list_filters_and_shows_hostile_text_as_text(data, capsys) -> None:
    assert command(data, "list") == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 6
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert (
        command(data, "list", "--kind", "model.invoke", "--model", "fraud", "--limit", "2", as_json=True) == 0
    )
    records = json.loads(capsys.readouterr().out)["records"]
    assert [record["id"] for record in records] == ["a-000002", "a-000003"]
    assert command(data, "list", "--outcome", "denied", "--since", "2026-11-22T14:03:01Z") == 0
    assert "a-000005" in capsys.readouterr().out
    assert command(data, "list", "--actor", "nobody") == 0
    assert "no such records" in capsys.readouterr().out


@pytest.mark.row("A13", kind="R")
def test_a_kind_of_artifact_event_may_be_named_without_its_first_half(data, capsys) -> None:
    shown = []
    for kind in ("verify", "artifact.verify"):
        assert command(data, "list", "--kind", kind, as_json=True) == 0
        shown.append(json.loads(capsys.readouterr().out)["records"])
    assert shown[0] == shown[1]


def test_a_wrong_filter_is_a_usage_error_with_advice(data) -> None:
    with pytest.raises(Usage, match=r"model\.invok") as error:
        command(data, "list", "--kind", "model.invok")
    assert "model.invoke" in error.value.fix
    for words in (["--since", "yesterday"], ["--limit", "0"]):
        with pytest.raises(Usage):
            command(data, "list", *words)


@pytest.mark.row("C16", kind="R")
def test_show_gives_the_record_and_a_proof_that_stands_alone(data, capsys) -> None:
    assert command(data, "show", "a-000005") == 0
    assert "\x1b" not in capsys.readouterr().out
    assert command(data, "show", "a-000002", as_json=True) == 0
    record = json.loads(capsys.readouterr().out)
    proof = record["proof"]
    checkpoint = read_checkpoint(proof["checkpoint"].encode(), data.keys)
    hashes = [base64.b64decode(value) for value in proof["hashes"]]
    leaf = bytes.fromhex(record["leaf"])
    assert verify_inclusion(proof["index"], proof["size"], leaf, checkpoint.root, hashes)


def test_show_refuses_what_is_not_there(data) -> None:
    with pytest.raises(Refused, match="AUD-NOT-FOUND"):
        command(data, "show", "a-000099")
    with pytest.raises(Usage, match="AUD-ID"):
        command(data, "show", "412")


def test_a_damaged_record_is_a_sentence_and_not_a_traceback(data) -> None:
    connection = sqlite3.connect(data.db_path)
    connection.execute("UPDATE ledger_event SET body = x'ff00' WHERE seq = 2")
    connection.commit()
    connection.close()
    for words in (["list"], ["show", "a-000002"], ["export"], ["tail"]):
        with pytest.raises(GarrisonError, match="AUD-EDITED"):
            command(data, *words)


def test_tail_and_export_give_one_object_a_line(data, capsys) -> None:
    assert command(data, "tail", "--limit", "2", as_json=True) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [
        "a-000004",
        "a-000005",
    ]
    assert command(data, "export", "--format", "jsonl", "--kind", "token.issue") == 0
    assert [json.loads(line)["action"] for line in capsys.readouterr().out.splitlines()] == ["token.issue"]
    assert command(data, "export", "--format", "ocsf") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["class_uid"] for line in lines] == [6003] * 5


def test_an_accepted_loss_is_noted_for_the_next_start(data, tmp_path) -> None:
    assert command(data, "accept-loss", "--reason", "disk failure") == 0
    assert accepted_loss(tmp_path / "witness") == "disk failure"
    with pytest.raises(Usage, match="AUD-REASON"):
        command(data, "accept-loss", "--reason", "  ")


CANARY = "canary-7f3a-The quick brown fox"


@pytest.mark.row("C18", kind="R")
@pytest.mark.parametrize("field", sorted(CONTENT_FIELDS))
def test_content_that_slips_into_an_event_never_reaches_the_disk(house, field) -> None:
    ledger = house.ledger()
    ledger.append(
        an_event(
            data={field: CANARY, "deep": {field: [CANARY]}, "rows": [{"n": 1}, {field: {"role": CANARY}}]}
        )
    )
    with ledger.read() as connection:
        (line,) = export.ocsf(store.find(connection, Filter()), "0")
    assert CANARY not in line
    files = [path for path in house.root.rglob("*") if path.is_file()]
    assert any(path.name == "garrison.db-wal" for path in files)
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_reading_changes_no_file(data, tmp_path, capsys) -> None:
    def contents() -> dict:
        files = (path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith("-shm"))
        return {path: body for path in files if (body := path.read_bytes())}

    before = contents()
    for words in (["verify"], ["list"], ["export"]):
        command(data, *words)
    capsys.readouterr()
    assert contents() == before
