"""A refusal code: its title and its page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """`title` in a few words; `page` says what happened, why it is refused and what to do."""

    title: str
    page: str
