"""Which versions a question means: by state, tier, owner, and words in what is known of them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from garrison.artifacts import attachment_store
from garrison.artifacts.store import Release
from garrison.core.decision import Tier
from garrison.core.digest import Ref
from garrison.core.errors import Usage

MAX_WORDS = 16
MAX_TEXT = 200  # characters of a question
BILL = "bom"  # the kind of an attachment that is a bill of materials


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


class Licences:
    """The licences that bills of materials name, by version; kept, and read again where a newer one is attached.

    They only help to find a version, so their signatures are not asked here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], tuple[int, str]] = {}

    def of(self, connection: sa.Connection) -> Mapping[tuple[str, int], tuple[int, str]]:
        """(name, version) -> (place of the bill, its licences in one text)."""
        with self._lock:
            for name, version, place in attachment_store.places(connection, BILL):
                if self._known.get((name, version), (0, ""))[0] != place:
                    envelope = attachment_store.at_place(connection, Ref(name, version), place)
                    self._known[name, version] = place, " ".join(_licences(envelope))
            return self._known


def _licences(envelope: bytes) -> Iterable[str]:
    try:
        bill = json.loads(base64.b64decode(json.loads(envelope)["payload"]))["predicate"]
        for row in bill["metadata"]["component"].get("licenses", ()):
            yield from (str(value) for value in row.get("license", row).values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # not as Garrison writes it: whoever verifies the version is told


def matches(question: Question, release: Release, state: str, owner: str, licences: str = "") -> bool:
    """Whether a version is meant; what its row does not know of now comes beside it."""
    if question.states and state not in question.states:
        return False
    if question.tiers and release.tier.value not in question.tiers:
        return False
    if question.owner and question.owner not in (owner, release.owner):
        return False
    words = question.words()
    if not words:
        return True
    known = "\n".join((*described(release, owner), licences)).casefold()
    return all(word in known for word in words)


def described(release: Release, owner: str = "") -> Iterable[str]:
    """Every text of a version that a search looks at: names, people, files, formats, findings, globals, operators."""
    yield from (str(release.ref), release.tier.value, owner or release.owner, release.publisher)
    yield from (release.source, release.digest)
    yield from (entry.path for entry in release.manifest)
    for file in release.scan.get("files", ()):
        yield str(file.get("format", ""))
        for row in file.get("findings", ()):
            yield f"{row.get('rule_id', '')} {row.get('message', '')}"
    yield from map(str, release.scan.get("seen", ()))


def waivers(scan: Mapping[str, Any]) -> list[dict[str, str]]:
    """The findings of a scan that a policy file lets pass: which, by whom, until when, and why."""
    return [
        {
            "path": str(file.get("path", "")),
            "rule_id": str(row.get("rule_id", "")),
            **{key: str(row["suppressed"].get(key, "")) for key in ("owner", "until", "reason")},
        }
        for file in scan.get("files", ())
        for row in file.get("findings", ())
        if row.get("suppressed")
    ]
