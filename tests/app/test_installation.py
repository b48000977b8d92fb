"""Is this Garrison the one that was installed: a real wheel, laid out, then changed as an intruder would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; from garrison.app.cli.main import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True, slots=True)
class Installed:
    place: Path
    wheel: Path

    def ask(self, *more: str) -> tuple[int, dict[str, Any]]:
        """Exit status and the JSON that was printed."""
        done = subprocess.run(
            [sys.executable, "-P", "-c", COMMAND, "--json", "doctor", "--self", *more],
            env=os.environ | {"PYTHONPATH": str(self.place), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, found.get("error", found)

    def refused(self, *more: str) -> list[str]:
        status, found = self.ask(*more)
        assert (status, found["code"]) == (1, "SELF-TAMPERED"), found
        return [
            f"{finding['rule_id']} {Path(finding['where']).name}" for finding in found["evidence"]["findings"]
        ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def original(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install --target` leaves of a wheel without scripts: its files, its record among them."""
    place = tmp_path_factory.mktemp("original")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(place)
    return place


@pytest.fixture
def installed(original: Path, built: Path, tmp_path: Path) -> Installed:
    return Installed(shutil.copytree(original, tmp_path / "site"), built)


@pytest.mark.row("S56", kind="R")
def test_every_change_of_an_installation_is_found(installed: Installed) -> None:
    (installed.place / "folders.pth").write_text("/nowhere\n")
    status, found = installed.ask()
    assert (status, found["verdict"]) == (0, "as installed"), found
    assert found["packages"] > 1
    package = installed.place / "garrison"
    edited, gone = package / "trust" / "verify.py", package / "core" / "digest.py"
    edited.write_text(edited.read_text() + "\n# one line more\n")
    (package / "core" / "digest").mkdir()
    gone.rename(package / "core" / "digest" / "__init__.py")  # a package wins over a module
    (package / "__pycache__").mkdir()
    unchecked = package / "__pycache__" / f"client.{sys.implementation.cache_tag}.pyc"
    unchecked.write_bytes(bytes(4) + b"\x01\0\0\0" + bytes(8))
    (installed.place / "helper.pth").write_text("import json\n")
    assert sorted(installed.refused()) == [
        "self.changed verify.py",
        "self.extra __init__.py",
        f"self.extra {unchecked.name}",
        "self.missing digest.py",
        "self.start helper.pth",
    ]


@pytest.mark.row("S56", kind="R")
def test_a_record_that_was_edited_too_is_found_by_a_wheel_that_came_another_way(installed: Installed) -> None:
    edited = installed.place / "garrison" / "trust" / "verify.py"
    edited.write_text(edited.read_text() + "\n# one line more\n")
    record = next(installed.place.glob("*.dist-info/RECORD"))
    kept = [
        line for line in record.read_text().splitlines() if not line.startswith("garrison/trust/verify.py")
    ]
    record.write_text("\n".join([*kept, "garrison/trust/verify.py,,"]))
    assert installed.refused() == ["self.extra verify.py"]
    assert installed.refused("--wheel", str(installed.wheel)) == ["self.changed verify.py"]
    status, found = installed.ask("--wheel", str(record))
    assert (status, found["code"]) == (2, "SELF-WHEEL")


def test_a_source_tree_has_no_record_to_be_judged_by() -> None:
    words = [sys.executable, "-m", "garrison.app.cli.main", "--json", "doctor", "--self"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (3, "SELF-RECORD")
