"""`garrison assess`: ten items of the OWASP list, each with a control, a check that runs, tests that exist, a limit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from garrison.app.assessment import assess
from garrison.app.cli.main import main
from garrison.detect.inspect import Inspector
from garrison.detect.rulepack import built_in_rules

TESTS = Path(__file__).parent.parent


@pytest.mark.row("C14", kind="R")
def test_every_item_of_the_standard_has_a_control_evidence_tests_and_a_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["assess", "--standard", "owasp-llm-2026", "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert [item["id"] for item in items] == [f"LLM{number:02}:2026" for number in range(1, 11)]
    marked = set(
        re.findall(r'row\("([A-Z]\d\d)"', "".join(path.read_text() for path in TESTS.rglob("test_*.py")))
    )
    for item in items:
        assert item["control"], item
        assert item["limit"], item
        assert item["next"].startswith("garrison "), "every item says what to type next"
        assert set(item["tests"]) <= marked, f"{item['id']} names tests that do not exist"
        if item["state"] == "no control":
            assert item["control"].startswith("none: ")
        else:
            assert item["state"] == "holds", item
            assert item["tests"], item
            assert item["evidence"], item


@pytest.mark.row("C14", kind="R")
def test_a_control_that_does_not_work_fails_its_item() -> None:
    one = [rule for rule in built_in_rules() if rule.kind == "pii.email"]
    blind = Inspector(one, block_at=1.1)
    states = {item["id"]: item["state"] for item in assess(blind)}
    assert {states[f"LLM{number:02}:2026"] for number in (1, 2, 5, 8, 10)} <= {"fails", "undecided"}
    assert states["LLM04:2026"] == "holds"
