"""Patterns of a customer: a small language in which nothing can take long, checked before it is kept.

Allowed are characters, sets of them, alternatives, groups and bounded repeats of a single character or set. So
a pattern has a longest match and a known number of ways to match, and neither engine can be made to work
long by a text. What matches is the same for Hyperscan, which reads bytes, and for Python, which reads
characters: hence no dot, no negated set and no set beyond ASCII.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from re import _constants as sre  # type: ignore[attr-defined]  # the parsed form of a pattern has no public name
from re import _parser  # type: ignore[attr-defined]  # as above
from typing import Any

from garrison.core.errors import Usage
from garrison.detect.base import Direction, Effect
from garrison.detect.redact import WIDTH
from garrison.detect.rulepack import MAX_REACH, Rule

MAX_PATTERNS = 256
MAX_LENGTH = 500  # characters of an expression
MIN_WIDTH = 4  # characters of its shortest match: less would be found everywhere
MAX_WIDTH = 256  # of its longest
MAX_WAYS = 1_024  # ways to match at one place: what a text can make the engine try
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_PLACES = {sre.AT_BOUNDARY}
_CATEGORIES = {sre.CATEGORY_DIGIT, sre.CATEGORY_WORD, sre.CATEGORY_SPACE}
_BACKSPACE = 8  # `[\b]`, which looks like the edge of a word and is not
_EDGE = re.compile(r"(\\[^b])|\\b")
_FIX = "garrison dlp pattern add --help shows what a pattern may be made of"


def parse_pattern(facts: Mapping[str, Any]) -> Rule:
    """A rule from what an event or a command says. Raises `Usage` DLP-PATTERN."""
    name, expression = facts.get("name"), facts.get("regex")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _refused("its name is not of a-z, 0-9 and dashes")
    if not isinstance(expression, str) or not 0 < len(expression) <= MAX_LENGTH:
        raise _refused(f"its expression is empty or has more than {MAX_LENGTH} characters")
    caseless = facts.get("ignore_case") is True
    width = check(expression, caseless=caseless)
    try:
        effect = Effect(facts.get("effect", "redact"))
        directions = frozenset(map(Direction, facts.get("directions") or list(Direction)))
    except (ValueError, TypeError):
        raise _refused("its effect or one of its directions is unknown") from None
    flags = re.ASCII | (re.IGNORECASE if caseless else re.NOFLAG)
    return Rule(
        id=f"dlp.custom.{name}",
        kind="proprietary",
        effect=effect,
        score=0.9,
        directions=directions,
        # An edge of a word at the end of a stream would be told when it is closed, which is too late.
        trigger=_EDGE.sub(lambda match: match.group(1) or "", expression),
        pattern=re.compile(expression, flags),
        context=None,
        validator=None,
        boundary=WIDTH,
        reach=min(width + 1, MAX_REACH),
        ahead=width,
        priority=90,
        caseless=caseless,
        hit=(),
        miss=(),
    )


def word_pattern(word: str) -> str:
    """The expression that finds a code name as a whole word, any white space between its parts."""
    parts = [re.escape(part) for part in word.split()]
    return r"\b" + r"[ \t\r\n]{1,4}".join(parts) + r"\b"


def check(expression: str, *, caseless: bool = False) -> int:
    """The length of the longest match. Raises `Usage` DLP-PATTERN unless the expression is of the small language."""
    if caseless and not expression.isascii():
        raise _refused("letters beyond ASCII are compared as they stand; leave --ignore-case out")
    try:
        with warnings.catch_warnings():  # Python warns of sets that it may read in another way one day
            warnings.simplefilter("error", FutureWarning)
            parsed = _parser.parse(expression, re.ASCII)
    except (re.error, RecursionError, OverflowError, FutureWarning) as cause:
        raise _refused(f"it does not parse: {cause}") from cause
    if parsed.state.flags & ~re.ASCII.value:
        raise _refused("it sets flags; use --ignore-case")
    ways = _ways(parsed)
    low, high = parsed.getwidth()
    if low < MIN_WIDTH or high > MAX_WIDTH:
        raise _refused(
            f"it matches {low} to {min(high, 10**6)} characters; {MIN_WIDTH} to {MAX_WIDTH} may be"
        )
    if ways > MAX_WAYS:
        raise _refused(
            f"it may match in {ways} ways at one place; {MAX_WAYS} may be: bound its repeats lower"
        )
    return int(high)


def _ways(items: Any) -> int:
    """In how many ways a sequence can match at one place, at most. Raises `Usage` DLP-PATTERN."""
    ways = 1
    for code, value in items:
        ways *= _ways_of(code, value)
        if ways > 10**9:
            raise _refused("it may match in too many ways")
    return ways


def _ways_of(code: Any, value: Any) -> int:
    if code is sre.LITERAL and value != _BACKSPACE:
        return 1
    if code is sre.IN:
        _check_set(value)
        return 1
    if code is sre.AT and value in _PLACES:
        return 1
    if code is sre.SUBPATTERN:
        _, on, off, inner = value
        if not on and not off:
            return _ways(inner)
    if code is sre.BRANCH:
        return sum(_ways(branch) for branch in value[1])
    if code in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        low, high, inner = value
        if high is sre.MAXREPEAT:
            raise _refused("a repeat has no upper bound; write {1,20} instead of + or *")
        if len(inner) != 1 or inner[0][0] not in (sre.LITERAL, sre.IN):
            raise _refused("a repeat may be of one character or one set, not of a group")
        return _ways(inner) * (int(high) - int(low) + 1)
    raise _refused(f"{str(code).lower().replace('_', ' ')} is not part of the language")


def _check_set(items: Any) -> None:
    for code, value in items:
        if code is sre.LITERAL and 0 <= value < 128 and value != _BACKSPACE:
            continue
        if code is sre.RANGE and value[1] < 128:
            continue
        if code is sre.CATEGORY and value in _CATEGORIES:
            continue
        raise _refused("a set is negated or has characters beyond ASCII")


def _refused(why: str) -> Usage:
    return Usage("DLP-PATTERN", f"that pattern cannot be used: {why}", fix=_FIX)
