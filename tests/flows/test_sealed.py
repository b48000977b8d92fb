"""A real server whose store is sealed: published, served, asked and pulled, with nothing plain on its disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.flows.server import Server
from tests.flows.test_bad_input import assert_a_sentence

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("serving")]

MARKER = b"a sentence that stands in this README and nowhere else on this machine"


@pytest.mark.row("A14", kind="R")
@pytest.mark.row("A25", kind="R")
def test_a_model_is_served_from_a_sealed_store_and_no_plain_byte_touches_its_disk(
    model_directory: Path, tmp_path: Path
) -> None:
    server = Server(tmp_path / "data")
    server.data.mkdir(mode=0o700)
    (server.data / "garrison.toml").write_text('store_encryption = "aes-256-gcm"\n')
    model = tmp_path / "model"
    subprocess.run(["cp", "-r", str(model_directory), str(model)], check=True)
    (model / "README.md").write_bytes(MARKER)
    weights = next(model.glob("*.gguf")).read_bytes()
    needles = [MARKER, weights[len(weights) // 2 :][:64], weights[-64:]]
    try:
        server.start()
        server.ok("user", "add", "dana", "--role", "approver")
        server.ok("user", "add", "ml-team", "--role", "publisher")
        server.publish(model, "smollm2@1")
        server.ok("--as", "dana", "approve", "smollm2@1")
        assert server.ok("serve", "smollm2@1")["memory"] == "sealed memory"
        assert server.cli("ask", "smollm2", "What is the capital of France?", "--max-tokens", "8").status == 0
        server.ok("model", "pull", "smollm2@1", str(tmp_path / "elsewhere"))
        server.ok("store", "verify")
        assert _holding(server.data, needles) == []
        server.kill()
        assert _holding(server.data, needles) == []
        server.start()
        assert _holding(server.data, needles) == []
        assert server.ok("deploy", "status")["deployments"][0]["state"] == "ready"
        assert (tmp_path / "elsewhere" / "README.md").read_bytes() == MARKER
        _stolen_while_it_serves(server, model)
        assert _holding(server.data, needles) == []
        assert server.stop() == 0
    finally:
        server.kill()


def _stolen_while_it_serves(server: Server, model: Path) -> None:
    """The release key is stolen: what serves is stopped at once, and serves again after a second look."""
    answer = server.ok("key", "revoke", "release", "--reason", "compromise")
    assert (answer["stopped"], answer["not_stopped"]) == (["smollm2@1"], [])
    assert [row["ref"] for row in answer["affected"]] == ["smollm2@1"]
    assert server.cli("ask", "smollm2", "Still there?", "--max-tokens", "4").status == 2
    refused = server.cli("serve", "smollm2@1")
    assert (refused.status, "KEY-REVOKED" in refused.out) == (1, True)
    server.ok("user", "add", "alex", "--role", "admin")
    server.ok("--as", "alex", "model", "resign", "smollm2@1", "--from", str(model))
    server.ok("--as", "dana", "approve", "smollm2@1")
    server.ok("serve", "smollm2@1")
    assert server.cli("ask", "smollm2", "And now?", "--max-tokens", "4").status == 0


def _holding(data: Path, needles: list[bytes]) -> list[Path]:
    """Every file of the data directory in which one of these bytes stands."""
    found = []
    for path in data.rglob("*"):
        if path.is_file() and not path.is_symlink():
            held = path.read_bytes()
            found += [path for needle in needles if needle in held]
    return found


@pytest.mark.row("S18", kind="R")
def test_a_full_disk_under_a_sealed_store_changes_nothing_wherever_it_fills_up(
    mounted: Callable[..., Path], tmp_path: Path
) -> None:
    disk = mounted("-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", at=tmp_path / "disk")
    server = Server(disk / "data")
    server.data.mkdir(mode=0o700)
    (server.data / "garrison.toml").write_text('store_encryption = "aes-256-gcm"\n')
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "vocab.txt").write_text("word\n" * 600_000)
    try:
        server.start()
        server.ok("user", "add", "ml-team", "--role", "publisher")
        for room in (0, 64, 1000, 2000, 2900):  # KiB left, of the 3,000 that the model takes
            with (disk / "filler").open("wb", buffering=0) as file:
                left = os.statvfs(disk)
                os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize - room * 1024)
            words = ("--as", "m@1", "--owner", "ml-team", "--tier", "internal")
            answer = server.cli("model", "publish", str(model), *words)
            (disk / "filler").unlink()
            assert_a_sentence(answer, 3, "DISK-FULL")
            assert server.ok("model", "list")["models"] == []
            assert list((server.data / "objects" / "incoming").iterdir()) == []
            assert [path for path in (server.data / "objects").rglob("*") if path.is_file()] == []
        server.publish(model, "m@1")
        assert server.ok("store", "verify")["versions"] == ["m@1"]
        assert server.stop() == 0
    finally:
        server.kill()
