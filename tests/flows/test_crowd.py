"""Many commands at once: they wait for each other, never for ever."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.flows.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("serving")]

CROWD = min(32, (os.cpu_count() or 1) + 4) + 2  # more than asyncio's own pool has threads


def test_a_crowd_of_deployments_leaves_threads_for_the_model_server(serving: Server) -> None:
    serving.ok("deploy", "stop", "smollm2")
    pool = ThreadPoolExecutor(CROWD)
    try:
        asked = [pool.submit(serving.ask, "deploy.apply", ref="smollm2@1") for _ in range(CROWD)]
        assert {each.result(timeout=100)["version"] for each in asked} == {1}
    finally:
        pool.shutdown(wait=False)
    states = {each["name"]: each["state"] for each in serving.ok("deploy", "status")["deployments"]}
    assert states["smollm2"] == "ready"
