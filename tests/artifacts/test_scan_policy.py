"""A policy is stricter for all and laxer for named files; what is let pass stays in every result."""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors.artifacts import make

from garrison.app.cli.main import main
from garrison.artifacts.scan import scan_path
from garrison.artifacts.scan_policy import Level, ScanPolicy, apply, load_policy, parse_policy
from garrison.artifacts.scan_report import FileReport, ScanReport
from garrison.core.decision import Tier
from garrison.core.errors import Usage
from garrison.core.finding import Finding, Severity, Verdict

EVIL = hashlib.sha256(make.SYSTEM).hexdigest()
TODAY = date(2030, 6, 1)
SUPPRESS = """
schema = "garrison.scan-policy/1"

[[suppress]]
digest = "sha256:{digest}"
rule = "{rule}"
owner = "ml-platform"
until = {until}
reason = "the payload is our own test"
"""


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "evil.pkl").write_bytes(make.SYSTEM)
    return folder


def _policy(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scan-policy.toml"
    path.write_text(text)
    return path


def _suppressing(tmp_path: Path, until: str = "2030-06-01", digest: str = EVIL) -> Path:
    text = SUPPRESS.format(digest=digest, rule="artifact.pickle.call", until=until)
    return _policy(tmp_path, text)


@pytest.mark.row("A02", kind="R")
def test_a_suppressed_finding_does_not_count_and_stays_visible(tmp_path: Path, evil: Path) -> None:
    report = apply(load_policy(_suppressing(tmp_path)), scan_path([evil]), today=TODAY)
    assert report.verdict is Verdict.CLEAN
    file = report.as_json()["files"][0]
    assert [row["suppressed"]["owner"] for row in file["findings"]] == ["ml-platform"]
    assert report.as_json()["policy"]["suppressions"][0]["state"] == "used"


def test_the_day_after_its_last_a_suppression_is_shown_as_expired_and_counts_no_more(
    tmp_path: Path, evil: Path
) -> None:
    policy = load_policy(_suppressing(tmp_path, "2030-05-31"))
    report = apply(policy, scan_path([evil]), today=TODAY)
    assert report.verdict is Verdict.REFUSED
    assert report.as_json()["policy"]["suppressions"][0]["state"] == "expired"
    assert "suppressed" not in report.as_json()["files"][0]["findings"][0]


def test_a_suppression_of_another_digest_is_shown_as_unmatched(tmp_path: Path, evil: Path) -> None:
    report = apply(load_policy(_suppressing(tmp_path, digest="0" * 64)), scan_path([evil]), today=TODAY)
    assert report.verdict is Verdict.REFUSED
    assert report.as_json()["policy"]["suppressions"][0]["state"] == "unmatched"


def test_one_rule_that_is_let_pass_leaves_the_others(tmp_path: Path) -> None:
    data = make.REFUSED["evil.tar.gz"]
    (tmp_path / "evil.tar.gz").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    table = {
        "schema": "garrison.scan-policy/1",
        "suppress": [
            {"digest": digest, "rule": "artifact.zip.slip", "owner": "a", "until": TODAY, "reason": "b"}
        ],
    }
    report = apply(parse_policy(table, "p", ""), scan_path([tmp_path]), today=TODAY)
    assert report.verdict is Verdict.REFUSED


def test_a_tier_can_be_stricter_than_the_default() -> None:
    note = Finding("artifact.data.missing", Severity.INFO, "its data x is not here", "a.onnx")
    report = ScanReport((FileReport("a.onnx", "onnx", Verdict.CLEAN, "0" * 64, 1, (note,)),), "r")
    policy = ScanPolicy(tiers={Tier.SECRET: Level(refuse=frozenset({"artifact.data.missing"}))})
    assert apply(policy, report, today=TODAY).verdict is Verdict.CLEAN
    assert apply(policy, report, today=TODAY, tier=Tier.PUBLIC).verdict is Verdict.CLEAN
    assert apply(policy, report, today=TODAY, tier=Tier.SECRET).verdict is Verdict.REFUSED


def test_a_gap_can_be_accepted_by_name_and_a_refusal_can_not() -> None:
    gap = Finding("artifact.unknown", Severity.LOW, "no scanner", "a.bin")
    bad = Finding("artifact.unknown", Severity.HIGH, "no scanner", "a.bin")
    policy = ScanPolicy(Level(accept_incomplete=frozenset({"artifact.unknown"})))
    for finding, before, after in (
        (gap, Verdict.INCOMPLETE, Verdict.CLEAN),
        (bad, Verdict.REFUSED, Verdict.REFUSED),
    ):
        file = FileReport(
            "a.bin", "unknown", before, "0" * 64, 1, (finding,), gaps=frozenset({finding.rule_id})
        )
        assert apply(policy, ScanReport((file,), "r"), today=TODAY).verdict is after


def test_a_file_with_more_findings_than_are_listed_is_never_let_pass() -> None:
    many = tuple(Finding("artifact.pickle.call", Severity.CRITICAL, str(n), "a") for n in range(200))
    report = ScanReport((FileReport("a", "pickle", Verdict.REFUSED, "0" * 64, 1, many),), "r")
    table = {
        "schema": "garrison.scan-policy/1",
        "suppress": [
            {"digest": "0" * 64, "rule": "artifact.pickle.call", "owner": "a", "until": TODAY, "reason": "b"}
        ],
    }
    assert apply(parse_policy(table, "p", ""), report, today=TODAY).verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    "text",
    [
        "",
        'schema = "garrison.scan-policy/2"',
        'schema = "garrison.scan-policy/1"\nrefuse = []',
        'schema = "garrison.scan-policy/1"\n[tier.top]\nrefuse = []',
        'schema = "garrison.scan-policy/1"\n[default]\nallow = ["artifact.unknown"]',
        'schema = "garrison.scan-policy/1"\n[default]\nrefuse = ["artifact.pickle.imports"]',
        'schema = "garrison.scan-policy/1"\n[default]\nrefuse = "artifact.unknown"',
        SUPPRESS.format(digest="abc", rule="artifact.pickle.call", until="2030-01-01"),
        SUPPRESS.format(digest=EVIL, rule="artifact.pickle.call", until='"2030-01-01"'),
        SUPPRESS.format(digest=EVIL, rule="artifact.pickle.calls", until="2030-01-01"),
        SUPPRESS.format(digest=EVIL, rule="artifact.pickle.call", until="2030-01-01") + "ever = true",
        SUPPRESS.format(digest=EVIL, rule="artifact.pickle.call", until="2030-01-01").replace(
            "ml-platform", " "
        ),
        "schema = ",
        "\udcff",
    ],
)
def test_what_a_policy_says_that_is_not_understood_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scan-policy.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Usage) as raised:
        load_policy(path)
    assert raised.value.code == "SCAN-POLICY"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    )
)
def test_no_table_makes_the_policy_fail_otherwise(value: Any) -> None:
    for key in ("default", "tier", "suppress"):
        with contextlib.suppress(Usage):
            parse_policy({"schema": "garrison.scan-policy/1", key: value}, "p", "")


def test_the_command_takes_a_policy_and_a_tier(
    tmp_path: Path, evil: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = _suppressing(tmp_path, "9999-01-01")
    assert main(["scan", str(evil), "--policy", str(far)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("suppressed  evil.pkl")
    assert "ml-platform" in shown
    assert shown.splitlines()[-1].startswith("CLEAN")
    assert main(["scan", str(evil), "--policy", str(_suppressing(tmp_path, "2001-01-01")), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["policy"]["suppressions"][0]["state"] == "expired"
    assert main(["scan", str(evil), "--tier", "secret"]) == 2
    assert main(["scan", str(evil), "--policy", str(tmp_path / "none.toml")]) == 2
    assert "SCAN-POLICY" in capsys.readouterr().err
