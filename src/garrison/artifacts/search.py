"""Which versions a question means: by state, tier, owner, and words in what is known of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from garrison.artifacts.store import Release
from garrison.core.decision import Tier
from garrison.core.errors import Usage

MAX_WORDS = 16
MAX_TEXT = 200  # characters of a question


@dataclass(frozen=True, slots=True)
class Question:
    """Empty fields ask nothing. Every word of `text` has to be somewhere in the version."""

    states: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    owner: str = ""
    text: str = ""

    def words(self) -> tuple[str, ...]:
        """Raises `Usage` ARG-MISSING for a question that is longer than any."""
        words = tuple(self.text.casefold().split())
        if len(self.text) > MAX_TEXT or len(words) > MAX_WORDS:
            raise Usage(
                "ARG-MISSING",
                f"the search has {len(self.text)} characters",
                fix=f"search for at most {MAX_WORDS} words, {MAX_TEXT} characters together",
            )
        return words


def check(question: Question) -> None:
    """Raises `Usage` PAT-TIER for what is no tier."""
    question.words()
    for tier in question.tiers:
        if tier not in {known.value for known in Tier}:
            raise Usage(
                "PAT-TIER",
                f"{tier!r} is not a sensitivity tier",
                fix=f"choose one of {', '.join(known.value for known in Tier)}",
            )


def matches(question: Question, release: Release, state: str, owner: str) -> bool:
    """Whether a version is meant; `state` and `owner` are those of now, which its row does not know."""
    if question.states and state not in question.states:
        return False
    if question.tiers and release.tier.value not in question.tiers:
        return False
    if question.owner and question.owner not in (owner, release.owner):
        return False
    words = question.words()
    if not words:
        return True
    known = "\n".join(described(release, owner)).casefold()
    return all(word in known for word in words)


def described(release: Release, owner: str = "") -> Iterable[str]:
    """Every text of a version that a search looks at: names, people, files, formats, findings, globals."""
    yield from (str(release.ref), release.tier.value, owner or release.owner, release.publisher)
    yield from (release.source, release.digest)
    yield from (entry.path for entry in release.manifest)
    for file in release.scan.get("files", ()):
        yield str(file.get("format", ""))
        for row in file.get("findings", ()):
            yield f"{row.get('rule_id', '')} {row.get('message', '')}"
