"""`garrison doctor` and `garrison runtime probe`, as a person or a program calls them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests.runtime.stage import need
from tests.runtime.test_seccomp import PINNED

from garrison.app.cli.main import main
from garrison.app.sandbox_page import BEGIN, END
from garrison.confine.profiles import PROFILES
from garrison.runtime.probe import ATTACKS


def test_doctor_lists_features_levels_and_that_it_contacts_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    works = {level["level"]: level["ok"] for level in told["levels"]}
    assert status == (0 if works["bwrap"] else 3)
    assert [level["level"] for level in told["levels"]] == ["landlock", "bwrap", "runc", "gvisor", "microvm"]
    assert all(level["missing"] for level in told["levels"] if not level["ok"])
    assert {"kernel", "Landlock", "seccomp", "bubblewrap", "SoftHSM", "SQLite"} <= {
        feature["name"] for feature in told["features"]
    }
    assert told["contacts"] == []


def test_doctor_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 100
    assert any(line.startswith("highest level here:") for line in lines)


@pytest.mark.row("S22", kind="R")
@pytest.mark.row("B05", kind="R")
def test_probe_sums_up_the_twelve_attacks_of_a_hostile_model(capsys: pytest.CaptureFixture[str]) -> None:
    need("bwrap")
    assert main(["runtime", "probe", "--hostile", "--no-control"]) == 0
    shown = capsys.readouterr().out
    assert len(ATTACKS) == 12
    assert "0 of 12 attacks succeeded" in shown


def test_probe_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    need("landlock")
    assert main(["runtime", "probe", "--isolation", "landlock", "--no-control", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "garrison.probe/1"
    assert told["level"] == "landlock"
    assert told["unwanted"] == []
    assert len(told["attempts"]) == told["checks"] >= 53


@pytest.mark.row("S23", kind="R")
@pytest.mark.parametrize(
    ("level", "status", "code"), [("pod", 3, "ISO-UNAVAILABLE"), ("glibc", 2, "ISO-UNKNOWN")]
)
def test_probe_of_a_level_that_is_not_there(
    capsys: pytest.CaptureFixture[str], level: str, status: int, code: str
) -> None:
    assert main(["runtime", "probe", "--isolation", level, "--json"]) == status
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


@pytest.mark.row("C15", kind="R")
def test_the_parsers_of_untrusted_files_cannot_get_out_either(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runtime", "probe", "--target", "tools", "--no-control", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["level"] == "tools"
    assert told["checks"] >= 53
    assert told["unwanted"] == []
    assert not any(attack["succeeded"] for attack in told["attacks"])


def test_the_table_of_the_page_is_made_by_a_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "isolation.md"
    page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    need("bwrap")
    levels = ["--isolation", "bwrap", "--isolation", "landlock"]
    assert main(["runtime", "matrix", *levels, "--write", str(page)]) == 0
    written = page.read_text()
    assert written.startswith("# Before\n")
    assert written.endswith("after\n")
    assert "old" not in written
    assert "| **reach the network** | denied |" in written
    page.write_text("no marks")
    assert main(["runtime", "matrix", "--write", str(page)]) == 2
    capsys.readouterr()


def test_the_filters_are_handed_out_with_their_digests(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["runtime", "filters", "--write", str(tmp_path / "out"), "--json"]) == 0
    told = {row["file"]: row["sha256"] for row in json.loads(capsys.readouterr().out)["filters"]}
    assert len(told) == 4 * len(PROFILES)  # two machines, with and without files
    for name, digest in told.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    assert told["server.x86_64.bpf"] == PINNED["x86_64"]
