"""Data directories and servers for the flow tests; the ones that cost seconds are made once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
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
def small_model(minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean directory of a few hundred kilobytes that can be published but not served."""
    directory = tmp_path_factory.mktemp("small") / "small"
    directory.mkdir()
    for name in ("config.json", "vocab.txt", "special_tokens_map.json"):
        if (minilm_dir / name).exists():
            shutil.copyfile(minilm_dir / name, directory / name)
    return directory


@pytest.fixture(scope="session")
def template(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that was used and stopped: base@1 approved by dana, keys and patterns made."""
    server = Server(tmp_path_factory.mktemp("template") / "data").start()
    try:
        server.ok("user", "add", "dana", "--role", "approver")
        server.publish(small_model, "base@1")
        server.ok("--as", "dana", "approve", "base@1")
        assert server.stop() == 0
    finally:
        server.kill()
    return server.data


@pytest.fixture
def copied(template: Path, tmp_path: Path) -> Callable[[Path | None], Path]:
    """Makes copies of the template, with its links, times and rights."""

    def copy(place: Path | None = None) -> Path:
        place = place or tmp_path / "data"
        subprocess.run(["cp", "-a", f"{template}/.", str(place)], check=True)
        return place

    return copy


@pytest.fixture
def server(copied: Callable[[Path | None], Path]) -> Iterator[Server]:
    """A server on a copy of the template, not started; whatever the test does, it ends with the test."""
    made = Server(copied(None))
    yield made
    made.kill()


@pytest.fixture(scope="session")
def serving(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """smollm2@1 published by root, approved by dana, serving."""
    server = Server(tmp_path_factory.mktemp("serving") / "data").start()
    try:
        server.ok("user", "add", "dana", "--role", "approver")
        server.publish(model_directory, "smollm2@1")
        server.ok("--as", "dana", "approve", "smollm2@1")
        server.ok("serve", "smollm2@1")
        yield server
        assert server.stop() == 0
    finally:
        server.kill()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts something for the length of a test. Skips, loudly, where this user may not mount."""
    if os.geteuid() != 0:
        pytest.skip("NOT PROVED HERE: full and read-only disks need root, to mount them")
    places: list[Path] = []

    def mount(*words: str, at: Path) -> Path:
        at.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *words, str(at)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"NOT PROVED HERE: mount failed: {done.stderr.strip()}")
        places.append(at)
        return at

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", "--lazy", str(place)], check=False)
