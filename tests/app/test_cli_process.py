"""The command as a process: what it imports, what it says when something is missing, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GARRISON = (sys.executable, "-I", "-m", "garrison.app.cli.main")
EXTRAS = {
    re.split(r"[<>=]", requirement)[0]: extra
    for extra in ("server", "runtime")
    for requirement in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ][extra]
}
# Runs a command where the modules of every extra do not exist, and tells which modules it imported.
CORE_ONLY = """
import importlib.abc, sys
class OnlyTheCore(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{fullname!r}}", name=fullname)
sys.meta_path.insert(0, OnlyTheCore())
from garrison.app.cli.main import main
status = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(status)
"""


def _core_only(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = CORE_ONLY.format(missing=sorted(EXTRAS))
    return subprocess.run(
        [sys.executable, "-I", "-c", code, *words], capture_output=True, text=True, check=False, cwd=cwd
    )


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--help",), 0),
        (("scan", "notes.txt"), 0),
        (("explain", "ART-TAMPER"), 0),
        (("verify", "model"), 3),  # nothing to judge it by
        (("model", "list"), 3),  # no server
        (("sign", "--help"), 0),
        (("doctor", "--help"), 0),
        (("completion", "bash"), 0),
        (("ask", "fraud", "hello", "--server", "https://127.0.0.1:1"), 3),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_the_core_install_is_enough_for(words: tuple[str, ...], status: int, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    result = _core_only(*words, cwd=tmp_path)
    assert result.returncode == status, result.stdout + result.stderr
    assert "SRV-EXTRA" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("audit", "verify"), "server"),
        (("posture",), "server"),
        (("inspect",), "server"),
        (("up",), "server"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_a_command_without_its_extra_says_which_to_install(
    words: tuple[str, ...], extra: str, tmp_path: Path
) -> None:
    result = _core_only(*words, "--json", cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "SRV-EXTRA"
    assert error["next"] == f"pip install 'garrison[{extra}]'"


@pytest.mark.parametrize("words", [("explain", "ART-TAMPER"), ("scan", "notes.txt"), ("model", "list")])
def test_a_small_command_imports_little(words: tuple[str, ...], tmp_path: Path) -> None:
    """Starting takes about 0.05 s of CPU like this, and 0.4 s with every room imported."""
    (tmp_path / "notes.txt").write_text("nothing to see\n")
    modules = set(_core_only(*words, cwd=tmp_path).stderr.split())
    heavy = {"sqlalchemy", "starlette", "hyperscan", "pkcs11", "numpy", "asyncio", "garrison.runtime"}
    assert "argparse" in modules
    assert modules & heavy == set()


def test_a_closed_pipe_is_quiet_and_not_a_yes() -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([*GARRISON, "explain"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert result.stderr == b""
    assert result.returncode == 141


def test_a_full_disk_behind_the_output_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*GARRISON, "explain"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 3
    assert result.stderr.startswith("UNDECIDED  DISK-FULL")
    assert "Exception ignored" not in result.stderr


def test_a_closed_standard_output_is_no_defect() -> None:
    result = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *GARRISON, "explain", "ART-TAMPER"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in result.stderr
    assert "INTERNAL" not in result.stderr


def test_an_interrupt_is_quiet(tmp_path: Path) -> None:
    """`inspect` waits for its input; the first answer shows that it runs."""
    process = subprocess.Popen(
        [*GARRISON, "inspect", "--jsonl"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"id": "1", "text": "hello"}\n')
    process.stdin.flush()
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert said == b""
    assert process.returncode == 130


def test_names_in_another_encoding_do_not_break_the_output(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("text\n")
    environment = {"PYTHONIOENCODING": "ascii", "PATH": os.environ["PATH"]}
    for extra in ([], ["--json"]):
        result = subprocess.run(
            [sys.executable, "-m", "garrison.app.cli.main", "scan", ".", *extra],
            capture_output=True,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
        assert b"INTERNAL" not in result.stdout + result.stderr
