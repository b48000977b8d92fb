"""kill -9 at many moments: what was answered is there, nothing half-done is, the ledger verifies.

The moments are found by watching the data directory change, so that they lie inside the work and not
before or after it. They are spread over the work, each another one, in an order that is drawn: draws alone
would meet some moments twice and others never. The scheduling is not fixed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.flows.kills import (
    CUT,
    LONGEST,
    Told,
    check,
    kill_after,
    killed_start,
    leftovers,
    migrations,
    sweep,
)
from tests.flows.server import Server

from garrison.core.errors import GarrisonError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kill")]

# Of the about 24 changes of a publication and its approval.
KILL_MOMENTS = (1, 3, 5, 6, 8, 10, 12, 13, 15, 17, 19, 20, 22, 24)
START_MOMENTS = (1, 4, 6, 9, 12)
FIRST_START_MOMENTS = (1, 3, 5, 6, 8)
SERVE_KILLS = 4  # one in each quarter of the seconds that a first answer takes
SWEEP = 9  # one of each verb
MIGRATIONS = 2


def test_publications_and_approvals_killed_at_random_moments(
    server: Server, small_model: Path, tmp_path: Path
) -> None:
    moments = random.Random(20).sample(KILL_MOMENTS, len(KILL_MOMENTS))
    model = Path(shutil.copytree(small_model, tmp_path / "k"))
    told = Told()
    refusals: set[str] = set()
    repairs_due = inside = 0
    for number, moment in enumerate(moments, 1):
        repairs_due += bool(leftovers(server.data))
        server.start()
        check(server, told)
        (model / "README.md").write_text(f"edition {number}\n")
        ref = f"k@{number}"
        told.tried.add(ref)
        outcome: list[str] = []

        def work(ref: str = ref, outcome: list[str] = outcome) -> None:
            try:
                made = server.ask("model.publish", source=str(model), ref=ref, owner="o", tier="public")
                outcome.append(made["digest"])
                server.ask("model.approve", identity="dana", ref=ref)
                outcome.append("approved")
            except GarrisonError as error:
                refusals.add(error.code)

        worker = threading.Thread(target=work)
        worker.start()
        assert server.process is not None
        kill_after(server.process, server.data, moment, lambda w=worker: not w.is_alive())  # type: ignore[misc]  # the default binds the thread
        inside += worker.is_alive()
        worker.join(LONGEST)
        server.kill()
        if outcome:
            told.published[ref] = outcome[0]
        if "approved" in outcome:
            told.approved.add(ref)
    server.start()
    check(server, told)
    assert server.cli("audit", "verify").status == 0
    assert server.stop() == 0
    assert server.cli("audit", "verify").status == 0
    assert refusals <= CUT, "something else than the kill was met"
    assert inside >= len(moments) // 2, "most kills came after the work: they proved little"
    told = server.ok("audit", "list", "--kind", "system.repair", "--limit", "500")
    assert len(json.dumps(told)) > 2
    assert json.dumps(told).count("system.repair") >= repairs_due > 0


def test_every_verb_of_the_supply_chain_killed_at_random_moments(
    server: Server, small_model: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(small_model, tmp_path / "k"))
    swept = sweep(server, model, SWEEP, seed=12)
    assert swept.inside.total() >= SWEEP // 3, (
        f"most kills came after the answer: they proved little: {swept}"
    )


def test_the_migration_of_an_older_data_directory_killed_at_random_moments_is_completed(
    tmp_path: Path,
) -> None:
    swept = migrations(tmp_path, MIGRATIONS, seed=3)
    assert swept.inside.total(), f"no kill came before the start was complete: {swept}"


def test_starts_killed_at_random_moments_do_not_lose_anything(server: Server) -> None:
    for moment in random.Random(6).sample(START_MOMENTS, len(START_MOMENTS)):
        killed_start(server.data, moment)
    server.start()
    check(server, Told(approved={"base@1"}))
    assert server.cli("audit", "verify").status == 0
    assert server.stop() == 0


def test_the_very_first_start_killed_at_random_moments_can_be_repeated(
    tmp_path: Path, small_model: Path
) -> None:
    data = tmp_path / "new"
    for moment in random.Random(7).sample(FIRST_START_MOMENTS, len(FIRST_START_MOMENTS)):
        killed_start(data, moment)
    server = Server(data).start()
    try:
        assert server.ask("user.list")["users"]
        server.publish(small_model, "k@1")
        assert server.cli("audit", "verify").status == 0
        assert server.stop() == 0
    finally:
        server.kill()


def test_serving_killed_at_random_moments_leaves_no_model_server_behind(
    server: Server, minilm_dir: Path
) -> None:
    chance = random.Random(4)
    server.start()
    server.publish(minilm_dir, "k@1")
    server.ask("model.approve", identity="dana", ref="k@1")
    answered = False
    for quarter in range(SERVE_KILLS):
        family: set[int] = set()
        answers: list[dict[str, Any]] = []

        def work(answers: list[dict[str, Any]] = answers) -> None:
            with contextlib.suppress(GarrisonError):
                answers.append(server.ask("deploy.apply", ref="k@1"))

        worker = threading.Thread(target=work)
        worker.start()
        assert server.process is not None
        moment = time.monotonic() + (quarter + chance.random()) * 2.5 / SERVE_KILLS
        while time.monotonic() < moment and worker.is_alive():
            family |= _descendants(server.process.pid)
        family |= _descendants(server.process.pid)
        server.kill()
        worker.join(LONGEST)
        answered = answered or bool(answers)
        end = time.monotonic() + LONGEST
        while any(_is_alive(pid) for pid in family):
            assert time.monotonic() < end, "a process outlived the server that started it"
        server.start()
        states = {row["name"]: row["state"] for row in server.ask("deploy.status")["deployments"]}
        assert states.get("k") in ({"ready", "serving"} if answered else {None, "ready", "serving"}), states
    assert server.ask("deploy.apply", ref="k@1")["version"] == 1
    assert server.cli("audit", "verify").status == 0
    assert server.stop() == 0


def _descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents[int(entry)] = int(fields[1])
    found: set[int] = set()
    while new := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= new
    return found


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
