"""Periodic jobs: each run is told, failures are seen, and no jump of the clock opens or hides anything."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.app.household import Household
from tests.flows.server import run

from garrison.app import jobs, schedule
from garrison.core.errors import GarrisonError

YEAR = 365  # days
REFRESH = jobs.find("refresh-approved")


def refusal(home: Household, verb: str, who: str = "root", **body: Any) -> str:
    with pytest.raises(GarrisonError) as error:
        home.ask(verb, who, **body)
    return error.value.code


def posture_items(home: Household) -> list[dict[str, str]]:
    """Every line of `garrison posture --json` that names a code or an event."""
    answer = run(["--data", str(home.house.settings.data), "--json", "posture"])
    return [item for layer in answer.json["layers"] for item in layer["items"]]


def due(home: Household) -> set[str]:
    return {state.job.name for state in schedule.states(home.house) if state.due <= home.house.now()}


@pytest.fixture
def approved(home: Household, plain: Path) -> Household:
    home.ask("user.add", name="dana", roles=["approver"])
    home.publish(plain, "fraud@1")
    home.ask("model.approve", "dana", ref="fraud@1")
    return home


def test_what_ran_is_told_and_what_is_due_runs(approved: Household) -> None:
    assert due(approved) == {job.name for job in jobs.JOBS}
    schedule.run_due(approved.house, list(jobs.JOBS))
    assert due(approved) == set()
    approved.clock.move(minutes=50)
    assert due(approved) == set()
    approved.clock.move(hours=24)
    assert due(approved) == {job.name for job in jobs.JOBS}
    row = next(row for row in approved.ask("schedule.list")["jobs"] if row["job"] == "verify-at-rest")
    assert (row["result"], row["facts"]) == ("allowed", {"versions": 1})
    assert refusal(approved, "schedule.run", job="nothing") == "ARG-MISSING"


def test_a_long_job_runs_alone_and_the_refresh_of_the_list_does_not_wait_for_it(approved: Household) -> None:
    with approved.house.scheduling:
        assert refusal(approved, "schedule.run", job="check-rows") == "SCHED-BUSY"
        assert approved.ask("schedule.run", job="refresh-approved")["facts"]["refreshed"] is False


@pytest.mark.row("A18", kind="R")
@pytest.mark.row("A23", kind="R")
def test_a_job_that_finds_something_is_told_by_its_event_and_by_posture(
    approved: Household, tmp_path: Path
) -> None:
    cache = _cached_model(tmp_path)
    imported = {"kind": "hf", "path": str(cache), "ref": "gpt@1", "owner": "ml-team", "tier": "public"}
    approved.ask("import.version", **imported)
    schedule.run_due(approved.house, list(jobs.JOBS))
    quiet = {item["code"] for item in posture_items(approved)}
    assert not quiet & {"DRIFT-CONTENT", "DRIFT-SOURCE", "SCHED-LATE", "TUF-EXPIRED"}
    blob = next((cache / "blobs").iterdir())
    blob.write_text('{"hidden_size": 9}')
    approved.clock.move(hours=25)
    schedule.run_due(approved.house, list(jobs.JOBS))
    told = approved.events("schedule.run")[-len(jobs.JOBS) :]
    assert {(row["resource"], row["outcome"]) for row in told} >= {
        ("check-drift", "denied"),
        ("refresh-approved", "allowed"),
        ("verify-at-rest", "allowed"),
    }
    items = {item["what"]: item for item in posture_items(approved)}
    drifted = items["gpt@1 is not what its source holds"]
    assert (drifted["level"], drifted["code"], drifted["next"]) == (
        "bad",
        "DRIFT-CONTENT",
        "garrison drift gpt@1",
    )
    shown = run(["--data", str(approved.house.settings.data), "--json", "audit", "show", drifted["evidence"]])
    assert "gpt@1" in json.dumps(shown.json)
    shutil.rmtree(cache)
    assert refusal(approved, "schedule.run", job="check-drift") in ("DRIFT-SOURCE", "LIN-GONE", "LIN-SOURCE")


@pytest.mark.row("A15", kind="R")
def test_a_store_that_others_may_write_is_found_by_its_job(approved: Household) -> None:
    objects = approved.house.settings.data / "objects"
    assert approved.ask("schedule.run", job="check-store")["facts"]["passed"]
    objects.chmod(0o777)
    assert refusal(approved, "schedule.run", job="check-store") in ("STO-WIDE", "STO-PUBLIC")
    found = [item for item in posture_items(approved) if item["what"].startswith("check-store")]
    assert [(item["level"], item["evidence"] != "") for item in found] == [("bad", True)]
    objects.chmod(0o700)


@pytest.mark.row("A07", kind="R")
@pytest.mark.row("A23", kind="R")
def test_a_year_ahead_lets_nothing_stale_in_and_the_healthy_server_refreshes(approved: Household) -> None:
    approved.clock.move(days=YEAR)
    assert refusal(approved, "deploy.apply", ref="fraud@1") == "TUF-EXPIRED"
    schedule.run_due(approved.house, [REFRESH])
    assert approved.house.registry.approved.expires_in().total_seconds() > 0
    assert refusal(approved, "deploy.apply", ref="fraud@1") == "APP-EXPIRED", "a refresh renews no approval"
    approved.ask("model.approve", "dana", ref="fraud@1")
    assert refusal(approved, "deploy.apply", ref="fraud@1") not in ("APP-EXPIRED", "TUF-EXPIRED")


@pytest.mark.row("A07", kind="R")
@pytest.mark.row("A23", kind="R")
def test_a_year_back_brings_nothing_that_ended_back_and_makes_every_job_due(approved: Household) -> None:
    schedule.run_due(approved.house, list(jobs.JOBS))
    approved.clock.move(days=-YEAR)
    assert due(approved) == {job.name for job in jobs.JOBS}
    assert refusal(approved, "deploy.apply", ref="fraud@1") == "TUF-EXPIRED", "it would be fresh for a year"
    schedule.run_due(approved.house, [REFRESH])
    assert approved.house.registry.approved.expires_in().total_seconds() < 25 * 3600
    assert refusal(approved, "deploy.apply", ref="fraud@1") == "APP-EXPIRED", "an approval of the future"
    approved.clock.move(days=YEAR)
    schedule.run_due(approved.house, [REFRESH])
    assert refusal(approved, "deploy.apply", ref="fraud@1") not in ("APP-EXPIRED", "TUF-EXPIRED")


def test_a_refresh_that_fails_is_told_and_tried_again_soon(approved: Household) -> None:
    data = approved.house.settings.data
    timestamp = data / "tuf" / "metadata" / "timestamp.json"
    kept = timestamp.read_bytes()
    timestamp.write_bytes(kept.replace(b"timestamp", b"timestamq"))
    schedule.run_due(approved.house, [REFRESH])
    last = approved.events("schedule.run")[-1]
    assert (last["resource"], last["outcome"]) == ("refresh-approved", "denied")
    assert last["code"].startswith("TUF-")
    assert {"TUF-ROLLBACK", last["code"]} <= {item["code"] for item in posture_items(approved)}
    timestamp.write_bytes(kept)
    approved.clock.move(seconds=schedule.RETRY.total_seconds())
    schedule.run_due(approved.house, [REFRESH])
    assert approved.events("schedule.run")[-1]["outcome"] == "allowed"


def _cached_model(place: Path) -> Path:
    """A model as the Hugging Face cache keeps it: a link from a snapshot to a blob named by its content."""
    home, commit, content = place / "models--acme--gpt", "a" * 40, b'{"hidden_size": 8}'
    name = hashlib.sha256(content).hexdigest()
    for folder in ("blobs", "refs", f"snapshots/{commit}"):
        (home / folder).mkdir(parents=True)
    (home / "blobs" / name).write_bytes(content)
    (home / "refs" / "main").write_text(commit)
    (home / "snapshots" / commit / "config.json").symlink_to(f"../../blobs/{name}")
    return home


@pytest.mark.row("S15", kind="R")
@pytest.mark.row("A10", kind="R")
def test_a_private_key_in_a_file_of_the_data_directory_is_found(approved: Household) -> None:
    data = approved.house.settings.data
    assert approved.ask("schedule.run", job="check-keys")["facts"] == {"found": 0}
    key = ec.generate_private_key(ec.SECP256R1())
    (data / "models" / "release.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    assert refusal(approved, "schedule.run", job="check-keys") == "KEY-ENV"
    found = [item for item in posture_items(approved) if item["what"].startswith("check-keys")]
    assert [(item["level"], item["evidence"] != "") for item in found] == [("bad", True)]
    told = run(["--data", str(data), "--json", "doctor"])
    assert [
        left["names"] for left in told.json["left_over"] if left["kind"] == "private keys in plain files"
    ] == [["models/release.key"]]
