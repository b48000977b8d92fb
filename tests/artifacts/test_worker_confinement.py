"""A scanning worker opens no file, makes no connection and starts no program once it is confined."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.vectors.artifacts import make

from garrison.artifacts.scan import scan_path
from garrison.artifacts.worker_pool import Worker
from garrison.core.finding import Verdict

TRIES = """
import json, os, socket, subprocess, sys, tempfile
from garrison.confine.process import confine
scratch, outside = sys.argv[1:]
tempfile.tempdir = scratch
held = open(outside)
missing = confine(scratch)
def tried(step):
    try:
        step()
        return "done"
    except OSError as error:
        return "refused"
def scratch_file():
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
print(json.dumps({
    "missing": missing,
    "held": held.read(),
    "scratch": tried(scratch_file),
    "read": tried(lambda: open(outside)),
    "etc": tried(lambda: open("/etc/hostname")),
    "list": tried(lambda: os.listdir("/")),
    "write": tried(lambda: open(outside, "a")),
    "make": tried(lambda: open(outside + ".new", "w")),
    "network": tried(lambda: socket.create_connection(("127.0.0.1", 9), 1)),
    "socket": tried(lambda: socket.socket(socket.AF_INET)),
    "program": tried(lambda: subprocess.run(["/bin/true"], check=True)),
    "fork": tried(os.fork),
    "signal": tried(lambda: os.kill(os.getppid(), 0)),
}))
"""


@pytest.mark.row("A01", kind="R")
def test_a_confined_process_reaches_nothing_but_its_scratch_folder(tmp_path: Path) -> None:
    scratch, outside = tmp_path / "scratch", tmp_path / "outside.txt"
    scratch.mkdir()
    outside.write_text("already open")
    argv = [sys.executable, "-I", "-c", TRIES, str(scratch), str(outside)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    if seen.pop("missing"):
        pytest.skip("this kernel has no Landlock or no seccomp")
    assert (seen.pop("held"), seen.pop("scratch")) == ("already open", "done")
    assert set(seen.values()) == {"refused"}, seen


def test_every_kind_of_file_is_judged_the_same_inside(tmp_path: Path) -> None:
    """Nothing that a scanner needs is loaded too late, unpacking to disk included."""
    for group, files in (("clean", make.CLEAN), ("refused", make.REFUSED), ("incomplete", make.INCOMPLETE)):
        for name, data in files.items():
            path = tmp_path / group / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    big = make.zipped([("café.bin", bytes(40 << 20))], packed=True)
    (tmp_path / "clean" / "big.zip").write_bytes(big)
    wrong = {}
    for group in ("clean", "refused", "incomplete"):
        for file in scan_path([tmp_path / group]).files:
            failed = any(finding.rule_id == "artifact.scanner.failed" for finding in file.findings)
            if failed or (file.verdict.value != group and file.path not in ("big.zip", "weights.bin")):
                wrong[f"{group}/{file.path}"] = file.verdict.value
    assert wrong == {}


def test_a_worker_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    worker = Worker()
    source = tmp_path / "model.gguf"
    source.write_bytes(make.CLEAN["model.gguf"])
    with source.open("rb") as file:
        worker.send("model.gguf", file.fileno(), source.stat().st_size)
        assert worker.receive().verdict is Verdict.CLEAN
    assert len(list(tmp_path.iterdir())) == 2
    worker.close()
    assert list(tmp_path.iterdir()) == [source]
