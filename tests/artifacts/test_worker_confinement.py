"""A scanning worker opens no file, makes no connection and starts no program once it is confined."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.vectors.artifacts import make

from garrison.app.cli.main import main
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


def test_a_template_that_cannot_be_parsed_is_said_to_be_that(tmp_path: Path) -> None:
    """The parser's errors load a module of their own, which a confined process could not."""
    (tmp_path / "chat.jinja").write_text("{% if %}{% trans %}")
    (file,) = scan_path([tmp_path]).files
    assert [finding.rule_id for finding in file.findings] == ["artifact.template.syntax"]


def test_a_worker_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ImportError: no module named jinja2' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.gguf").write_bytes(make.CLEAN["model.gguf"])
    report = scan_path([tmp_path / "models"])
    (finding,) = report.files[0].findings
    assert report.verdict is Verdict.INCOMPLETE
    assert finding.rule_id == "artifact.scanner.start"
    assert "no module named jinja2" in finding.message


OLD_KERNEL = f"""#!{sys.executable}
import ctypes, os, struct, sys
LANDLOCK_CREATE_RULESET, ENOSYS = 444, 38
rows = [(0x20, 0, 0, 0), (0x15, 0, 1, LANDLOCK_CREATE_RULESET)]
rows += [(0x06, 0, 0, 0x50000 | ENOSYS), (0x06, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("<HBBI", *row) for row in rows)
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(rows), ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, program, 0, 0) == 0
os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
"""
DEMAND = 'schema = "garrison.scan-policy/1"\nrequire-confinement = true\n'


@pytest.mark.row("A01", kind="R")
def test_what_the_kernel_cannot_take_away_is_said_and_a_policy_may_demand_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models, python = tmp_path / "models", tmp_path / "python"
    models.mkdir()
    (models / "model.gguf").write_bytes(make.CLEAN["model.gguf"])
    policy = tmp_path / "scan-policy.toml"
    policy.write_text(DEMAND)
    python.write_text(OLD_KERNEL)
    python.chmod(0o755)
    confined = scan_path([models]).unconfined
    monkeypatch.setattr(sys, "executable", str(python))
    assert main(["scan", str(models)]) == 0
    assert "read without files and network by Landlock" in capsys.readouterr().out
    assert main(["scan", str(models), "--policy", str(policy), "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert [line.split(":")[0] for line in report["unconfined"]] == ["files and network by Landlock"]
    assert report["files"][0]["findings"][0]["rule_id"] == "artifact.scanner.unconfined"
    monkeypatch.undo()
    if not confined:
        assert main(["scan", str(models), "--policy", str(policy)]) == 0


def test_a_template_where_none_was_expected_is_judged_all_the_same(tmp_path: Path) -> None:
    """A worker that starts without the reader of templates is started again with it, the file judged anew."""
    evil = make.zipped([("notes.jinja", b"{{ ''.__class__.__mro__ }}")])
    (tmp_path / "weights.bin").write_bytes(evil)
    (tmp_path / "other.bin").write_bytes(make.zipped([("notes.jinja", b"{{ messages[0]['content'] }}")]))
    files = {file.path: file for file in scan_path([tmp_path]).files}
    assert files["weights.bin"].verdict is Verdict.REFUSED
    assert files["other.bin"].verdict is Verdict.CLEAN
