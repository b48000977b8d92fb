"""A command that scans forks its workers: as confined as new interpreters, with nothing of the command's own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.vectors.artifacts import make

from garrison.artifacts.scan import Options, scan_path

LOOK = """
import json, os, signal, socket, sys, threading
from garrison.artifacts.worker_pool import Worker

def children():
    return [int(each) for each in open(f"/proc/self/task/{os.getpid()}/children").read().split()]

def status(pid):
    lines = open(f"/proc/{pid}/status").read().splitlines()
    return dict(line.split(":\\t") for line in lines if ":\\t" in line)

path = sys.argv[1]
held, pair = open(path), socket.socketpair()
print("once", end=" ")
signal.signal(signal.SIGTERM, lambda *_: None)
worker = Worker(fork=True)
def judged():
    file = os.open(path, os.O_RDONLY)
    worker.send("model.gguf", file, os.fstat(file).st_size)
    os.close(file)
    return worker.receive().verdict
seen = {"first": judged()}
pid, = children()
folder = f"/proc/{pid}"
seen["descriptors"] = {name: os.readlink(f"{folder}/fd/{name}").split(":")[0] for name in os.listdir(f"{folder}/fd")}
seen["command"] = open(f"{folder}/cmdline").read() == open("/proc/self/cmdline").read()
seen["cwd"] = os.readlink(f"{folder}/cwd")
found = status(pid)
seen["confined"] = (found["NoNewPrivs"], found["Seccomp"]) if not worker.missing else ("1", "2")
seen["blocked"] = int(found["SigBlk"], 16)
seen["ignores interrupts"] = bool(int(found["SigIgn"], 16) >> signal.SIGINT - 1 & 1)
seen["catches"] = int(found["SigCgt"], 16) >> signal.SIGTERM - 1 & 1
os.kill(pid, signal.SIGSEGV)
while status(pid)["State"][0] != "Z":
    pass
seen["again"] = judged()
stop = threading.Event()
threading.Thread(target=stop.wait).start()
os.kill(children()[0], signal.SIGKILL)
while status(children()[0])["State"][0] != "Z":
    pass
seen["with a thread"] = judged()
stop.set()
seen["new interpreter"] = "scanners.worker" in open(f"/proc/{children()[0]}/cmdline").read()
worker.close()
seen["left"] = children()
print(json.dumps(seen))
"""


def in_a_process(program: str, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True, timeout=120
    )
    once, _, found = done.stdout.partition(" ")
    assert (once, done.stderr) == ("once", "")
    result: dict[str, Any] = json.loads(found)
    return result


@pytest.mark.row("A01", kind="R")
def test_a_forked_worker_has_its_channel_alone_and_is_confined(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(make.CLEAN["model.gguf"])
    assert in_a_process(LOOK, str(tmp_path / "model.gguf")) == {
        "first": "clean",
        "descriptors": {"0": "/dev/null", "1": "/dev/null", "2": "/dev/null", "3": "socket"},
        "command": True,
        "cwd": "/",
        "confined": ["1", "2"],
        "blocked": 0,
        "ignores interrupts": True,
        "catches": 0,
        "again": "clean",
        "with a thread": "clean",
        "new interpreter": True,
        "left": [],
    }


SCAN = """
import json, sys
from garrison.artifacts.scan import Options, scan_path
from garrison.artifacts.worker_pool import Limits
jobs, keep, seconds = json.loads(sys.argv[2])
options = Options(jobs=jobs, keep=keep, fork=True, limits=Limits(seconds=seconds))
report = scan_path([sys.argv[1]], options=options)
print("once", json.dumps({file.path: [file.verdict, len(file.kept) > 0] for file in report.files}))
"""


def test_every_kind_of_file_is_judged_the_same_by_a_fork(tmp_path: Path) -> None:
    for files in (make.CLEAN, make.REFUSED, make.INCOMPLETE):
        for name, data in files.items():
            path = tmp_path / "models" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    expected = {
        file.path: [file.verdict.value, len(file.kept) > 0]
        for file in scan_path([tmp_path / "models"], options=Options(keep=True)).files
    }
    for jobs in (1, 3):
        assert in_a_process(SCAN, str(tmp_path / "models"), json.dumps([jobs, True, 30])) == expected


@pytest.mark.row("A01", kind="R")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_hostile_file_costs_a_fork_and_one_incomplete(tmp_path: Path, jobs: int) -> None:
    """One that takes too long, and one that takes too much memory."""
    for number in range(48):
        (tmp_path / f"{number:02}.gguf").write_bytes(make.CLEAN["model.gguf"])
    (tmp_path / "10.gguf").write_bytes(b"\x80\x04]" + b"K\x01a" * 4_900_000 + b".")
    (tmp_path / "20.gguf").write_bytes(b"[" + b"{}," * 20_000_000 + b"1]")
    found = in_a_process(SCAN, str(tmp_path), json.dumps([jobs, False, 1.0]))
    assert {name: verdict for name, (verdict, _) in found.items() if verdict != "clean"} == {
        "10.gguf": "incomplete",
        "20.gguf": "incomplete",
    }


def test_an_interrupted_command_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    slow, scratch = tmp_path / "slow.pkl", tmp_path / "scratch"
    slow.write_bytes(b"\x80\x04]" + b"K\x01a" * 30_000_000 + b".")
    scratch.mkdir()
    command = subprocess.Popen(
        [sys.executable, "-m", "garrison.app.cli.main", "scan", str(slow)],
        env=os.environ | {"TMPDIR": str(scratch)},
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    while not list(scratch.iterdir()):
        assert command.poll() is None
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    while not (found := children.read_text().split()):
        assert command.poll() is None
    worker = os.pidfd_open(int(found[0]))
    os.killpg(command.pid, signal.SIGINT)
    assert command.communicate(timeout=60)[0] == b""
    assert command.returncode == 130
    ended, _, _ = select.select([worker], [], [], 60)  # at once, or when it reads the end of its channel
    os.close(worker)
    assert ended
    assert list(scratch.iterdir()) == []
