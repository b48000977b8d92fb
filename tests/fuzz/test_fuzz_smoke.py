"""Every fuzz target over its seeds, its kept corpus and some hundred mutants, without a fuzzer installed."""

from __future__ import annotations

import pytest
from tests.fuzz.mutate import mutants
from tests.fuzz.targets import MAX_INPUT, targets

from garrison.artifacts.scanners import SCANNERS

MUTANTS = 150
TARGETS = targets()


def test_every_parser_has_a_target_with_seeds() -> None:
    assert {scanner.format for scanner in SCANNERS} <= set(TARGETS)


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_makes_a_parser_fail(name: str) -> None:
    target = TARGETS[name]
    for data in target.seeds:
        target.run(data)
    for data in mutants(target.seeds or (b"seed",), MUTANTS):
        target.run(data[:MAX_INPUT])
