"""Verifying and loading while another process rewrites, renames, truncates and links: never a wrong byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flows.races import race

TRIES = 1000


@pytest.mark.row("A08", kind="R")
def test_a_thousand_loads_beside_a_racing_process_never_hold_a_wrong_byte(tmp_path: Path) -> None:
    outcomes = race(tmp_path, TRIES, seed=8)
    assert outcomes.total() == TRIES
    assert outcomes["loaded"] >= TRIES // 50, f"the race was lost too often to prove much: {outcomes}"
    assert outcomes.total() - outcomes["loaded"] >= TRIES // 10, f"hardly a load met the race: {outcomes}"
