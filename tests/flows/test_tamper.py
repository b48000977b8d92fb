"""One changed byte anywhere in a real model is found and its file is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.flows.flips import flip
from tests.flows.server import Server

from garrison.core.errors import Refused

TRIES = 1000


@pytest.mark.row("A05", kind="R")
def test_a_thousand_flipped_bytes_of_a_real_model_are_a_thousand_refusals(
    minilm_dir: Path, tmp_path: Path
) -> None:
    answers = flip(minilm_dir, tmp_path, TRIES, seed=5, whole=False)
    assert answers == {"named": TRIES}


@pytest.mark.row("A05", kind="R")
def test_flipped_bytes_are_found_by_verifying_the_directory_as_a_user_does(
    minilm_dir: Path, tmp_path: Path
) -> None:
    assert flip(minilm_dir, tmp_path, 20, seed=6, whole=True) == {"named": 20}


@pytest.mark.row("S01", kind="R")
@pytest.mark.row("A05", kind="R")
def test_a_byte_changed_at_rest_is_found_although_the_files_were_recognised_before(
    server: Server, small_model: Path
) -> None:
    server.start()
    server.publish(small_model, "rest@1")
    first = server.ask("model.verify", ref="rest@1")
    entries = sorted((server.data / "hashes").glob("??/*"))
    assert len(entries) == len(list(small_model.iterdir()))
    assert (server.data / "hashes").stat().st_mode & 0o777 == 0o700
    assert server.ask("model.verify", ref="rest@1")["digest"] == first["digest"]
    stored = server.data / "models" / "rest" / "1" / "vocab.txt"
    status = stored.stat()
    stored.chmod(0o644)
    with stored.open("r+b") as stream:
        stream.seek(100)
        stream.write(b"!")
    stored.chmod(0o444)
    os.utime(stored, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(Refused) as caught:
        server.ask("model.verify", ref="rest@1")
    assert caught.value.code == "ART-TAMPER"
    assert "vocab.txt" in caught.value.what
    assert server.stop() == 0
