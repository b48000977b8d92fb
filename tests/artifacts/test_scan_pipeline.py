"""In a pipeline: the steps of `action.yml` run as they are written, and the pre-commit hook takes the right files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.vectors.artifacts import make

ROOT = Path(__file__).parents[2]
EXIT = {"clean": 0, "refused": 1, "incomplete": 3, "error": 2}


def _inputs(text: str, values: dict[str, str]) -> str:
    """`${{ inputs.name }}` as the runner fills it in, in the places where it does: the environment."""
    return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: values[match[1]], text)


def _run(action: dict[str, Any], workspace: Path, **given: str) -> tuple[int, str, dict[str, Any] | None]:
    values = {name: str(entry.get("default", "")) for name, entry in action["inputs"].items()} | given
    step = next(step for step in action["runs"]["steps"] if step.get("id") == "scan")
    assert "${{" not in step["run"]
    output = workspace / "output"
    output.touch()
    environment = {name: _inputs(text, values) for name, text in step["env"].items()}
    environment |= {
        "RUNNER_TEMP": str(workspace / "temp"),
        "GITHUB_OUTPUT": str(output),
        "PATH": "/usr/bin:/bin",
    }
    argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(argv, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    written = output.read_text().strip()
    sarif = workspace / values["sarif"]
    log = json.loads(sarif.read_text()) if sarif.exists() and sarif.stat().st_size else None
    return done.returncode, written, log


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What the install step leaves, with this environment's own command."""
    programs = tmp_path / "temp" / "garrison" / "bin"
    programs.mkdir(parents=True)
    (programs / "garrison").symlink_to(Path(sys.executable).parent / "garrison")
    (tmp_path / "models with space").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("verdict", "name", "data"),
    [
        ("clean", "model.gguf", make.CLEAN["model.gguf"]),
        ("refused", "evil.pkl", make.SYSTEM),
        ("incomplete", "empty.bin", b""),
    ],
)
def test_the_action_says_its_verdict_and_keeps_the_exit_status(
    workspace: Path, verdict: str, name: str, data: bytes
) -> None:
    (workspace / "models with space" / name).write_bytes(data)
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    status, written, log = _run(action, workspace, path="models with space")
    assert (status, written) == (EXIT[verdict], f"verdict={verdict}")
    assert log is not None
    assert bool(log["runs"][0]["results"]) is (verdict != "clean")


def test_an_input_is_never_a_command(workspace: Path) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    for path in ('"; touch pwned; "', "$(touch pwned)", "--help", "-"):
        status, written, _ = _run(action, workspace, path=path, sarif="out;touch pwned.sarif")
        assert status != 0
        assert written.splitlines()[-1] != "verdict=clean"
    assert not (workspace / "pwned").exists()


def test_every_step_of_the_action_is_a_script_that_bash_can_read() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    scripts = [step["run"] for step in action["runs"]["steps"] if "run" in step]
    assert len(scripts) == 2
    for script in scripts:
        subprocess.run(["bash", "-n", "-c", script], check=True)


MODELS = [
    "a.pkl",
    "x/model.safetensors",
    "m.gguf",
    "config.json",
    "x/tokenizer_config.json",
    "MLmodel",
    "chat.jinja",
]
OTHERS = ["README.md", "main.py", "package.json", "x.png", "notes.txt", "myconfig.json"]


def test_the_hook_takes_model_files_and_no_others() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    wanted = re.compile(hook["files"])
    assert [name for name in MODELS + OTHERS if wanted.search(name)] == MODELS


def test_the_hook_stops_a_commit_that_brings_a_harmful_file(tmp_path: Path) -> None:
    """As pre-commit calls it: the entry, then the names of the files that are committed."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (tmp_path / "evil.pkl").write_bytes(make.SYSTEM)
    (tmp_path / "config.json").write_text("{}")
    program, *arguments = hook["entry"].split()
    argv = [str(Path(sys.executable).parent / program), *arguments]
    assert (
        subprocess.run([*argv, "config.json"], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    )
    harmful = subprocess.run(
        [*argv, "config.json", "evil.pkl"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert harmful.returncode == 1
    assert "artifact.pickle.call" in harmful.stdout
