"""Stops, kills, second starts and damaged stores: nothing is lost and the next start says what it did."""

from __future__ import annotations

import fcntl
import shutil
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.flows.server import Server, free_port, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("restart")]


def test_a_killed_server_starts_again_with_everything_it_had(small_model: Path, server: Server) -> None:
    server.start()
    server.publish(small_model, "small@1")
    server.stop(signal.SIGKILL)
    server.start()
    assert [model["ref"] for model in server.ok("model", "list")["models"]] == ["base@1", "small@1"]
    assert server.ok("model", "verify", "small@1")["ref"] == "small@1"
    assert server.cli("audit", "verify").status == 0
    assert server.stop() == 0


def test_a_publication_killed_between_commit_and_layout_is_repaired(
    small_model: Path, server: Server
) -> None:
    server.start()
    server.publish(small_model, "small@1")
    server.stop(signal.SIGKILL)
    shutil.rmtree(server.data / "models" / "small")
    (server.data / "models" / ".incoming-left").mkdir()
    cut = ("keys/.keyring.json.0123abcd", "tuf/targets/some/small/.3f.1.release.json.89abcdef")
    for name in cut:  # as a kill in the middle of writing leaves them
        (server.data / name).parent.mkdir(parents=True, exist_ok=True)
        (server.data / name).write_bytes(b"{")
    server.start()
    assert server.ok("model", "verify", "small@1")["ref"] == "small@1"
    assert not [name for name in cut if (server.data / name).exists()]
    repairs = server.cli("audit", "list", "--kind", "system.repair")
    assert "small@1" in repairs.out
    assert "2 files that were being written" in repairs.out
    assert server.stop() == 0


@pytest.mark.row("S55", kind="R")
def test_a_second_server_on_the_same_data_is_refused(server: Server, tmp_path: Path) -> None:
    server.start()
    second = run(["--data", str(server.data), "--json", "up", "--listen", f"127.0.0.1:{free_port()}"])
    assert (second.status, second.code) == (1, "SRV-RUNNING")
    assert str(server.ready["pid"]) in second.out
    third = run(["--data", str(tmp_path / "other"), "--json", "up", "--listen", f"127.0.0.1:{server.port}"])
    assert (third.status, third.code) == (3, "SRV-PORT")
    assert server.stop() == 0


def test_without_a_server_a_noun_says_how_to_start_one(tmp_path: Path) -> None:
    answer = run(["--data", str(tmp_path / "nothing"), "--json", "model", "list"])
    assert (answer.status, answer.code) == (3, "SRV-DOWN")
    assert "garrison up" in answer.json["error"]["next"]
    run_directory = tmp_path / "nothing" / "run"
    run_directory.mkdir(parents=True)
    with (run_directory / "up.lock").open("w") as lock:  # as a server has it before its socket is there
        lock.write("4711")
        lock.flush()
        assert run(["--data", str(tmp_path / "nothing"), "--json", "model", "list"]).code == "SRV-DOWN"
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = run(["--data", str(tmp_path / "nothing"), "--json", "model", "list"])
    assert (answer.status, answer.code) == (3, "SRV-STARTING")
    assert "4711" in answer.out


def test_a_data_directory_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("not a directory")
    answer = run(["--data", str(path), "--json", "up", "--listen", "127.0.0.1:0"])
    assert (answer.status, answer.code) == (3, "DATA-READONLY")


@pytest.mark.row("C16", kind="R")
@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("DELETE FROM ledger_event WHERE seq = (SELECT max(seq) FROM ledger_event)", "AUD-TRUNCATED"),
        ("DELETE FROM ledger_event WHERE seq = 2", "AUD-MISSING"),
        ("UPDATE ledger_event SET actor = 'user:nobody' WHERE seq = 2", "AUD-EDITED"),
    ],
)
def test_a_changed_ledger_is_found(server: Server, statement: str, code: str) -> None:
    server.start()
    server.ok("user", "add", "dana", "--role", "approver")
    assert server.stop() == 0
    assert server.cli("audit", "verify").status == 0
    with closing(sqlite3.connect(server.data / "garrison.db")) as database, database:
        database.execute(statement)
    answer = server.cli("audit", "verify")
    assert answer.status == 1
    assert code in answer.out


def test_a_start_on_a_cut_ledger_is_refused(server: Server) -> None:
    server.start()
    server.ok("user", "add", "dana", "--role", "approver")
    assert server.stop() == 0
    with closing(sqlite3.connect(server.data / "garrison.db")) as database, database:
        database.execute("DELETE FROM ledger_event WHERE seq = (SELECT max(seq) FROM ledger_event)")
    answer = run(["--data", str(server.data), "--json", "up", "--listen", f"127.0.0.1:{free_port()}"])
    assert (answer.status, answer.code) == (1, "AUD-TRUNCATED")


def test_a_damaged_stored_file_is_named_and_the_same_bytes_mend_it(small_model: Path, server: Server) -> None:
    server.start()
    server.publish(small_model, "small@1")
    stored = server.data / "models" / "small" / "1" / "config.json"
    stored.chmod(0o644)
    stored.write_text(stored.read_text().replace("{", "{ ", 1))
    answer = server.cli("model", "verify", "small@1")
    assert (answer.status, answer.code) == (1, "ART-TAMPER")
    assert "config.json" in answer.out
    assert "publish the same files" in answer.json["error"]["next"]
    server.publish(small_model, "small@1")
    assert server.ok("model", "verify", "small@1")["ref"] == "small@1"
    assert server.stop() == 0


@pytest.mark.row("S20", kind="R")
def test_two_racing_publishers_have_one_winner(small_model: Path, server: Server, tmp_path: Path) -> None:
    server.start()
    directories = []
    for number in range(4):
        directory = tmp_path / f"racer-{number}"
        shutil.copytree(small_model, directory)
        (directory / "README.md").write_text(f"edition {number}\n")
        directories.append(directory)
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda d: server.cli(
                    "model", "publish", str(d), "--as", "race@1", "--owner", "o", "--tier", "public"
                ),
                directories,
            )
        )
    assert sorted(answer.status for answer in answers) == [0, 1, 1, 1]
    assert {answer.code for answer in answers if answer.status} == {"ART-IMMUTABLE"}
    assert server.ok("model", "verify", "race@1")["ref"] == "race@1"
    assert server.stop() == 0
