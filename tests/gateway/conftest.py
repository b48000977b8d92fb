"""One compiled inspector for all gateway tests, and planes that are started when a test needs one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.rig import Rig

from garrison.detect.base import Direction
from garrison.detect.inspect import Inspector


@pytest.fixture(scope="session")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled patterns are kept, so that workers do not compile them again."""
    return tmp_path_factory.mktemp("patterns")


@pytest.fixture(scope="session")
def inspector(patterns: Path) -> Inspector:
    return Inspector(cache=patterns, directions=(Direction.INPUT, Direction.OUTPUT))


@pytest.fixture
def rig(inspector: Inspector, patterns: Path, tmp_path: Path) -> Iterator[Rig]:
    plane = Rig(tmp_path / "plane", inspector, patterns=patterns).start()
    yield plane
    plane.stop()


@pytest.fixture
def make_rig(inspector: Inspector, patterns: Path, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """A plane with other limits."""
    made: list[Rig] = []

    def make(**settings: Any) -> Rig:
        made.append(Rig(tmp_path / f"plane{len(made)}", inspector, patterns=patterns, **settings).start())
        return made[-1]

    yield make
    for plane in made:
        plane.stop()
