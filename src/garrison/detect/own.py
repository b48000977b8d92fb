"""What a customer added to the detectors, as the signed snapshot says it.

Patterns, registered documents, canaries, the hosts that answers may point to, and rule packs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.core.digest import is_digest
from garrison.core.errors import Refused, Usage
from garrison.detect.base import Direction, Effect
from garrison.detect.canary import MAX_CANARIES, canary_rules
from garrison.detect.copies import KEY_BYTES, MAX_SETS, Copies, CopySet, copy_rule, open_set
from garrison.detect.custom import MAX_PATTERNS, NAME, parse_pattern
from garrison.detect.hosts import MAX_HOSTS, host_rule
from garrison.detect.names import Names, name_rule
from garrison.detect.pack import MAX_PACKS, read_pack
from garrison.detect.rulepack import Rule

KEY = "key"  # the file of the key, beside those of the sets


@dataclass(frozen=True, slots=True)
class Own:
    """Rules that are looked for beside the built-in ones, and the sets of documents with their key."""

    rules: tuple[Rule, ...] = ()
    sets: tuple[CopySet, ...] = ()
    key: bytes = b""
    names: tuple[Names, Rule] | None = None  # who finds the names of people, and what is done with them

    @property
    def blocking(self) -> frozenset[str]:
        """Rules whose finding ends a request."""
        every = (*self.rules, *(one.rule for one in self.sets))
        return frozenset(rule.id for rule in every if rule.effect is Effect.BLOCK)

    def copies_in(self, direction: Direction) -> Copies | None:
        sets = [one for one in self.sets if direction in one.rule.directions]
        return Copies(sets, self.key) if sets else None

    def over(self, built_in: Sequence[Rule]) -> tuple[Rule, ...]:
        """All rules: one of a pack takes the place of the built-in one of its id."""
        names = {rule.id for rule in self.rules}
        return (*(rule for rule in built_in if rule.id not in names), *self.rules)


NOTHING_OWN = Own()


def open_own(facts: Mapping[str, Any], folder: Path | None) -> Own:
    """What `facts` (`patterns`, `copies`) name, with the sets opened in `folder`.

    Raises `Usage` DLP-PATTERN for a pattern that is none, `Refused` DLP-COPIES for a set that cannot be used.
    """
    patterns, sets = facts.get("patterns") or [], facts.get("copies") or []
    if len(patterns) > MAX_PATTERNS or len(sets) > MAX_SETS:
        raise Usage("DLP-PATTERN", "there are too many patterns or sets", fix="garrison dlp pattern list")
    rules = (*(parse_pattern(item) for item in patterns), *_tripwires(facts), *_packed(facts, folder))
    names = named(facts["names"]) if facts.get("names") else None
    if not sets:
        return Own(rules, names=names)
    if folder is None:
        raise _no_folder()
    opened = tuple(_opened(item, folder) for item in sets)
    return Own(rules, opened, read_key(folder), names)


def named(facts: Mapping[str, Any]) -> tuple[Names, Rule]:
    """Raises `Usage` DLP-PATTERN for an effect or a direction that is none, `Refused` DLP-WEIGHTS."""
    try:
        rule = name_rule(Effect(facts["effect"]), map(Direction, facts["directions"]))
    except (KeyError, TypeError, ValueError):
        raise Usage(
            "DLP-PATTERN", "what is said of names cannot be read", fix="garrison dlp names --help"
        ) from None
    if rule.effect is Effect.BLOCK or not rule.directions:
        raise Usage("DLP-PATTERN", "names are noted or redacted", fix="garrison dlp action set --help blocks")
    return Names(), rule


def with_names() -> Own:
    """Nothing but names of people, wherever they stand: for commands without a server."""
    return Own(names=named({"effect": Effect.REDACT, "directions": list(Direction)}))


def _tripwires(facts: Mapping[str, Any]) -> tuple[Rule, ...]:
    canaries, hosts = facts.get("canaries") or [], facts.get("hosts") or []
    if len(canaries) > MAX_CANARIES or len(hosts) > MAX_HOSTS:
        raise Usage("DLP-PATTERN", "there are too many canaries or hosts", fix="garrison dlp list")
    rules = [rule for item in canaries for rule in canary_rules(item["name"], item["value"])]
    return (*rules, host_rule(hosts)) if hosts else tuple(rules)


def _packed(facts: Mapping[str, Any], folder: Path | None) -> tuple[Rule, ...]:
    """The rules of the packs. Their signatures were checked when they were installed; a digest names each file."""
    packs = facts.get("packs") or []
    if len(packs) > MAX_PACKS:
        raise Usage("DLP-PACK", "there are too many packs", fix="garrison guard pack list")
    found: dict[str, Rule] = {}
    for item in packs:
        if folder is None:
            raise _no_folder()
        digest = str(item["digest"])
        try:
            data = (folder / pack_file(digest)).read_bytes()
        except OSError as cause:
            raise Refused(
                "DLP-PACK", f"the file of pack {item['name']} cannot be read", fix="install the pack again"
            ) from cause
        if hashlib.sha256(data).hexdigest() != digest.removeprefix("sha256:"):
            raise Refused("DLP-PACK", "the file of a pack is not the one installed", fix="install it again")
        found.update((rule.id, rule) for rule in read_pack(data).rules)
    return tuple(found.values())


def pack_file(digest: str) -> str:
    """The name of a pack's file. Raises `Refused` DLP-PACK for a digest that is none."""
    if not is_digest(digest):
        raise Refused("DLP-PACK", "a pack has no digest", fix="install the pack again")
    return f"pack-{digest.removeprefix('sha256:')}"


def _no_folder() -> Refused:
    return Refused("DLP-COPIES", "no folder of fingerprints is known", fix="start it with garrison up")


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
