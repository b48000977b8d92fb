"""What a scan is shown as: one line a finding, SARIF 2.1.0, and what changed between two results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.vectors.artifacts import make

from garrison.app.cli.main import main
from garrison.artifacts.sarif import as_sarif
from garrison.artifacts.scan import RULESET, scan_path
from garrison.artifacts.scan_diff import explain
from garrison.artifacts.scan_report import FileReport, ScanReport, Suppression
from garrison.core.finding import Finding, Severity, Verdict

LEVELS = {"none", "note", "warning", "error"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = tmp_path / "model"
    (files / "a b#%:ü").mkdir(parents=True)
    for name in ("model.gguf", "slip.tar", "empty.bin"):
        (files / name).write_bytes({**make.CLEAN, **make.REFUSED, **make.INCOMPLETE}[name])
    (files / "a b#%:ü" / "evil.pkl").write_bytes(make.SYSTEM)
    return files


def _check_sarif(log: dict[str, Any]) -> None:
    """The constraints of SARIF 2.1.0 (sections 3.13 to 3.52) on the properties that are written."""
    assert log["version"] == "2.1.0"
    assert log["$schema"].startswith("https://")
    for run in log["runs"]:
        driver = run["tool"]["driver"]
        assert driver["name"]
        ids = [rule["id"] for rule in driver["rules"]]
        assert len(ids) == len(set(ids))
        assert all(rule["shortDescription"]["text"] for rule in driver["rules"])
        assert all(isinstance(call["executionSuccessful"], bool) for call in run["invocations"])
        for artifact in run["artifacts"]:
            _check_uri(artifact["location"]["uri"])
            assert artifact["length"] >= -1
            assert all(re.fullmatch("[0-9a-f]{64}", value) for value in artifact.get("hashes", {}).values())
        for result in run["results"]:
            assert ids[result["ruleIndex"]] == result["ruleId"]
            assert result["level"] in LEVELS
            assert result["message"]["text"]
            assert all(isinstance(value, str) for value in result["partialFingerprints"].values())
            for location in result["locations"]:
                place = location["physicalLocation"]
                _check_uri(place["artifactLocation"]["uri"])
                artifact = run["artifacts"][place["artifactLocation"]["index"]]
                assert artifact["location"]["uri"] == place["artifactLocation"]["uri"]
                assert place["region"]["startLine"] >= 1
            for suppression in result.get("suppressions", ()):
                assert suppression["kind"] in {"inSource", "external"}
                assert suppression["status"] in {"accepted", "underReview", "rejected"}


def _check_uri(uri: str) -> None:
    assert re.fullmatch(r"(?:[A-Za-z0-9._~!$&'()*+,;=@/-]|%[0-9A-F]{2})+", uri), uri
    assert not uri.startswith("/")


def test_sarif_has_every_finding_at_its_file(folder: Path) -> None:
    report = scan_path([folder])
    log = as_sarif(report, "1.2.3")
    _check_sarif(log)
    results = log["runs"][0]["results"]
    assert len(results) == sum(len(file.findings) for file in report.files)
    at = {unquote(row["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]) for row in results}
    assert "a b#%:ü/evil.pkl" in at
    levels = {row["ruleId"]: row["level"] for row in results}
    assert levels["artifact.pickle.call"] == "error"
    assert levels["artifact.empty"] == "warning"
    prints = [row["partialFingerprints"]["garrisonFinding/v1"] for row in results]
    assert len(set(prints)) == len(prints)


def test_a_suppressed_finding_is_a_suppressed_result() -> None:
    finding = Finding("artifact.pickle.call", Severity.CRITICAL, "it calls", "a.pkl", "do not")
    why = Suppression("ml-platform", "2030-01-01", "ours")
    file = FileReport("a.pkl", "pickle", Verdict.CLEAN, "0" * 64, 1, (finding,), suppressed={0: why})
    log = as_sarif(ScanReport((file,), "r"), "1.2.3")
    _check_sarif(log)
    assert log["runs"][0]["results"][0]["suppressions"][0]["justification"] == (
        "ml-platform, until 2030-01-01: ours"
    )


def test_a_rule_of_another_package_is_written_too() -> None:
    finding = Finding("acme.odd", Severity.MEDIUM, "odd")
    log = as_sarif(ScanReport((FileReport("a", "acme", Verdict.REFUSED, "", 1, (finding,)),), "r"), "1")
    _check_sarif(log)


def test_the_command_writes_sarif_and_keeps_its_exit_status(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scan", str(folder), "--format", "sarif"]) == 1
    _check_sarif(json.loads(capsys.readouterr().out))
    assert main(["scan", str(folder), "--format", "sarif", "--json"]) == 2


def test_text_is_one_line_a_finding_then_what_to_do_then_the_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scan", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    report = scan_path([folder])
    findings = [finding for file in report.files for finding in file.findings]
    assert len([line for line in lines if re.match("refused |incomplete ", line)]) == len(findings)
    assert any(line.startswith("to do ") and "safetensors" in line for line in lines)
    assert lines[-1] == "REFUSED   4 files, " + lines[-1].split(", ", 1)[1]
    assert "1 clean, 2 refused, 1 incomplete" in lines[-1]


def test_what_changed_between_two_results_is_explained(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = scan_path([folder]).as_json()
    (folder / "empty.bin").unlink()
    (folder / "model.gguf").write_bytes(make.SYSTEM)
    (folder / "new.pkl").write_bytes(make.SYSTEM)
    after = scan_path([folder]).as_json()
    after["ruleset"] = "other"
    after["files"] = [
        {**file, "verdict": "clean", "findings": []} if file["path"] == "slip.tar" else file
        for file in after["files"]
    ]
    diff = explain(before, after)
    assert {change.path: (change.kind, change.before, change.after) for change in diff.changes} == {
        "empty.bin": ("removed", "incomplete", ""),
        "model.gguf": ("content", "clean", "refused"),
        "new.pkl": ("added", "", "refused"),
        "slip.tar": ("verdict", "refused", "clean"),
    }
    assert diff.because_of() == {"artifact.tar.slip": -1}
    for name, report in (("old.json", before), ("new.json", after)):
        (tmp_path / name).write_text(json.dumps(report))
    words = ["scan", "--explain-diff", str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "verdict     slip.tar  refused -> clean" in shown
    assert shown.splitlines()[-1] == f"4 files changed; rules {RULESET} -> other"
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "garrison.scan-diff/1"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "garrison.scan/1", "files": [1]}', "[" * 100_000]
)
def test_a_file_that_is_not_a_result_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    assert main(["scan", "--explain-diff", str(path), str(path)]) == 2
    assert "SCAN-REPORT" in capsys.readouterr().err
