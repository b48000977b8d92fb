"""Accidents: full and read-only disks, lost keys, damaged files, missing packages, a stop in the middle.

Each ends in one sentence with a code and a next step, changes nothing it did not say, and leaves no
half-done version behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.flows.server import Answer, Server, run
from tests.flows.test_bad_input import assert_a_sentence

from garrison.core.errors import GarrisonError, Refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("restart")]

Copy = Callable[[Path | None], Path]
Mount = Callable[..., Path]


def _listed(server: Server) -> list[str]:
    return [model["ref"] for model in server.ask("model.list")["models"]]


def _leftovers(data: Path) -> list[str]:
    """What an interrupted publication may not leave while the server runs."""
    found = [*(data / "objects" / "incoming").iterdir(), *(data / "models").glob(".incoming-*")]
    found += [path for path in data.rglob(".*.????????") if path.is_file()]  # of write_atomically
    return [str(path.relative_to(data)) for path in found]


def _bulky(directory: Path, size: int) -> Path:
    """A clean model of `size` bytes and a few files, so that a disk fills up in different places of it."""
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    for number in range(4):
        line = f"word-{number}-" + "x" * 50 + "\n"
        (directory / f"vocab{number}.txt").write_text(line * (size // 4 // len(line)))
    return directory


@pytest.mark.row("S18", kind="R")
def test_a_full_disk_changes_nothing_wherever_it_fills_up(
    copied: Copy, mounted: Mount, tmp_path: Path
) -> None:
    disk = mounted("-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", at=tmp_path / "disk")
    server = Server(copied(disk / "data"))
    model = _bulky(tmp_path / "bulky", 600_000)
    filler = disk / "filler"
    server.start()
    try:
        done = 0
        for room in (0, 8, 24, 40, 64, 96, 150, 250, 400, 550, 650, 750, 900):  # KiB left
            _fill(filler, room * 1024)
            answer = server.cli("model", "publish", str(model), "--as", f"bulky@{done + 1}", *_OWNED)
            pulled = server.cli("model", "pull", "base@1", str(disk / "pulled"))
            filler.unlink()
            for refused in (answer, pulled):
                if refused.status:
                    assert_a_sentence(refused, 3, "DISK-FULL")
            if answer.status == 0:
                done += 1
                (model / "config.json").write_text(f'{{"edition": {done}}}')
            if pulled.status:
                assert not [path for path in disk.iterdir() if "pulled" in path.name]
            else:
                for path in disk.glob("pulled*"):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            assert _listed(server) == ["base@1", *(f"bulky@{number + 1}" for number in range(done))]
            assert _leftovers(server.data) == []
        assert done < 13, "the disk was never full"
        for ref in _listed(server):
            server.ask("model.verify", ref=ref)
        objects = {path.name for path in (server.data / "objects" / "sha256").glob("??/*")}
        linked = {path.stat().st_ino for path in (server.data / "models").rglob("*") if path.is_file()}
        orphans = [
            name
            for name in objects
            if (server.data / "objects" / "sha256" / name[:2] / name).stat().st_ino not in linked
        ]
        assert orphans == [], "space was not given back"
        server.publish(model, "bulky@99")
        assert server.stop() == 0
        assert server.cli("audit", "verify").status == 0
        _fill(filler, 0)
        answer = server.try_start()
        assert_a_sentence(answer, 3, "DISK-FULL")
        filler.unlink()
        server.start()
        assert server.stop() == 0
    finally:
        server.kill()


_OWNED = ("--owner", "o", "--tier", "public")


def _fill(filler: Path, left: int) -> None:
    """Take all room on the filler's disk but `left` bytes."""
    with filler.open("wb", buffering=0) as file:
        room = os.statvfs(filler.parent)
        size = max(0, room.f_bavail * room.f_frsize - left)
        os.posix_fallocate(file.fileno(), 0, size) if size else None


def test_a_read_only_data_directory_is_told_and_its_ledger_can_still_be_verified(
    copied: Copy, mounted: Mount, tmp_path: Path, small_model: Path
) -> None:
    data = copied(None)
    place = mounted("--bind", str(data), at=tmp_path / "ro")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    server = Server(place)
    assert_a_sentence(server.try_start(), 3, "DATA-READONLY")
    assert_a_sentence(Server(place / "new").try_start(), 3, "DATA-READONLY")
    assert_a_sentence(server.cli("sign", str(small_model), "--as", "x@1"), 3, "DATA-READONLY")
    assert server.cli("audit", "verify").status == 0
    assert server.cli("audit", "list").status == 0


def test_a_directory_that_becomes_read_only_under_a_server_refuses_and_recovers(
    server: Server, mounted: Mount, small_model: Path
) -> None:
    server.start()
    place = mounted("--bind", str(server.data), at=server.data)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    assert_a_sentence(
        server.cli("model", "publish", str(small_model), "--as", "x@1", *_OWNED), 3, "DATA-READONLY"
    )
    subprocess.run(["umount", "--lazy", str(place)], check=True)
    server.publish(small_model, "x@1")
    assert _listed(server) == ["base@1", "x@1"]
    assert server.stop() == 0


def _remove_token(data: Path) -> None:
    shutil.rmtree(data / "keys" / "token")


def _remove_pin(data: Path) -> None:
    (data / "keys" / "token" / "pin").unlink()


def _open_pin(data: Path) -> None:
    (data / "keys" / "token" / "pin").chmod(0o644)


def _wrong_pin(data: Path) -> None:
    (data / "keys" / "token" / "pin").write_text("1234")


def _remove_private_key(data: Path) -> None:
    """All token objects but the token's own record: every key is gone."""
    for path in (data / "keys" / "token" / "tokens").glob("*/*.object"):
        if path.name != "token.object":
            path.unlink()


def _other_public_key(data: Path) -> None:
    public = data / "keys" / "public"
    (public / "release.pem").write_bytes((public / "ca.pem").read_bytes())


def _damaged_ca(data: Path) -> None:
    (data / "ca.pem").write_text("not a certificate")


def _garbage_database(data: Path) -> None:
    (data / "garrison.db").write_bytes(b"garbage" * 4096)


def _cut_database(data: Path) -> None:
    os.truncate(data / "garrison.db", (data / "garrison.db").stat().st_size // 2)


def _no_database(data: Path) -> None:
    (data / "garrison.db").unlink()


def _database_directory(data: Path) -> None:
    _no_database(data)
    (data / "garrison.db").mkdir()


def _damaged_row(data: Path) -> None:
    _sql(data, "UPDATE releases SET manifest = '{'")


def _damaged_user(data: Path) -> None:
    _sql(data, "UPDATE users SET roles = '{'")


def _dropped_table(data: Path) -> None:
    _sql(data, "DROP TABLE deployments")


def _later_schema(data: Path) -> None:
    _sql(data, "UPDATE alembic_version SET version_num = 'of-a-later-release'")


def _forged_witness(data: Path) -> None:
    (data / "witness" / "checkpoint").write_text("nothing that was signed")


def _settings_typo(data: Path) -> None:
    (data / "garrison.toml").write_text("isolatoin = 'bwrap'\n")


def _socket_in_the_way(data: Path) -> None:
    (data / "run" / "control.sock").mkdir()


def _sql(data: Path, statement: str) -> None:
    with closing(sqlite3.connect(data / "garrison.db")) as database, database:
        database.execute(statement)


@pytest.mark.parametrize(
    ("accident", "status", "code"),
    [
        (_remove_token, 3, "KEY-LOST"),
        (_remove_private_key, 3, "KEY-LOST"),
        (_other_public_key, 3, "KEY-LOST"),
        (_remove_pin, 3, "KEY-PIN"),
        (_open_pin, 3, "KEY-PIN"),
        (_wrong_pin, 3, "KEY-PIN"),
        (_damaged_ca, 1, "CA-MISMATCH"),
        (_garbage_database, 3, "DB-UNAVAILABLE"),
        (_cut_database, 3, "DB-UNAVAILABLE"),
        (_no_database, 1, "AUD-TRUNCATED"),
        (_database_directory, 3, "DB-UNAVAILABLE"),
        (_damaged_row, 3, "DB-UNAVAILABLE"),
        (_damaged_user, 3, "DB-UNAVAILABLE"),
        (_dropped_table, 3, "DB-UNAVAILABLE"),
        (_later_schema, 3, "DB-NEWER"),
        (_forged_witness, 1, "AUD-SIGNATURE"),
        (_settings_typo, 2, "SET-UNKNOWN"),
        (_socket_in_the_way, 3, "HOST-IO"),
    ],
)
def test_a_start_on_something_damaged_is_refused(
    server: Server, accident: Callable[[Path], None], status: int, code: str
) -> None:
    accident(server.data)
    answer = server.try_start()
    assert_a_sentence(answer, status, code)
    assert "BEGIN" not in answer.out + answer.err


def test_the_same_lost_keys_are_never_replaced_silently(server: Server) -> None:
    before = (server.data / "keys" / "public" / "release.pem").read_bytes()
    _remove_token(server.data)
    assert server.try_start().status == 3
    assert (server.data / "keys" / "public" / "release.pem").read_bytes() == before
    assert not (server.data / "keys" / "token").exists()


def test_lost_files_and_leftovers_are_repaired_and_told(server: Server) -> None:
    models = server.data / "models"
    shutil.rmtree(models / "base" / "1")
    (models / "base" / "1.sig").unlink()
    (models / "ghost").mkdir()
    (models / "ghost" / "7").mkdir()
    (models / "ghost" / "7" / "model.bin").write_text("of a publication that was cut short")
    (models / "ghost" / "7.sig").write_text("and its signature")
    (models / ".incoming-left").mkdir()
    (server.data / "objects" / "incoming" / "left").write_text("x")
    for path in (server.data / "run" / "patterns").iterdir():
        path.write_bytes(b"not compiled patterns")
    server.start()
    server.ask("model.verify", ref="base@1")
    assert not (models / "ghost").exists()
    assert _leftovers(server.data) == []
    told = server.cli("audit", "list", "--kind", "system.repair", "--limit", "50").out
    for word in ("ghost@7", "base@1", "unfinished uploads", "unfinished publication"):
        assert word in told
    assert server.stop() == 0


def test_objects_that_are_gone_are_named_and_come_back_with_the_same_bytes(
    server: Server, small_model: Path
) -> None:
    shutil.rmtree(server.data / "objects" / "sha256")
    shutil.rmtree(server.data / "models" / "base")
    server.start()
    assert "base@1" in server.cli("audit", "list", "--kind", "system.repair").out
    assert _listed(server) == ["base@1"]
    answer = server.cli("model", "pull", "base@1", str(server.data.parent / "copy"))
    assert_a_sentence(answer, 1, "OBJ-MISSING")
    assert_a_sentence(server.cli("model", "pull", "base@1", "--repair"), 1, "OBJ-MISSING")
    server.publish(small_model, "base@1")
    server.ask("model.verify", ref="base@1")
    assert server.stop() == 0


@pytest.mark.parametrize("missing", ["softhsm2", "bubblewrap"])
def test_a_missing_package_is_named(copied: Copy, mounted: Mount, tmp_path: Path, missing: str) -> None:
    """Hidden for the length of the test: the module under an empty file system, bwrap off the PATH."""
    data = copied(None)
    if missing == "softhsm2":
        module = next(p for p in (Path("/usr/lib/softhsm"), Path("/usr/lib64/softhsm")) if p.is_dir())
        answer = _with_hidden(module, Server(data), tmp_path)
        assert_a_sentence(answer, 3, "KEY-MODULE")
        assert "install" in answer.json["error"]["next"]
        return
    programs = tmp_path / "bin"
    programs.mkdir()
    answer = run(["--json", "doctor"], PATH=str(programs))
    assert "Traceback" not in answer.err
    assert answer.status in (0, 3)


def _with_hidden(directory: Path, server: Server, tmp_path: Path) -> Answer:
    """Start with a directory hidden from that process alone: a mount name space of its own."""
    from tests.flows.server import COMMAND, environment

    script = f'mount -t tmpfs tmpfs {directory} && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", *COMMAND]
    words += ["--data", str(server.data), "--json", "up", "--listen", "127.0.0.1:0"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment(), timeout=60)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_sigterm_during_a_publication_gives_it_up_cleanly(server: Server, tmp_path: Path) -> None:
    server.start()
    model = tmp_path / "huge"
    model.mkdir()
    with (model / "model.gguf").open("wb") as file:
        file.truncate(8 << 30)  # a sparse file: reading it would take many seconds
    answers: list[Answer] = []
    words = ("model", "publish", str(model), "--as", "huge@1", *_OWNED)
    client = threading.Thread(target=lambda: answers.append(server.cli(*words)))
    client.start()
    _until(lambda: any((server.data / "objects" / "incoming").iterdir()))
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 20
    client.join()
    assert_a_sentence(answers[0], 3, "SRV-STOPPING")
    assert _leftovers(server.data) == []
    assert server.cli("audit", "verify").status == 0
    server.start()
    assert _listed(server) == ["base@1"]
    assert server.stop() == 0


def test_a_server_killed_in_the_middle_of_an_answer_is_told(server: Server, tmp_path: Path) -> None:
    server.start()
    model = tmp_path / "huge"
    model.mkdir()
    with (model / "model.gguf").open("wb") as file:
        file.truncate(8 << 30)
    answers: list[Answer] = []
    words = ("model", "publish", str(model), "--as", "huge@1", *_OWNED)
    client = threading.Thread(target=lambda: answers.append(server.cli(*words)))
    client.start()
    _until(lambda: any((server.data / "objects" / "incoming").iterdir()))
    server.kill()
    client.join()
    assert_a_sentence(answers[0], 3, "SRV-CUT")
    server.start()
    assert _listed(server) == ["base@1"]
    assert _leftovers(server.data) == []
    assert "unfinished" in server.cli("audit", "list", "--kind", "system.repair").out
    assert server.stop() == 0


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"


def test_two_approvers_at_once_are_both_counted_and_one_person_only_once(
    server: Server, small_model: Path
) -> None:
    server.start()
    for name in ("erin", "frank"):
        server.ask("user.add", name=name, roles=["approver"])
    server.publish(small_model, "secret@1", tier="secret")
    needed = server.ask("model.show", ref="secret@1")["approvals_needed"]
    assert needed == 2
    outcomes = _at_once(
        [
            lambda name=name: server.ask("model.approve", identity=name, ref="secret@1")
            for name in ("dana", "dana", "erin", "erin")
        ]  # type: ignore[misc]  # the default binds the name
    )
    refusals = [outcome.code for outcome in outcomes if isinstance(outcome, GarrisonError)]
    assert set(refusals) <= {"APP-SAME"}
    shown = server.ask("model.show", ref="secret@1")
    assert sorted(item["approver"] for item in shown["approvals"]) == ["dana", "erin"]
    assert shown["state"] == "approved"
    assert server.stop() == 0


@pytest.mark.row("S20", kind="R")
@pytest.mark.row("A17", kind="R")
def test_racing_publishers_of_one_version_have_one_winner_every_time(
    server: Server, small_model: Path, tmp_path: Path
) -> None:
    server.start()
    directories = []
    for number in range(4):
        directory = Path(shutil.copytree(small_model, tmp_path / f"racer-{number}"))
        (directory / "README.md").write_text(f"edition {number}\n")
        directories.append(directory)

    def publish(directory: Path, ref: str) -> dict[str, Any]:
        return server.ask("model.publish", source=str(directory), ref=ref, owner="o", tier="public")

    def approve(ref: str) -> dict[str, Any]:
        return server.ask("model.approve", identity="dana", ref=ref)

    for round_ in range(1, 6):
        ref = f"race@{round_}"
        work = [lambda d=d, ref=ref: publish(d, ref) for d in directories]  # type: ignore[misc]  # the default binds
        work.append(lambda ref=ref: approve(ref))  # type: ignore[misc]  # the default binds the reference
        *published, approval = _at_once(work)
        winners = [outcome for outcome in published if not isinstance(outcome, GarrisonError)]
        losers = [outcome for outcome in published if isinstance(outcome, GarrisonError)]
        assert len(winners) == 1
        assert {(type(loser), loser.code) for loser in losers} == {(Refused, "ART-IMMUTABLE")}
        if isinstance(approval, GarrisonError):
            assert approval.code == "ART-UNKNOWN"
        else:
            assert approval["digest"] == winners[0]["digest"]
        assert server.ask("model.verify", ref=ref)["digest"] == winners[0]["digest"]
    assert _leftovers(server.data) == []
    assert server.stop() == 0
    assert server.cli("audit", "verify").status == 0


def _at_once(work: list[Callable[[], dict[str, Any]]]) -> list[Any]:
    """The results of functions started together; a refusal is a result."""
    gate = threading.Barrier(len(work))
    results: list[Any] = [None] * len(work)

    def go(number: int) -> None:
        gate.wait()
        try:
            results[number] = work[number]()
        except GarrisonError as error:
            results[number] = error

    threads = [threading.Thread(target=go, args=(number,)) for number in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_the_control_socket_is_the_owners_alone(server: Server) -> None:
    server.start()
    mode = (server.data / "run" / "control.sock").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    assert server.stop() == 0
    assert not (server.data / "run" / "control.sock").exists()


def test_sigint_drains_as_well(server: Server) -> None:
    server.start()
    assert server.stop(signal.SIGINT) == 0
    assert "Traceback" not in server.data.with_suffix(".log").read_text()
