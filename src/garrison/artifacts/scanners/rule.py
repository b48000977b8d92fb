"""What a page about a rule is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """`title` names what was seen, `why` says what it can do, `fix` is an instruction to follow now."""

    title: str
    why: str
    fix: str
