"""One server with one real model, started once for the flow tests that only ask things of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flows.server import Server


@pytest.fixture(scope="session")
def model_directory(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "smollm2"
    directory.mkdir()
    shutil.copyfile(smollm2_gguf, directory / smollm2_gguf.name)
    (directory / "README.md").write_text("A small language model.\n")
    (directory / ".gitattributes").write_text("*.gguf filter=lfs\n")
    return directory


@pytest.fixture(scope="session")
def serving(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """smollm2@1 published by root, approved by dana, serving."""
    server = Server(tmp_path_factory.mktemp("serving") / "data").start()
    server.ok("user", "add", "dana", "--role", "approver")
    server.publish(model_directory, "smollm2@1")
    server.ok("--as", "dana", "approve", "smollm2@1")
    server.ok("serve", "smollm2@1")
    yield server
    assert server.stop() == 0
