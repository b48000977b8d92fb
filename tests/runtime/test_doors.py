"""`garrison doctor` and `garrison runtime probe`, as a person or a program calls them."""

from __future__ import annotations

import json

import pytest
from tests.runtime.stage import need

from garrison.app.cli.main import main
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


@pytest.mark.parametrize(
    ("level", "status", "code"), [("microvm", 3, "ISO-UNAVAILABLE"), ("glibc", 2, "ISO-UNKNOWN")]
)
def test_probe_of_a_level_that_is_not_there(
    capsys: pytest.CaptureFixture[str], level: str, status: int, code: str
) -> None:
    assert main(["runtime", "probe", "--isolation", level, "--json"]) == status
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
