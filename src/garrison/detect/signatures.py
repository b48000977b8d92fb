"""Orders to a model, by signature: hits of the scanner confirmed and turned into findings.

Each rule gives a score; the score of the text is that of independent witnesses, 1 - (1-a)(1-b)...,
over distinct rules; the classifier is one witness more. A finding in a decoded view points at the encoded
stretch of the original.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from garrison.detect.base import Direction, TextFinding
from garrison.detect.normalise import View
from garrison.detect.patterns import Hit
from garrison.detect.rulepack import Rule

MAX_WINDOWS = 32  # confirmations of one rule in one reading: more of the same adds nothing to a block
LOOK_AHEAD = 48  # a pattern may end a little behind its trigger: the rest of a word

# The rules of `hidden`, which stand in no pack.
HIDDEN_RULES = frozenset({"prompt.injection.tag-characters", "prompt.injection.split-words"})
# Tag characters spell invisible ASCII. A flag emoji (U+1F3F4 ... U+E007F) uses them rightly.
_TAGGED = re.compile("(?<!\U0001f3f4)(?<![\U000e0020-\U000e007e])[\U000e0020-\U000e007e]{3,}")
# A zero-width character inside a Latin word has no typographic use.
_SPLIT_WORD = re.compile("(?<=[A-Za-z])[\u200b\u2060\ufeff\u00ad\u200c\u200d]+(?=[A-Za-z])")
_SPLITS = 4  # a few may come from hyphenated or pasted text


def confirm(
    view: View, rules: Sequence[Rule], hits: Iterable[Hit], direction: Direction
) -> list[TextFinding]:
    """Findings of `rules` in one reading of the text.

    People ask about developer modes and previous instructions in the open: there most rules need the classifier
    beside them. Who hides the same words in a document, or encodes them, asks nothing.
    """
    in_the_open = direction is Direction.INPUT and not view.name
    findings: list[TextFinding] = []
    done: dict[int, tuple[int, int]] = {}
    for end, number in hits:
        windows, covered = done.get(number, (0, -1))
        if windows >= MAX_WINDOWS or end <= covered:
            continue
        rule = rules[number]
        found = rule.pattern.search(view.text, max(covered, end - rule.reach, 0), end + LOOK_AHEAD)
        done[number] = (windows + 1, found.end() if found else covered)
        if found and (rule.validator is None or rule.validator(found.group())):
            start, stop = view.span(*found.span())
            score = rule.score if rule.plain_score is None or not in_the_open else rule.plain_score
            findings.append(TextFinding(rule.id, rule.kind, score, start, stop, view.name))
    return findings


def hidden(text: str, direction: Direction) -> list[TextFinding]:
    """Characters that a reader does not see and a model does.

    In a document somebody hid them from its reader. A caller hides them from nobody, so there the words count.
    """
    tagged = _TAGGED.search(text)
    if tagged:
        score = 0.9 if direction is Direction.DOCUMENT else 0.5
        return [TextFinding("prompt.injection.tag-characters", "injection", score, *tagged.span())]
    splits = [match.start() for match in _SPLIT_WORD.finditer(text)]
    if len(splits) >= _SPLITS:
        return [TextFinding("prompt.injection.split-words", "injection", 0.5, splits[0], splits[-1] + 1)]
    return []


def score(findings: Iterable[TextFinding], classified: float) -> float:
    """The text's score from its signatures, each rule counted once, and from what the classifier says."""
    best: dict[str, float] = {}
    for finding in findings:
        if finding.kind in ("injection", "jailbreak"):
            best[finding.rule_id] = max(best.get(finding.rule_id, 0.0), finding.score)
    doubt = 1.0 - classified
    for value in best.values():
        doubt *= 1.0 - value
    return round(1.0 - doubt, 6)
