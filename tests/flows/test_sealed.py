"""A real server whose store is sealed: published, served, asked and pulled, with nothing plain on its disk."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.flows.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("serving")]

MARKER = b"a sentence that stands in this README and nowhere else on this machine"


@pytest.mark.row("A14", kind="R")
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
        assert server.stop() == 0
    finally:
        server.kill()


def _holding(data: Path, needles: list[bytes]) -> list[Path]:
    """Every file of the data directory in which one of these bytes stands."""
    found = []
    for path in data.rglob("*"):
        if path.is_file() and not path.is_symlink():
            held = path.read_bytes()
            found += [path for needle in needles if needle in held]
    return found
