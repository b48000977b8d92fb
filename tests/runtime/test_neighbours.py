"""Two programs in sandboxes on one machine: neither sees, signals or starves the other."""

from __future__ import annotations

import contextlib
import json
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
from garrison.runtime.sandboxes.bare import Bare
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
VICTIM = """
import socket, time
server = socket.socket(socket.AF_UNIX)
server.bind("s.sock")
server.listen()
marker = "{marker}"
print("spinning", flush=True)
while True:
    time.sleep(60)
"""
SPY = """
import json, os, socket, time
found = []
def tried(what, act):
    try:
        act()
        found.append(what)
    except OSError:
        pass
def listed():
    for name in os.listdir("/proc"):
        if name.isdigit():
            for file in ("cmdline", "environ", "maps"):
                try:
                    with open("/proc/" + name + "/" + file, "rb") as text:
                        if b"{victim}" in text.read():
                            found.append("sees " + file + " of " + name)
                except OSError:
                    pass
tried("list of processes", listed)
for pid in {pids}:
    tried("signal " + str(pid), lambda: os.kill(pid, 0))
    tried("memory " + str(pid), lambda: open("/proc/" + str(pid) + "/mem", "rb"))
    tried("files " + str(pid), lambda: os.listdir("/proc/" + str(pid) + "/root"))
tried("its directory", lambda: os.listdir("{directory}"))
def connect():
    client = socket.socket(socket.AF_UNIX)
    client.connect("{directory}/s.sock")
tried("its socket", connect)
found = [what for what in found if what != "list of processes"]
print("spinning" + json.dumps(found), flush=True)
time.sleep(600)
"""
SECONDS = 1.5
LONGEST = 30.0
ONE_OF_TWO = 0.25  # of the time that both get; without a group of its own it would be one thread of thirty


@contextlib.contextmanager
def started(
    level: str, program: str, directory: Path, taken: list[int], limits: Limits
) -> Iterator[tuple[subprocess.Popen[bytes], bytes, Path]]:
    uid = free_uid(taken)
    taken.append(uid)
    script = directory / f"program{uid}.py"
    script.write_text(program)
    sockets = Path(tempfile.mkdtemp(dir=directory))
    os.chown(sockets, uid, uid)
    readable, writable = os.pipe()
    sandbox = Bare() if level == "none" else sandbox_for(level)
    process = sandbox.launch(Launch("neighbour", script, sockets, uid, writable, limits=limits))
    os.close(writable)
    try:
        said = os.read(readable, 4096)
        assert said.startswith(b"spinning")
        yield process, said, sockets
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
@pytest.mark.parametrize(("level", "threads"), [("bwrap", 30), ("runc", 30), ("gvisor", 8)])
def test_a_model_with_many_busy_threads_does_not_starve_its_neighbour(
    level: str, threads: int, short_path: Path
) -> None:
    need(level)
    need_groups()
    short_path.chmod(0o755)
    taken: list[int] = []
    with (
        started(level, SPIN.format(threads=1), short_path, taken, Limits()) as (modest, _, _),
        started(level, SPIN.format(threads=threads), short_path, taken, Limits()) as (greedy, _, _),
    ):
        share, until = 0.0, time.monotonic() + LONGEST
        while (
            share <= ONE_OF_TWO and time.monotonic() < until
        ):  # of a window: another suite may run beside this one
            before = used(greedy), used(modest)
            time.sleep(SECONDS)  # what is measured is time itself
            greedy_used, modest_used = used(greedy) - before[0], used(modest) - before[1]
            share = modest_used / (modest_used + greedy_used)
    assert share > ONE_OF_TWO


@pytest.mark.row("B05", kind="R")
@pytest.mark.parametrize("level", ["bwrap", "runc", "gvisor"])
def test_a_model_that_takes_all_memory_ends_and_its_neighbour_goes_on(level: str, short_path: Path) -> None:
    need(level)
    need_groups()
    short_path.chmod(0o755)
    taken: list[int] = []
    with (
        started(level, SPIN.format(threads=1), short_path, taken, Limits()) as (modest, _, _),
        started(level, GREEDY, short_path, taken, Limits(memory=300 * MIB)) as (greedy, _, _),
    ):
        assert greedy.wait(20) != 0
        assert modest.poll() is None


@pytest.mark.row("B05", kind="R")
@pytest.mark.row("B02", kind="R")
@pytest.mark.parametrize("level", ["landlock", "bwrap", "runc", "gvisor"])
def test_two_models_side_by_side_neither_see_nor_signal_nor_reach_each_other(
    level: str, short_path: Path
) -> None:
    need(level)
    if os.geteuid() != 0:
        pytest.skip("NOT PROVED HERE: an ordinary user has one user id for all servers")
    short_path.chmod(0o755)
    taken: list[int] = []
    with started(level, VICTIM.format(marker="x"), short_path, taken, Limits()) as (victim, _, directory):
        pids = sorted({*family(victim.pid), *range(2, 40)} - {victim.pid})
        spy = SPY.format(victim=f"program{taken[0]}", pids=pids, directory=directory)
        # In namespaces of its own the small numbers are its own processes and threads, or nobody's.
        with started(level, spy, short_path, taken, Limits()) as (_, said, _):
            found = json.loads(said.removeprefix(b"spinning"))
        assert victim.poll() is None
    assert found == []


def test_the_same_two_without_a_sandbox_do_all_of_that(short_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user may not enter the other's directory anyway")
    short_path.chmod(0o755)
    taken: list[int] = []
    with started("none", VICTIM.format(marker="x"), short_path, taken, Limits()) as (victim, _, directory):
        spy = SPY.format(victim=f"program{taken[0]}", pids=[victim.pid], directory=directory)
        with started("none", spy, short_path, taken, Limits()) as (_, said, _):
            found = json.loads(said.removeprefix(b"spinning"))
    wanted = {f"{what} {victim.pid}" for what in ("signal", "memory", "files")} | {
        "its socket",
        "its directory",
    }
    assert wanted <= set(found)
