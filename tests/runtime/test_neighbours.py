"""Two programs in sandboxes on one machine: neither sees, signals or starves the other."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime.stage import need

from garrison.runtime.running import family, innermost
from garrison.runtime.sandboxes import cgroup
from garrison.runtime.sandboxes.base import MIB, Launch, Limits
from garrison.runtime.sandboxes.ladder import sandbox_for
from garrison.runtime.sandboxes.users import free_uid

SPIN = """
import hashlib, threading, time
data = bytes(1 << 20)
def spin():
    while True:
        hashlib.sha256(data)
for _ in range({threads} - 1):
    threading.Thread(target=spin, daemon=True).start()
print("spinning", flush=True)
spin()
"""
GREEDY = """
import mmap, os
print("spinning", flush=True)
held = []
while True:
    held.append(mmap.mmap(-1, 1 << 20))
    held[-1].write(bytes(1 << 20))
"""
SECONDS = 1.5
ONE_OF_TWO = 0.25  # of the time that both get; without a group of its own it would be one thread of thirty


@contextlib.contextmanager
def started(
    level: str, program: str, directory: Path, taken: list[int], limits: Limits
) -> Iterator[subprocess.Popen[bytes]]:
    uid = free_uid(taken)
    taken.append(uid)
    script = directory / f"program{uid}.py"
    script.write_text(program)
    sockets = Path(tempfile.mkdtemp(dir=directory))
    os.chown(sockets, uid, uid)
    readable, writable = os.pipe()
    process = sandbox_for(level).launch(Launch("neighbour", script, sockets, uid, writable, limits=limits))
    os.close(writable)
    try:
        assert os.read(readable, 100).startswith(b"spinning")
        yield process
    finally:
        if process.poll() is None:
            os.kill(innermost(process.pid), 9)
        process.wait(10)
        os.close(readable)


def used(process: subprocess.Popen[bytes]) -> int:
    total = 0
    for pid in family(process.pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total


def need_groups() -> None:
    if os.geteuid() != 0 or cgroup.hierarchy() is None:
        pytest.skip("NOT PROVED HERE: cgroups cannot be written, so processor time is not bounded")


@pytest.mark.row("B05", kind="R")
@pytest.mark.parametrize("level", ["bwrap", "runc"])
def test_a_model_with_thirty_busy_threads_does_not_starve_its_neighbour(level: str, short_path: Path) -> None:
    need(level)
    need_groups()
    short_path.chmod(0o755)
    taken: list[int] = []
    with (
        started(level, SPIN.format(threads=30), short_path, taken, Limits()) as greedy,
        started(level, SPIN.format(threads=1), short_path, taken, Limits()) as modest,
    ):
        before = used(greedy), used(modest)
        time.sleep(SECONDS)  # what is measured is time itself
        greedy_used, modest_used = used(greedy) - before[0], used(modest) - before[1]
    assert modest_used / (modest_used + greedy_used) > ONE_OF_TWO, (modest_used, greedy_used)


@pytest.mark.row("B05", kind="R")
@pytest.mark.parametrize("level", ["bwrap", "runc", "gvisor"])
def test_a_model_that_takes_all_memory_ends_and_its_neighbour_goes_on(level: str, short_path: Path) -> None:
    need(level)
    need_groups()
    short_path.chmod(0o755)
    taken: list[int] = []
    with (
        started(level, SPIN.format(threads=1), short_path, taken, Limits()) as modest,
        started(level, GREEDY, short_path, taken, Limits(memory=300 * MIB)) as greedy,
    ):
        assert greedy.wait(20) != 0
        assert modest.poll() is None
