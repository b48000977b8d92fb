"""Workers' lines become events exactly once, whatever dies in between."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import textwrap

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.evidence.conftest import START, an_event

from garrison.core.errors import Undecided
from garrison.evidence import store
from garrison.evidence.spool import SpoolReader
from garrison.evidence.spool_writer import MAX_SEGMENTS, SpoolWriter
from garrison.evidence.store import Filter


@pytest.fixture
def spool(house):
    return Spool(house)


class Spool:
    def __init__(self, house) -> None:
        self.house = house
        self.directory = house.root / "run" / "spool"
        self.ledger = house.ledger()
        self.reader = self.new_reader()

    def new_reader(self) -> SpoolReader:
        return SpoolReader(self.ledger, self.directory, lambda: START)

    def restart(self) -> None:
        """The control process dies without a word and comes back."""
        self.house.close()
        self.ledger = self.house.ledger()
        self.reader = self.new_reader()

    def events(self):
        with self.ledger.read() as connection:
            return [record.event for record in store.find(connection, Filter(action="model.invoke"))]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


def ended(writer: SpoolWriter, number: int) -> None:
    writer.begin(f"r{number}", "2026-11-22T14:03:00Z", "user:dana", "fraud@1")
    writer.end(f"r{number}", an_event(number).as_json())


def test_an_ended_request_becomes_one_event(spool) -> None:
    writer = SpoolWriter(spool.directory, "w0")
    ended(writer, 1)
    assert spool.reader.tick() == 1
    assert spool.reader.tick() == 0
    assert spool.events() == [an_event(1)]


def test_a_request_under_way_is_waited_for_across_a_restart(spool) -> None:
    writer = SpoolWriter(spool.directory, "w0")
    writer.begin("r1", "t", "user:dana", "fraud@1")
    assert spool.reader.tick() == 0
    spool.restart()
    assert spool.reader.tick() == 0
    writer.end("r1", an_event(1).as_json())
    assert spool.reader.tick() == 1
    writer.close()
    assert spool.reader.tick() == 0
    assert spool.files() == []


def test_a_request_of_a_dead_worker_becomes_one_crash_event(spool) -> None:
    writer = SpoolWriter(spool.directory, "w0")
    ended(writer, 1)
    writer.begin("r2", "2026-11-22T14:03:09Z", "user:sam", "fraud@2")
    assert spool.reader.tick() == 1
    writer.close()
    assert spool.reader.tick() == 1
    crash = spool.events()[-1]
    assert (crash.code, crash.outcome, crash.actor, crash.resource) == (
        "GW-CRASH",
        "error",
        "user:sam",
        "fraud@2",
    )
    assert crash.data["request"] == "r2"
    assert spool.reader.tick() == 0
    assert spool.files() == []


@pytest.mark.row("C16", kind="R")
def test_a_worker_killed_in_the_middle_loses_nothing(spool) -> None:
    program = textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        from garrison.evidence.spool_writer import SpoolWriter
        writer = SpoolWriter(Path({str(spool.directory)!r}), "w1")
        event = {json.dumps(an_event(1).as_json())}
        for number in range(50):
            writer.begin(f"r{{number}}", "t", "user:dana", "fraud@1")
            if number < 47:
                writer.end(f"r{{number}}", event)
        print("ready", flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout.readline() == b"ready\n"
        assert spool.reader.tick() == 47
        assert spool.files() != []  # its lock is held: it lives
        worker.kill()
        worker.wait()
        assert spool.reader.tick() == 3
    assert [event.code for event in spool.events()] == [""] * 47 + ["GW-CRASH"] * 3
    assert spool.files() == []


def test_segments_follow_one_another_and_are_removed_when_folded(spool) -> None:
    writer = SpoolWriter(spool.directory, "w0", segment_bytes=2_000)
    for number in range(40):
        ended(writer, number)
        spool.reader.tick()
    assert spool.events() == [an_event(number) for number in range(40)]
    assert len(spool.files()) <= 2


def test_a_backlog_refuses_new_requests_and_still_records_the_ends(spool) -> None:
    writer = SpoolWriter(spool.directory, "w0", segment_bytes=1_000)
    ids = itertools.count()

    def flood() -> None:
        while next(ids) < 1_000:
            writer.begin("r", "t", "user:dana", "fraud@1")

    with pytest.raises(Undecided, match="AUD-BACKLOG"):
        flood()
    begun = next(ids) - 2
    assert len(spool.files()) == MAX_SEGMENTS
    for number in range(begun // 4):
        writer.end(f"r{number}", an_event(number).as_json())
    assert spool.reader.tick() == begun // 4
    writer.begin("again", "t", "user:dana", "fraud@1")


def test_a_damaged_line_is_kept_by_its_digest_and_the_next_is_read(spool) -> None:
    writer = SpoolWriter(spool.directory, "w0")
    (path,) = spool.directory.iterdir()
    with path.open("ab") as file:
        file.write(
            b'{"k":"e","id":"x","event":{"action":"no.such"}}\nnot json\n{"k":[]}\n' + b"[" * 60_000 + b"\n"
        )
    ended(writer, 1)
    assert spool.reader.tick() == 5
    assert [event.code for event in spool.events()] == ["AUD-SPOOL"] * 4 + [""]
    assert spool.events()[1].data["spool_line"]["bytes"] == 8


def test_a_line_without_an_end_waits_while_the_worker_lives_and_is_kept_when_it_is_gone(spool) -> None:
    writer = SpoolWriter(spool.directory, "w0")
    (path,) = spool.directory.iterdir()
    with path.open("ab") as file:
        file.write(b'{"k":"e","id":')
    assert spool.reader.tick() == 0
    writer.close()
    assert spool.reader.tick() == 1
    assert spool.events()[0].code == "AUD-SPOOL"
    assert spool.files() == []


def test_an_endless_line_does_not_stop_the_ledger(spool) -> None:
    writer = SpoolWriter(spool.directory, "w0")
    (path,) = spool.directory.iterdir()
    with path.open("ab") as file:
        file.write(b"x" * 3_000_000)
        file.write(b"\n")
    ended(writer, 1)
    for _ in range(6):
        spool.reader.tick()
    codes = [event.code for event in spool.events()]
    assert codes[-1] == ""
    assert set(codes[:-1]) == {"AUD-SPOOL"}
    assert len(codes) < 8


STEP = st.sampled_from(["begin", "end", "tick", "restart", "kill", "rotate"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=30))
def test_any_order_of_deaths_gives_every_request_exactly_one_event(house, steps) -> None:
    for path in [*house.root.glob("garrison.db*"), house.root / "witness" / "checkpoint"]:
        path.unlink(missing_ok=True)
    spool = Spool(house)
    writer, begun, open_ids = SpoolWriter(spool.directory, "w", segment_bytes=400), 0, []
    for step in steps:
        if step == "begin":
            try:
                writer.begin(f"r{begun}", "t", f"user:{begun}", "fraud@1")
            except Undecided:
                continue
            open_ids.append(begun)
            begun += 1
        elif step == "end" and open_ids:
            number = open_ids.pop()
            writer.end(f"r{number}", an_event(number, actor=f"user:{number}").as_json())
        elif step == "tick":
            spool.reader.tick()
        elif step == "restart":
            spool.restart()
        elif step == "kill":
            writer.close()
            open_ids = []
            writer = SpoolWriter(spool.directory, "w", segment_bytes=400)
    writer.close()
    spool.reader.tick()
    actors = sorted(event.actor for event in spool.events())
    assert actors == sorted(f"user:{number}" for number in range(begun))
    assert spool.files() == []
    house.close()
