"""One compiled inspector for the room: compiling takes most of a second."""

from __future__ import annotations

import pytest

from garrison.detect.inspect import Inspector
from garrison.detect.rulepack import Rule, built_in_rules


@pytest.fixture(scope="session")
def inspector() -> Inspector:
    return Inspector()


@pytest.fixture(scope="session")
def rules() -> tuple[Rule, ...]:
    return built_in_rules()
