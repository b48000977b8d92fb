"""The catalogue of rules and what the scanners say are the same list."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from tests.vectors.artifacts import make

import garrison.artifacts
from garrison.app.cli.main import main
from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.judge import judge
from garrison.artifacts.scanners.rules import RULES
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.actions import Action

RULE = re.compile(r"artifact(?:\.[a-z0-9_]+)+")
PREFIX = re.compile(r"artifact(?:\.[a-z0-9_]+)*\.")
ROOM = Path(garrison.artifacts.__file__).parent


def _said() -> tuple[set[str], set[str]]:
    """Rule ids that stand in the source, and the beginnings of those that are put together."""
    ids: set[str] = set()
    prefixes: set[str] = set()
    for path in ROOM.rglob("*.py"):
        if path.name.startswith("rules"):
            continue
        tree = ast.parse(path.read_text())
        pieces = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            if id(node) in pieces and PREFIX.fullmatch(node.value):
                prefixes.add(node.value)
            elif RULE.fullmatch(node.value):
                ids.add(node.value)
    return ids - {action.value for action in Action}, prefixes


def test_every_rule_that_is_said_is_in_the_catalogue_and_the_other_way_round() -> None:
    ids, prefixes = _said()
    assert sorted(ids - set(RULES)) == []
    assert sorted(rule for rule in set(RULES) - ids if not rule.startswith(tuple(prefixes))) == []


def test_what_the_vectors_bring_up_is_in_the_catalogue() -> None:
    files = {**make.REFUSED, **make.INCOMPLETE, **make.CLEAN}
    said = {
        finding.rule_id
        for name, data in files.items()
        for finding in judge(BytesSource(name, data), SCANNERS).findings
    }
    assert sorted(said - set(RULES)) == []


@pytest.mark.parametrize("rule_id", RULES)
def test_a_rule_says_what_it_saw_why_that_matters_and_what_to_do(rule_id: str) -> None:
    rule = RULES[rule_id]
    assert rule.title
    assert rule.why.endswith(".")
    assert rule.fix
    assert not rule.title.endswith(".")


def test_a_rule_is_explained_like_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "artifact.pickle.import"]) == 0
    shown = capsys.readouterr().out
    assert "imports something" in shown
    assert "safetensors" in shown
    assert main(["explain", "artifact.pickle.import", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["code"] == "artifact.pickle.import"


def test_a_rule_that_is_almost_right_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "artifact.pickle.imports"]) == 2
    assert "artifact.pickle.import" in capsys.readouterr().err
