"""Fixtures of the runtime's tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.runtime.stage import Served, SignedModel, need, sign_model

from garrison.core.event import Event
from garrison.runtime.supervisor import Supervisor, Timing


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name, which the kernel bounds at 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="grn-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory, smollm2_gguf: Path) -> SignedModel:
    directory = tmp_path_factory.mktemp("smol")
    shutil.copy(smollm2_gguf, directory / "model.gguf")
    return sign_model(directory)


@pytest.fixture(scope="session")
def embedding_model(tmp_path_factory: pytest.TempPathFactory, minilm_dir: Path) -> SignedModel:
    directory = tmp_path_factory.mktemp("minilm") / "model"
    shutil.copytree(minilm_dir, directory)
    return sign_model(directory, "minilm")


@pytest.fixture(params=["bwrap", "landlock", "runc", "gvisor"])
def level(request: pytest.FixtureRequest) -> str:
    """Each level that can be had here; the others are skipped with what is missing."""
    return need(request.param)


@pytest.fixture
def served(short_path: Path) -> Served:
    events: list[Event] = []
    supervisor = Supervisor(
        record=events.append,
        now=lambda: datetime.now(UTC),
        timing=Timing(ready=60, first_backoff=0.05, grace=1),
    )
    return Served(supervisor, events, short_path)
