"""A house of its own for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.household import Household, opened


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Household]:
    with opened(tmp_path / "data") as household:
        yield household


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A clean directory of one small file."""
    directory = tmp_path / "plain"
    directory.mkdir()
    (directory / "config.json").write_text('{"hidden_size": 8}')
    return directory
