"""Signed, versioned, immutable configuration: never older, never unsigned, never past its end."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.gateway.rig import Rig, chat

from garrison.core.event import format_time
from garrison.trust.keys.file import FileSigner
from garrison.trust.policy import Policy, base_cedar, base_schema


def test_a_reload_under_load_fails_no_request(rig: Rig) -> None:
    statuses: list[int] = []

    def load() -> None:
        statuses.extend(rig.ask(chat()).status for _ in range(40))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        rig.published()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 120


def test_an_older_snapshot_changes_nothing(rig: Rig) -> None:
    rig.published(routes=[])
    assert rig.ask(chat()).code == "GW-MODEL"
    rig.version = 0
    rig.publish()  # version 1 again, with every route
    rig.until(lambda: rig.plane.snapshots.rejected == 1)
    assert rig.ask(chat()).code == "GW-MODEL"


def test_a_snapshot_of_another_key_or_with_a_changed_byte_changes_nothing(rig: Rig) -> None:
    key, rig.snapshot_key = rig.snapshot_key, FileSigner("snapshot")
    rig.publish(routes=[])
    rig.until(lambda: rig.plane.snapshots.rejected == 1)
    rig.snapshot_key = key
    rig.snapshot_path.write_bytes(rig.snapshot_path.read_bytes()[:-9] + b'xxxx"}]}\n')
    rig.until(lambda: rig.plane.snapshots.rejected == 2)
    assert rig.ask(chat()).status == 200
    assert rig.plane.snapshots.problem is not None


@pytest.mark.parametrize(
    "change",
    [
        {"version": "7"},
        {"routes": {}},
        {"routes": [{"name": "a"}]},
        {"limits": {}},
        {"limits": {"requests_per_minute": -1, "tokens_per_minute": 1, "concurrency": 1}},
        {"policy": {"cedar": "permit (principal, action, resource);", "schema": ""}},
        {"token_keys": [{"kid": "x", "pem": "y"}]},
        {"expires": "tomorrow"},
        {"revoked": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_signed_document_that_is_not_a_snapshot_changes_nothing(rig: Rig, change: dict[str, Any]) -> None:
    rig.publish(**change)
    rig.until(lambda: rig.plane.snapshots.rejected == 1)
    assert rig.ask(chat()).status == 200


def test_past_its_end_nothing_is_served_and_a_new_one_brings_it_back(rig: Rig) -> None:
    rig.wall_offset = 3_700
    answer = rig.ask(chat())
    assert (answer.status, answer.code) == (503, "GW-STALE")
    assert int(answer.headers["retry-after"]) >= 1
    assert rig.event_of(answer)["outcome"] == "error"
    later = datetime.now(UTC) + timedelta(hours=3)
    rig.publish(expires=format_time(later))
    rig.until(
        lambda: rig.ask(chat(), token=rig.token(now=datetime.now(UTC) + timedelta(hours=1))).status == 200
    )


def test_with_the_file_gone_the_last_one_is_served_on(rig: Rig) -> None:
    rig.snapshot_path.unlink()
    rig.until(lambda: rig.plane.snapshots.problem is not None)
    assert rig.ask(chat()).status == 200


def test_a_policy_that_forbids_takes_effect_with_the_next_request(rig: Rig) -> None:
    assert rig.ask(chat()).status == 200
    rule = '@id("closed") @code("RBAC-403") @reason("closed") forbid (principal, action, resource);'
    rig.published(policy={"cedar": base_cedar() + "\n" + rule, "schema": base_schema()})
    answer = rig.ask(chat())
    assert answer.json["error"]["evidence"]["rule_id"] == "closed"
    assert json.loads(answer.body)["error"]["code"] == "RBAC-403"


def test_another_policy_is_loaded_without_holding_up_what_is_served(rig: Rig) -> None:
    """A loop that loaded one by itself would be late by all of that, each time. The machine is at times, too."""

    async def lateness(until: threading.Event) -> float:
        worst = 0.0
        while not until.is_set():
            before = time.perf_counter()
            await asyncio.sleep(0)
            worst = max(worst, time.perf_counter() - before)
        return worst

    rounds = []
    for number in range(20):
        cedar = base_cedar() + "\n" * (number + 1)
        before = time.perf_counter()
        Policy(cedar, base_schema())
        took = time.perf_counter() - before
        done = threading.Event()
        watching = asyncio.run_coroutine_threadsafe(lateness(done), rig.loop)
        rig.published(policy={"cedar": cedar, "schema": base_schema()})
        done.set()
        rounds.append(watching.result(60) / took)
        if rounds[-1] < 0.5:
            break
    assert min(rounds) < 0.5
    assert rig.ask(chat()).status == 200


def test_a_burst_of_snapshots_ends_with_the_newest(rig: Rig) -> None:
    for _ in range(20):
        rig.publish(routes=[])
    rig.published()
    assert rig.ask(chat()).status == 200
    assert rig.plane.snapshots.rejected == 0
