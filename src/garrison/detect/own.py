"""What a customer added to the detectors: patterns and registered documents, as the signed snapshot says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.core.digest import is_digest
from garrison.core.errors import Refused, Usage
from garrison.detect.base import Direction, Effect
from garrison.detect.copies import KEY_BYTES, MAX_SETS, Copies, CopySet, copy_rule, open_set
from garrison.detect.custom import MAX_PATTERNS, NAME, parse_pattern
from garrison.detect.rulepack import Rule

KEY = "key"  # the file of the key, beside those of the sets


@dataclass(frozen=True, slots=True)
class Own:
    """Rules that are looked for beside the built-in ones, and the sets of documents with their key."""

    rules: tuple[Rule, ...] = ()
    sets: tuple[CopySet, ...] = ()
    key: bytes = b""

    @property
    def blocking(self) -> frozenset[str]:
        """Rules whose finding ends a request."""
        every = (*self.rules, *(one.rule for one in self.sets))
        return frozenset(rule.id for rule in every if rule.effect is Effect.BLOCK)

    def copies_in(self, direction: Direction) -> Copies | None:
        sets = [one for one in self.sets if direction in one.rule.directions]
        return Copies(sets, self.key) if sets else None


NOTHING_OWN = Own()


def open_own(facts: Mapping[str, Any], folder: Path | None) -> Own:
    """What `facts` (`patterns`, `copies`) name, with the sets opened in `folder`.

    Raises `Usage` DLP-PATTERN for a pattern that is none, `Refused` DLP-COPIES for a set that cannot be used.
    """
    patterns, sets = facts.get("patterns") or [], facts.get("copies") or []
    if len(patterns) > MAX_PATTERNS or len(sets) > MAX_SETS:
        raise Usage("DLP-PATTERN", "there are too many patterns or sets", fix="garrison dlp pattern list")
    rules = tuple(parse_pattern(item) for item in patterns)
    if not sets:
        return Own(rules)
    if folder is None:
        raise Refused("DLP-COPIES", "no folder of fingerprints is known", fix="start it with garrison up")
    opened = tuple(_opened(item, folder) for item in sets)
    return Own(rules, opened, read_key(folder))


def read_key(folder: Path) -> bytes:
    """The key of all hashes. Raises `Refused` DLP-COPIES."""
    try:
        key = (folder / KEY).read_bytes()
    except OSError as cause:
        raise Refused(
            "DLP-COPIES", "the key of the fingerprints cannot be read", fix="register the documents again"
        ) from cause
    if len(key) != KEY_BYTES:
        raise Refused("DLP-COPIES", "the key of the fingerprints is none", fix="register the documents again")
    return key


def _opened(item: Mapping[str, Any], folder: Path) -> CopySet:
    name, digest = str(item["name"]), str(item["digest"])
    if not NAME.fullmatch(name) or not is_digest(digest):
        raise Refused("DLP-COPIES", "a set of fingerprints has no name or digest", fix="register it again")
    rule = copy_rule(name, Effect(item["effect"]), map(Direction, item["directions"]))
    value = digest.removeprefix("sha256:")
    return open_set(folder / value, value, rule)
