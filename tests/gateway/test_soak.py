"""The soak of the gateway for a few seconds: the whole server, all kinds of clients, each request exactly one event."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[2] / "benchmarks" / "soak_gateway.py"
KINDS = {"whole", "stream", "abort", "leave", "secret", "order", "bad token", "no token", "slow", "stalled"}


@pytest.mark.row("C16", kind="R")
def test_each_request_leaves_one_event_and_none_fails_whatever_the_clients_do() -> None:
    short = ["--minutes", "0.04", "--rate", "100", "--json"]
    done = subprocess.run([sys.executable, str(SOAK), *short], capture_output=True, text=True, timeout=280)
    told = json.loads(done.stdout or "{}")
    assert done.returncode == 0, {key: told.get(key) for key in ("holds", "wrong")} or done.stderr[-2000:]
    assert told["requests"] == told["events"] > 100
    assert told["kinds"].keys() <= KINDS
    assert {"whole", "stream", "slow", "stalled"} <= told["kinds"].keys()
    assert told["samples"][-1]["uses"]["worker"]["rss"] > 0
