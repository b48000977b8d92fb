"""Rules are data: the TOML packs of this room, read and checked into frozen values.

A rule has a cheap `trigger` (Hyperscan, says that something may be here) and an exact `pattern` (says
where). `context` is searched in the characters before the value, `validator` judges the value itself.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from re import _parser  # type: ignore[attr-defined]  # the width of a pattern has no public name
from typing import Any

from garrison.core.errors import Usage
from garrison.detect.base import Direction, Effect
from garrison.detect.validators import VALIDATORS

PACKS = (
    "secrets.toml",
    "providers.toml",
    "pii.toml",
    "national.toml",
    "injection.toml",
    "output.toml",
    "views.toml",
)

MAX_REACH = (
    512  # a trigger ends at most this many characters after the start of its value: what a stream holds
)
CONTEXT = 128  # characters before a value in which its rule may look for a word such as "passport"
MAX_AHEAD = 16_384  # a value is judged on at most this many characters; RSA-8192 keys in PEM have 6,400

_KEYS = frozenset(
    {
        "id", "kind", "effect", "score", "directions", "trigger", "pattern", "context", "validator",
        "boundary", "reach", "ahead", "priority", "caseless", "hit", "miss", "severity", "owasp", "atlas",
        "plain_score",
    }
)  # fmt: skip
SEVERITIES = ("low", "medium", "high", "critical")
# What a kind is about, unless its rule says otherwise: severity, OWASP LLM Top 10 of 2026, MITRE ATLAS.
_ABOUT: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "secret": ("critical", ("LLM02",), ("AML.T0057",)),
    "pii": ("high", ("LLM02",), ("AML.T0057",)),
    "proprietary": ("high", ("LLM02",), ("AML.T0057",)),
    "exfiltration": ("high", ("LLM02", "LLM10"), ("AML.T0077",)),
    "injection": ("high", ("LLM01",), ("AML.T0051",)),
    "jailbreak": ("high", ("LLM01",), ("AML.T0054",)),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern. `priority` decides whose name a redaction carries when two rules see the same start.

    `plain_score` counts where a caller writes the words in the open; in a document, or in a reading that had to be
    decoded, `score` does.
    """

    id: str
    kind: str
    effect: Effect
    score: float
    directions: frozenset[Direction]
    trigger: str
    pattern: re.Pattern[str]
    context: re.Pattern[str] | None
    validator: Callable[[str], bool] | None
    boundary: str
    reach: int
    ahead: int
    priority: int
    caseless: bool
    hit: tuple[str, ...]
    miss: tuple[str, ...]
    severity: str = "high"
    owasp: tuple[str, ...] = ("LLM02",)
    atlas: tuple[str, ...] = ("AML.T0057",)
    sight: int = CONTEXT  # characters before a value that `context` can need
    plain_score: float | None = None  # the same as `score`
    group: str | int = field(init=False, default=0)  # of a match: the value

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", "value" if "value" in self.pattern.groupindex else 0)

    @property
    def is_dlp(self) -> bool:
        """Whether the rule is about values to hide; the others judge the text as a whole."""
        return self.kind.startswith(("secret.", "pii.")) or self.kind in ("exfiltration", "proprietary")

    @property
    def label(self) -> str:
        return f"[REDACTED:{self.kind.removeprefix('secret.')}]"


def marker(name: str, kind: str, effect: Effect, directions: frozenset[Direction]) -> Rule:
    """A rule that no pattern looks for: another detector finds the places and names them by it."""
    never = re.compile("(?!)")
    return Rule(
        name, kind, effect, 0.9, directions, "", never, None, None, "token", 64, 64, 95, False, (), ()
    )  # fmt: skip


def _rule(entry: dict[str, Any], pack: str) -> Rule:
    unknown = set(entry) - _KEYS
    name = str(entry.get("id", "without an id"))
    if unknown:
        raise Usage(
            "DLP-RULE",
            f"Rule {name} in {pack} has unknown keys: {', '.join(sorted(unknown))}",
            fix="Correct the spelling; docs/detection.md lists the keys of a rule.",
        )
    caseless = bool(entry.get("caseless", False))
    flags = re.IGNORECASE if caseless else re.NOFLAG
    try:
        context = re.compile(entry["context"], re.IGNORECASE) if "context" in entry else None
        return Rule(
            id=entry["id"],
            kind=entry["kind"],
            effect=Effect(entry.get("effect", "redact")),
            score=float(entry.get("score", 0.95)),
            plain_score=float(entry["plain_score"]) if "plain_score" in entry else None,
            directions=frozenset(map(Direction, entry.get("directions", ("input", "output", "document")))),
            trigger=entry["trigger"],
            pattern=re.compile(entry.get("pattern", entry["trigger"]), flags),
            context=context,
            sight=0 if context is None else min(CONTEXT, int(_parser.parse(context.pattern).getwidth()[1])),
            validator=VALIDATORS[entry["validator"]] if "validator" in entry else None,
            boundary=entry.get("boundary", "token"),
            reach=min(int(entry.get("reach", 64)), MAX_REACH),
            ahead=min(int(entry.get("ahead", 4096)), MAX_AHEAD),
            priority=int(entry.get("priority", 50)),
            caseless=caseless,
            hit=tuple(entry.get("hit", ())),
            miss=tuple(entry.get("miss", ())),
            **_about(entry),
        )
    except (KeyError, ValueError, re.error) as cause:
        raise Usage(
            "DLP-RULE",
            f"Rule {name} in {pack} is not valid: {cause}",
            fix="Correct the rule; docs/detection.md shows one of each kind.",
        ) from cause


def _about(entry: dict[str, Any]) -> dict[str, Any]:
    severity, owasp, atlas = _ABOUT.get(str(entry["kind"]).partition(".")[0], ("low", (), ()))
    severity = entry.get("severity", severity)
    if severity not in SEVERITIES:
        raise ValueError("severity")
    return {
        "severity": severity,
        "owasp": tuple(map(str, entry.get("owasp", owasp))),
        "atlas": tuple(map(str, entry.get("atlas", atlas))),
    }


def parse_pack(text: str, name: str) -> tuple[Rule, ...]:
    """The rules of one TOML document. Raises `Usage` DLP-RULE."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise Usage("DLP-RULE", f"{name} is not TOML: {cause}", fix="Correct the file.") from cause
    return tuple(_rule(entry, name) for entry in document.get("rule", ()))


def built_in_rules() -> tuple[Rule, ...]:
    """Every rule that comes with Garrison, in the order of the packs."""
    folder = files("garrison.detect") / "rules"
    return tuple(rule for pack in PACKS for rule in parse_pack((folder / pack).read_text("utf-8"), pack))


def digest(rules: Sequence[Rule]) -> str:
    """Hex SHA-256 of what the compiled database depends on."""
    state = hashlib.sha256()
    for rule in rules:
        state.update(f"{rule.id}\0{rule.trigger}\0{rule.caseless}\0".encode())
    return state.hexdigest()
