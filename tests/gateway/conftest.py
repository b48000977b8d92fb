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
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    cache = tmp_path_factory.mktemp("patterns")
    return Inspector(cache=cache, directions=(Direction.INPUT, Direction.OUTPUT))


@pytest.fixture
def rig(inspector: Inspector, tmp_path: Path) -> Iterator[Rig]:
    plane = Rig(tmp_path / "plane", inspector).start()
    yield plane
    plane.stop()


@pytest.fixture
def make_rig(inspector: Inspector, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """A plane with other limits."""
    made: list[Rig] = []

    def make(**settings: Any) -> Rig:
        made.append(Rig(tmp_path / f"plane{len(made)}", inspector, **settings).start())
        return made[-1]

    yield make
    for plane in made:
        plane.stop()
