"""`garrison sign`: bare files, with a server and without one; never with a key from a file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.flows.server import Server, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("restart")]


@pytest.fixture
def bare(small_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_model, tmp_path / "fraud"))


def _key(server: Server) -> str:
    return str(server.data / "keys" / "public" / "release.pem")


@pytest.mark.row("A09", kind="R")
def test_bare_files_are_signed_through_the_server_and_verify_anywhere(server: Server, bare: Path) -> None:
    server.start()
    signed = server.ok("sign", str(bare), "--as", "fraud@3", "--owner", "dana", "--tier", "internal")
    assert signed["bundle"] == f"{bare}.sig"
    assert run(["verify", str(bare), "--as", "fraud@3", "--key", _key(server)]).status == 0
    told = server.ok("verify", str(bare), "--as", "fraud@3")
    assert told["recorded"] >= told["signed"]  # the ledger's time beside the one that the signer told
    peer = Path(sys.executable).with_name("model_signing")
    words = [str(peer), "verify", "key", str(bare), "--signature", signed["bundle"]]
    done = subprocess.run([*words, "--public_key", _key(server)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = server.cli("audit", "list", "--kind", "artifact.sign", "--model", "fraud")
    assert signed["audit_id"] in listed.out
    # Signed is not published: the registry does not know it, and other bytes of that name are refused.
    assert server.cli("model", "show", "fraud@3").code == "ART-UNKNOWN"
    (bare / "README.md").write_text("other bytes\n")
    assert server.cli("sign", str(bare), "--as", "fraud@3").code == "ART-IMMUTABLE"
    assert run(["verify", str(bare), "--as", "fraud@3", "--key", _key(server), "--json"]).code == "ART-TAMPER"
    words = ["model", "publish", str(bare), "--as", "fraud@3", "--owner", "o", "--tier", "internal"]
    assert server.cli(*words).code == "ART-IMMUTABLE"


@pytest.mark.row("A09", kind="R")
def test_without_a_server_the_signature_and_its_event_are_made_under_the_lock(
    server: Server, bare: Path, tmp_path: Path
) -> None:
    out = tmp_path / "elsewhere" / "fraud"
    out.parent.mkdir()
    signed = server.ok("sign", str(bare), "--as", "fraud@3", "--out", str(out))
    words = ["verify", str(bare), "--as", "fraud@3", "--key", _key(server)]
    assert run([*words, "--signature", f"{out}.sig", "--statement", f"{out}.release.json"]).status == 0
    assert server.cli("audit", "verify").status == 0
    shown = server.ok("audit", "show", signed["audit_id"])
    assert "no server" in json.dumps(shown)
    server.start()
    assert server.ok("sign", str(bare), "--as", "fraud@3")["digest"] == signed["digest"]
    assert server.stop() == 0


@pytest.mark.row("A10", kind="R")
def test_a_key_from_a_file_or_the_environment_does_not_sign(
    server: Server, bare: Path, tmp_path: Path
) -> None:
    key = tmp_path / "release.pem"
    subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)], check=True
    )
    for answer in (
        server.cli("sign", str(bare), "--as", "fraud@3", "--key", str(key)),
        server.cli("sign", str(bare), "--as", "fraud@3", GARRISON_SIGNING_KEY=str(key)),
        server.cli("sign", str(bare), "--as", "fraud@3", CI_DEPLOY=key.read_text()),
    ):
        assert (answer.status, answer.code) == (1, "KEY-ENV")
        assert "copied" in answer.json["error"]["message"]
        assert "BEGIN" not in answer.out + answer.err
    assert not bare.with_name("fraud.sig").exists()


def test_what_is_not_clean_is_not_signed(server: Server, bare: Path) -> None:
    (bare / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    answer = server.cli("sign", str(bare), "--as", "fraud@3")
    assert (answer.status, answer.code) == (1, "ART-SCAN")
    (bare / "pytorch_model.bin").write_bytes(b"")
    answer = server.cli("sign", str(bare), "--as", "fraud@3")
    assert (answer.status, answer.code) == (3, "ART-INCOMPLETE")
    assert not bare.with_name("fraud.sig").exists()


def test_without_a_role_nothing_is_signed_and_the_attempt_is_recorded(server: Server, bare: Path) -> None:
    answer = server.cli("--as", "mallory", "sign", str(bare), "--as", "fraud@3")
    assert (answer.status, answer.code) == (1, "RBAC-403")
    assert answer.json["error"]["audit_id"].startswith("a-")


def test_without_a_data_directory_it_says_what_to_start(bare: Path, tmp_path: Path) -> None:
    answer = run(["--data", str(tmp_path / "none"), "--json", "sign", str(bare), "--as", "fraud@3"])
    assert (answer.status, answer.code) == (3, "SRV-DOWN")
