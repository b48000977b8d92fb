"""The disk that the audit spool lies on: what cannot be recorded is not asked, and not answered."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.gateway.rig import Rig, chat


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB where the spool will be."""
    if os.geteuid() != 0:
        pytest.skip("NOT PROVED HERE: a disk of its own needs root, to mount it")
    spool = tmp_path / "plane0" / "spool"
    spool.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(spool)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NOT PROVED HERE: mount failed: {done.stderr.strip()}")
    yield spool
    subprocess.run(["umount", "--lazy", str(spool)], check=False)


def fill(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):  # at the end there is no room for another
        while True:
            os.write(descriptor, b"x" * 512)
    os.close(descriptor)
    assert os.statvfs(path).f_bavail == 0


@pytest.mark.row("C16", kind="R")
@pytest.mark.parametrize("stream", [False, True])
def test_a_full_audit_disk_stops_requests_before_the_model_and_lets_them_go_on_when_it_has_room(
    disk: Path, make_rig: Callable[..., Rig], stream: bool
) -> None:
    rig = make_rig()
    assert rig.ask(chat(stream=stream)).status == 200
    asked = len(rig.upstream.asked)
    filler = disk / "filler"
    fill(filler)
    # What is left of the last page takes a few lines; then nothing is recorded, and so nothing is asked.
    answers = [rig.ask(chat(stream=stream)) for _ in range(40)]
    refused = [answer for answer in answers if answer.status != 200]
    assert refused
    assert {(answer.status, answer.code) for answer in refused} == {(503, "DISK-FULL")}
    begun = [line["id"] for line in rig.lines() if line["k"] == "b"]
    assert len(rig.upstream.asked) <= len(begun)
    assert len(rig.upstream.asked) - asked < len(answers)
    assert b"hello" not in b"".join(answer.body for answer in refused)
    filler.unlink()
    assert rig.ask(chat(stream=stream)).status == 200
