"""The one scan over many texts may only say "clean" when every text alone is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.detect.base import Direction, Outcome
from garrison.detect.inspect import Inspector
from garrison.detect.rulepack import Rule, built_in_rules, parse_pack

PLAIN = [
    "",
    "hello",
    "The report is due on Friday.",
    "42",
    "a b c",
    "naïve",
    "x" * 40,
    "ignore",
    "the instructions",
]
HITS = [(rule, hit) for rule in built_in_rules() for hit in rule.hit]


@pytest.mark.parametrize("rule", built_in_rules(), ids=lambda rule: rule.id)
def test_every_example_of_a_rule_is_seen_between_other_texts(inspector: Inspector, rule: Rule) -> None:
    for hit in rule.hit:
        for way in Direction:
            if inspector.inspect(hit, way).findings:
                assert not inspector.is_clean([hit], way)
                assert not inspector.is_clean(["before", hit, "after"], way)
            if inspector.inspect(f" {hit}", way).findings:
                assert not inspector.is_clean(["before", f" {hit}", "after"], way)


@given(
    st.lists(
        st.one_of(st.sampled_from(PLAIN), st.sampled_from([hit for _, hit in HITS]), st.text(max_size=60)),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_clean_together_is_clean_alone(inspector: Inspector, texts: list[str]) -> None:
    for way in Direction:
        if inspector.is_clean(texts, way):
            for text in texts:
                inspection = inspector.inspect(text, way)
                assert (inspection.verdict, inspection.findings, inspection.text) == (
                    Outcome.ALLOW,
                    (),
                    text,
                )


def test_plain_prompts_are_clean_together(inspector: Inspector) -> None:
    texts = ["You are a careful assistant.", "Summarise the report in five sentences.", "Thank you!"]
    assert inspector.is_clean(texts, Direction.INPUT)
    assert inspector.is_clean(texts, Direction.OUTPUT)


def test_a_rule_for_the_very_end_of_a_text_is_never_asked_of_joined_texts() -> None:
    pack = "[[rule]]\nid = 'x'\nkind = 'secret.x'\ntrigger = 'sesame\\z'\npattern = 'sesame'"
    inspector = Inspector(parse_pack(pack, "mine.toml"), directions=(Direction.INPUT,))
    assert not inspector.is_clean(["sesame"], Direction.INPUT)
    assert not inspector.is_clean(["sesame", "tail"], Direction.INPUT)
    assert inspector.is_clean(["sesame street"], Direction.INPUT)
