"""One house and one trained model for a file of tests; each test publishes under a name of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.household import Household, opened
from tests.artifacts.trained import Trained, train


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    with opened(tmp_path_factory.mktemp("house") / "data") as household:
        yield household


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("training") / "fraud")


@pytest.fixture(scope="module")
def published(home: Household, trained: Trained) -> Path:
    """The directory of versions of a model called fraud, published with its whole lineage as fraud@1."""
    home.publish(trained.model, "fraud@1", lineage=str(trained.lineage))
    return home.house.settings.data / "models" / "fraud"
