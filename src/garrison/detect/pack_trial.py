"""A pack proves itself: every rule hits its own examples and misses its counter-examples."""

from __future__ import annotations

from collections.abc import Sequence

from garrison.core.errors import GarrisonError, Usage
from garrison.detect.base import Direction
from garrison.detect.inspect import Inspector
from garrison.detect.rulepack import Rule

MAX_RULES = 2_000  # of one pack


def check_rules(rules: Sequence[Rule], name: str) -> None:
    """Every rule hits its examples and misses its counter-examples, alone. Raises `Usage` DLP-RULE."""
    if not 0 < len(rules) <= MAX_RULES or len({rule.id for rule in rules}) != len(rules):
        raise _bad(name, f"it has no rule, one twice, or more than {MAX_RULES}")
    inspector = Inspector(rules)
    for rule in rules:
        if not rule.hit or not rule.miss:
            raise _bad(name, f"{rule.id} lacks an example that it must hit or must not")
        way = Direction.OUTPUT if Direction.OUTPUT in rule.directions and rule.is_dlp else Direction.DOCUMENT
        for wanted, examples in ((True, rule.hit), (False, rule.miss)):
            for example in examples:
                try:
                    found = inspector.inspect(example.replace("¦", ""), way).findings
                except GarrisonError as cause:
                    raise _bad(name, f"{rule.id} could not be tried") from cause
                if (rule.id in {finding.rule_id for finding in found}) is not wanted:
                    raise _bad(name, f"{rule.id} {'misses' if wanted else 'hits'} one of its examples")


def _bad(name: str, why: str) -> Usage:
    return Usage(
        "DLP-RULE", f"the rules of {name} are not valid: {why}", fix="correct the rule and sign again"
    )
