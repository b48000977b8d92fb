"""`garrison doctor` finds what belongs to nothing and what is missing, and changes nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.app.household import Household
from tests.flows.server import run


def doctor(data: Path) -> tuple[int, dict[str, Any]]:
    answer = run(["--data", str(data), "--json", "doctor"])
    return answer.status, {row["kind"]: row for row in answer.json["left_over"]}


def test_what_belongs_to_nothing_and_what_is_missing_is_named_with_what_to_do(
    home: Household, plain: Path
) -> None:
    data = home.house.settings.data
    home.ask("user.add", name="dana", roles=["approver"])
    home.publish(plain, "fraud@1")
    home.ask("model.approve", "dana", ref="fraud@1")
    status, found = doctor(data)
    assert (status, found) in ((0, {}), (3, {}))
    stray = data / "objects" / "sha256" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"")
    (data / "objects" / "incoming" / "half").write_bytes(b"")
    (data / "models" / ".incoming-1").mkdir()
    (data / "models" / "planted").mkdir()
    (data / "models" / "planted" / "7").mkdir()
    target = next((data / "tuf" / "targets" / "production" / "fraud").iterdir())
    target.with_name(f"{'0' * 64}.9.release.json").write_bytes(target.read_bytes())
    public = data / "keys" / "public"
    (public / "stranger.pem").write_bytes((public / "release.pem").read_bytes())
    kept = (public / "token.pem").read_bytes()
    (public / "token.pem").unlink()
    told = run(["--data", str(data), "--json", "doctor"]).json["second_tier"]
    assert told["next"].endswith(("guard tier2 set", "'garrison[runtime]'"))
    before = sorted(str(path) for path in data.rglob("*"))
    status, found = doctor(data)
    assert status == 1
    assert {kind: row["count"] for kind, row in found.items()} == {
        "objects that no version has": 1,
        "unfinished uploads and publications": 2,
        "files of versions that the database does not have": 1,
        "statements in the approved list's folder of versions that the database does not have": 1,
        "public keys that are in no keyring": 1,
        "keys of the keyring whose public file is gone": 1,
    }
    assert found["files of versions that the database does not have"]["names"] == ["planted@7"]
    assert all(row["next"] for row in found.values())
    assert sorted(str(path) for path in data.rglob("*")) == before
    (public / "token.pem").write_bytes(kept)


def test_a_row_without_its_object_and_an_object_without_its_row_are_told_apart(
    home: Household, plain: Path
) -> None:
    data = home.house.settings.data
    home.publish(plain, "fraud@1")
    (thing,) = (data / "objects" / "sha256").glob("??/*")
    aside = thing.rename(data / "aside")
    _, found = doctor(data)
    missing = found["objects that a version has and that are not there"]
    assert (missing["count"], missing["names"]) == (1, [f"sha256:{thing.name}"])
    assert "garrison store verify" in missing["next"]
    aside.rename(thing)
    with closing(sqlite3.connect(data / "garrison.db")) as database, database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("DELETE FROM releases")
    status, found = doctor(data)
    assert status == 1
    assert {
        "objects that no version has",
        "files of versions that the database does not have",
    } <= found.keys()


def test_without_a_data_directory_only_the_machine_is_looked_at(tmp_path: Path) -> None:
    answer = run(["--data", str(tmp_path / "none"), "--json", "doctor"])
    assert answer.json["left_over"] is None
    assert answer.json["second_tier"] is None
    assert answer.status in (0, 3)
