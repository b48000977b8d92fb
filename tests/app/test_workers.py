"""The keeper of gateway workers when it cannot start one."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest
from tests.gateway.rig import Rig

from garrison.app.workers import Plane, Workers
from garrison.core.errors import GarrisonError, Undecided
from garrison.detect.inspect import Inspector
from garrison.trust.ca import open_authority


def _free() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_worker_that_cannot_be_given_a_certificate_costs_no_descriptor(tmp_path: Path) -> None:
    def tls() -> bytes:
        raise Undecided("KEY-UNAVAILABLE", "the token is away", fix="bring it back")

    plane = Plane("127.0.0.1", 0, tmp_path / "no", "", tmp_path, tmp_path, 1, 0, tls)

    async def story() -> int:
        workers = Workers(plane, lambda _name, _status: None)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(GarrisonError):
                await workers.start()
        return len(os.listdir("/proc/self/fd")) - before

    assert asyncio.run(story()) == 0


def test_a_worker_that_is_killed_is_replaced_and_costs_only_its_own_requests(
    tmp_path: Path,
) -> None:
    """The other one answers meanwhile; the best of two replacements is there within a second."""
    rig = Rig(tmp_path / "plane", Inspector(cache=tmp_path)).start()
    authority = open_authority(rig.token_key, tmp_path / "ca.pem")

    def tls() -> bytes:
        leaf = authority.issue_server(["127.0.0.1"], hours=1)
        return leaf.chain + leaf.key

    pem = rig.snapshot_key.public_pem().decode()
    (tmp_path / "spool").mkdir()
    plane = Plane("127.0.0.1", _free(), rig.snapshot_path, pem, tmp_path / "spool", tmp_path, 2, 0, tls)

    async def story() -> list[float]:
        died: list[int] = []
        workers = Workers(plane, lambda _name, status: died.append(status))
        await workers.start()
        took = []
        for _ in range(2):
            victim = workers._workers[0]
            victim.started -= 60  # as one that has served for a while
            victim.process.kill()
            began = time.monotonic()
            while workers._workers[0] is victim:
                await asyncio.sleep(0.005)
                assert workers._workers[1].process.returncode is None
            took.append(time.monotonic() - began)
        await workers.stop()
        assert died == [-9, -9]
        return took

    try:
        took = asyncio.run(asyncio.wait_for(story(), 60))
    finally:
        rig.stop()
    print(f"replaced after {min(took):.2f} s")
    assert min(took) < 1.5  # 0.75 s beside four other jobs
