"""The words of detection: which way a text goes, what was found in it, what may pass on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Who wrote the text: a caller, a model, or the author of a document that a model will read."""

    INPUT = "input"
    OUTPUT = "output"
    DOCUMENT = "document"


class Effect(StrEnum):
    """What a rule does to the text. `note` reports only."""

    NOTE = "note"
    REDACT = "redact"
    BLOCK = "block"


class Outcome(StrEnum):
    """What happens to the whole text."""

    ALLOW = "allow"
    REDACT = "redact"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class TextFinding:
    """One observation. `start`/`end` are code points of the inspected text, half-open; never the content.

    `kind` is `injection`, `jailbreak`, `exfiltration`, `proprietary`, `pii.<type>` or `secret.<type>`. `view` names the
    decoding that showed it (`base64`, `rot13` ...), empty when it stood in plain sight.
    """

    rule_id: str
    kind: str
    score: float
    start: int
    end: int
    view: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The answer. `score` belongs to injection and jailbreak findings together; `text` may pass on.

    A blocked text passes nothing on: `text` is empty. `incomplete` names the detectors that failed; it is only ever
    seen by who said that such a text may pass. Until a `doubt` is settled nothing passes on. `observed` says that the
    text would have been blocked and is only observed.
    """

    verdict: Outcome
    score: float
    findings: tuple[TextFinding, ...]
    text: str
    incomplete: tuple[str, ...] = ()
    doubt: Doubt | None = None
    observed: bool = False


@dataclass(frozen=True, slots=True)
class Opinion:
    """Of one reading: its score on our scale, and the stretch of the reading that it comes from."""

    score: float
    start: int
    end: int


Opinions = tuple[Opinion, ...]


@dataclass(frozen=True, slots=True)
class Doubt:
    """What the first tier left open: the readings, its score of each, and what becomes of the text.

    `settle` takes an opinion of each reading, or None when there was no answer that can be true: then the text is
    undecided (`Undecided` PRM-UNDECIDED), unless its route says that the others judge alone.
    """

    direction: Direction
    texts: tuple[str, ...]
    first: tuple[float, ...]
    seconds: float
    settle: Callable[[Opinions | None], Inspection]
