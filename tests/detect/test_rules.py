"""Every rule hits its examples, misses its counter-examples, and is one of its kind."""

from __future__ import annotations

import pytest

from garrison.core.errors import Usage
from garrison.detect.base import Direction, Inspection
from garrison.detect.inspect import Inspector
from garrison.detect.rulepack import Rule, built_in_rules, parse_pack

RULES = [rule for rule in built_in_rules() if rule.kind not in ("view", "gate", "turns")]


def _plain(example: str) -> str:
    return example.replace("¦", "")


def _judge(inspector: Inspector, rule: Rule, text: str) -> Inspection:
    way = Direction.OUTPUT if Direction.OUTPUT in rule.directions and rule.is_dlp else Direction.DOCUMENT
    return inspector.inspect(text, way)


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_a_rule_hits_its_examples_and_misses_the_others(inspector: Inspector, rule: Rule) -> None:
    assert rule.hit
    assert rule.miss
    for example in rule.hit:
        found = _judge(inspector, rule, _plain(example)).findings
        assert rule.kind in {finding.kind for finding in found}, example
    for example in rule.miss:
        found = _judge(inspector, rule, _plain(example)).findings
        assert rule.id not in {finding.rule_id for finding in found}, example


def test_rule_ids_are_unique() -> None:
    assert len({rule.id for rule in built_in_rules()}) == len(built_in_rules())


@pytest.mark.row("C11", kind="R")
def test_at_least_25_kinds_of_secret_are_known(rules: tuple[Rule, ...]) -> None:
    assert len({rule.kind for rule in rules if rule.kind.startswith("secret.")}) >= 25


@pytest.mark.row("C11", kind="R")
@pytest.mark.parametrize("behind", [",", ".", ")", "»", "<", "'", "}", "]", "`", "…", "", "\n", "\\n"])
def test_a_key_is_a_key_whatever_follows_it(inspector: Inspector, behind: str) -> None:
    key = "AKIA" + "QYLPMN5HHHFPZAM2"
    inspection = inspector.inspect(f"use {key}{behind}", Direction.OUTPUT)
    assert inspection.text == f"use [REDACTED:aws-key]{behind}"


@pytest.mark.parametrize(
    "pack",
    [
        "[[rule]]\nid = 'x'\nkind = 'secret.x'\ntrigger = 'x'\npattern = '('",
        "[[rule]]\nid = 'x'\nkind = 'secret.x'\ntrigger = 'x'\ntypo = 1",
        "[[rule]]\nid = 'x'\nkind = 'secret.x'\ntrigger = 'x'\nvalidator = 'nobody'",
        "[[rule]]\nkind = 'secret.x'",
        "not toml",
    ],
)
def test_a_bad_rule_refuses_the_whole_pack(pack: str) -> None:
    with pytest.raises(Usage) as caught:
        parse_pack(pack, "mine.toml")
    assert caught.value.code == "DLP-RULE"


def test_a_trigger_that_hyperscan_cannot_read_is_refused() -> None:
    pack = "[[rule]]\nid = 'x'\nkind = 'secret.x'\ntrigger = '(?<=a)b'\npattern = 'b'"
    with pytest.raises(Usage, match="DLP-RULE"):
        Inspector(parse_pack(pack, "mine.toml"))
