"""Canaries: a made-up word in hidden context. Who finds it in an answer knows that the context came out.

It is looked for as it stands, in pieces (spaced, dashed), reversed, in rot13, hex, and base64 wherever it begins
in what was encoded. Every form has a longest length, so the word is held back whole however an answer is cut.
"""

from __future__ import annotations

import base64
import codecs
import re
import secrets
from collections.abc import Iterator

from garrison.core.errors import Usage
from garrison.detect.base import Direction, Effect
from garrison.detect.custom import NAME
from garrison.detect.redact import WIDTH
from garrison.detect.rulepack import Rule

LENGTH = 14  # characters behind the prefix: 70 bits
PREFIX = "cnry"
VALUE = re.compile(rf"{PREFIX}[a-z2-7]{{{LENGTH}}}")
MAX_CANARIES = 32
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_GAP = r"[ \t\r\n._*|/-]{0,2}"


def new_canary() -> str:
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(LENGTH))


def canary_rules(name: str, value: str) -> tuple[Rule, ...]:
    """One rule for each form. Raises `Usage` DLP-PATTERN."""
    if not NAME.fullmatch(name) or not VALUE.fullmatch(value):
        raise Usage("DLP-PATTERN", "that is no canary", fix="garrison dlp canary add NAME makes one")
    return tuple(
        _rule(f"dlp.canary.{name}.{form}" if form else f"dlp.canary.{name}", expression, width, caseless)
        for form, expression, width, caseless in _forms(value)
    )


def _forms(value: str) -> Iterator[tuple[str, str, int, bool]]:
    spread = _GAP.join(value)
    yield "", spread, len(value) * 3, True
    yield "reversed", value[::-1], len(value), True
    yield "rot13", codecs.encode(value, "rot13"), len(value), True
    gapped = r"(?:\\x|[ :,%]){0,2}".join(f"{byte:02x}" for byte in value.encode())
    yield "hex", gapped, len(value) * 4, True
    for form, written in (("", value), ("-upper", value.upper())):
        for shift in range(3):
            encoded = base64.b64encode(b"\0" * shift + written.encode()).decode()
            first = -(-shift * 8 // 6)  # the first sign that depends on the canary alone
            last = (shift + len(value)) * 8 // 6
            part = encoded[first:last]
            yield f"base64-{shift}{form}", part, len(part), False


def _rule(name: str, expression: str, width: int, caseless: bool) -> Rule:
    return Rule(
        id=name, kind="exfiltration", effect=Effect.REDACT, score=1.0, directions=frozenset({Direction.OUTPUT}),
        trigger=expression, pattern=re.compile(expression, re.IGNORECASE if caseless else re.NOFLAG),
        context=None, validator=None, boundary=WIDTH, reach=width, ahead=width, priority=99, caseless=caseless,
        hit=(), miss=(), severity="critical", owasp=("LLM08",), atlas=("AML.T0056",),
    )  # fmt: skip
