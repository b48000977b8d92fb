"""Events leave a real server, which is killed while it sends them; its figures are on one page."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.app.household import opened
from tests.fakes.rsyslog import Rsyslog
from tests.flows.server import Server

from garrison.core.actions import Action
from garrison.core.event import Event, Outcome
from garrison.trust.ca import open_authority
from garrison.trust.keys.file import FileSigner

WAIT = 120.0  # an upper bound for what takes seconds
EVENTS = 10_000


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def fill(data: Path) -> None:
    now = datetime.now(UTC)
    with opened(data) as home:
        home.house.ledger.append_many(
            [
                Event(
                    now, Action.MODEL_INVOKE, "user:dana", "fraud@1", Outcome.ALLOWED, data={"number": number}
                )
                for number in range(EVENTS)
            ]
        )


@pytest.mark.row("C23", kind="R")
@pytest.mark.row("C17", kind="R")
def test_a_server_that_is_killed_while_it_sends_loses_no_event(server: Server, tmp_path: Path) -> None:
    authority = open_authority(FileSigner("ca"), tmp_path / "sink-ca.pem")
    issued = authority.issue_server(["127.0.0.1"], hours=1)
    (tmp_path / "chain.pem").write_bytes(issued.chain)
    (tmp_path / "key.pem").write_bytes(issued.key)
    rsyslog = Rsyslog(
        tmp_path / "rsyslog", tmp_path / "sink-ca.pem", tmp_path / "chain.pem", tmp_path / "key.pem"
    ).start()
    try:
        fill(server.data)
        server.start()
        ca = str(tmp_path / "sink-ca.pem")
        server.ok("sink", "add", "siem", rsyslog.url, "--ca", ca, "--from-start")
        until(lambda: rsyslog.text().count("\n") >= 1)
        server.kill()
        server.start()
        until(lambda: server.ok("sink", "list")["sinks"][0]["waiting"] == 0)
        page = urllib.request.urlopen(server.ready["metrics"], timeout=WAIT).read().decode()
        exported = server.cli("audit", "export").out.splitlines()
        leaves = {json.loads(line)["leaf"] for line in exported}
        until(lambda: leaves <= set(rsyslog.uids()))
    finally:
        rsyslog.kill()
    points = server.cli("posture", "--edge").json["points"]
    assert [one["instrumented"] for one in points] == [False, False, False], "nobody has asked yet"
    assert len(leaves) >= EVENTS
    assert 'garrison_sink_waiting{sink="siem"} ' in page
    assert "garrison_gateway_workers 1" in page
    assert 'garrison_gateway_stage_duration_seconds_count{stage="ingress",worker="0"} ' in page
