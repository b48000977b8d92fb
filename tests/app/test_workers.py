"""The keeper of gateway workers when it cannot start one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from garrison.app.workers import Plane, Workers
from garrison.core.errors import GarrisonError, Undecided


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
