"""Copies of registered documents: any 8 words in their order, found in a text that arrives in pieces.

The store holds keyed hashes of every 8 consecutive words, never a word. Every one and not a sample of them:
winnowing promises to find only copies that are longer than its shingles, and 8 words is the promise here.
A word is compared without case, compatibility forms and hidden characters; what stands between words does
not count unless it is more than `MAX_GAP` characters.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import unicodedata
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.core.errors import Refused, Usage
from garrison.detect.base import Direction, Effect
from garrison.detect.normalise import HIDDEN
from garrison.detect.rulepack import Rule, marker

WORDS = 8
MAX_WORD = 64  # characters; a longer run is read as several words
MAX_GAP = 64  # characters between two words; more of them end a passage
MAX_DOCUMENTS = 10_000  # over all sets
MAX_SHINGLES = 8_000_000  # over all sets: 64 MB, mapped and shared by the workers
MAX_SETS = 32
KEY_BYTES = 32
_MAGIC = b"GARRCPY1"

# Scripts that are written without spaces: each character is a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_HIDDEN = HIDDEN.pattern[1:-1]
_WORD = re.compile(rf"[{_UNSPACED}]|(?:[^\W_{_UNSPACED}]|[{_HIDDEN}]){{1,{MAX_WORD}}}")


@dataclass(frozen=True, slots=True)
class CopySet:
    """The hashes of one set of documents, sorted; a view of a mapped file."""

    rule: Rule
    hashes: Sequence[int]

    def has(self, value: int) -> bool:
        at = bisect_left(self.hashes, value)
        return at < len(self.hashes) and self.hashes[at] == value


class Copies:
    """The sets that apply in one direction, and the key of their hashes."""

    def __init__(self, sets: Iterable[CopySet], key: bytes) -> None:
        self.sets = tuple(sets)
        self.key = key

    def open(self) -> CopyStream:
        return CopyStream(self)

    def find(self, text: str) -> list[tuple[int, int, Rule]]:
        """Every 8 words of the text that stand in a registered document."""
        return self.open().feed(text, last=True)


class CopyStream:
    """One text in pieces: what is found is a function of the text alone, however it is cut."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._pending = ""  # a word that may go on
        self._seen = 0
        self._end = 0  # behind the last whole word
        self._passage: deque[tuple[bytes, int]] = deque(maxlen=WORDS)

    @property
    def safe(self) -> int:
        """No copy that is not known yet starts before this place."""
        if self._passage:
            return self._passage[-min(len(self._passage), WORDS - 1)][1]
        return self._seen - len(self._pending)

    def feed(self, text: str, *, last: bool = False) -> list[tuple[int, int, Rule]]:
        """The passages (start, end, rule of the set) that are complete now, counted from the first feed."""
        held, base = self._pending + text, self._seen - len(self._pending)
        self._seen += len(text)
        self._pending = ""
        found: list[tuple[int, int, Rule]] = []
        for match in _WORD.finditer(held):
            start, end = match.span()
            if end == len(held) and end - start < MAX_WORD and not last:
                self._pending = held[start:]
                break
            word = _plain(match.group())
            if not word:
                continue
            if self._passage and base + start - self._end > MAX_GAP:
                self._passage.clear()
            self._passage.append((word, base + start))
            self._end = base + end
            if len(self._passage) == WORDS:
                found.extend(self._look())
        if self._passage and self._seen - len(self._pending) - self._end > MAX_GAP:
            self._passage.clear()
        return found

    def _look(self) -> Iterator[tuple[int, int, Rule]]:
        value = _hash((word for word, _ in self._passage), self._copies.key)
        for one in self._copies.sets:
            if one.has(value):
                yield self._passage[0][1], self._end, one.rule


def shingles(text: str, key: bytes) -> set[int]:
    """The hashes of every 8 consecutive words of a document."""
    words = [plain for match in _WORD.finditer(text) if (plain := _plain(match.group()))]
    return {_hash(words[at : at + WORDS], key) for at in range(len(words) - WORDS + 1)}


def packed(hashes: Iterable[int]) -> bytes:
    """The file of one set."""
    ordered = sorted(set(hashes))
    return _MAGIC + b"".join(value.to_bytes(8, "little") for value in ordered)


def copy_rule(name: str, effect: Effect, directions: Iterable[Direction]) -> Rule:
    return marker(f"dlp.copy.{name}", "proprietary", effect, frozenset(directions))


def open_set(path: Path, digest: str, rule: Rule) -> CopySet:
    """Map one file. Raises `Refused` DLP-COPIES when it is not the one that was registered."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as cause:
        raise _missing(rule.id, "cannot be read") from cause
    if hashlib.sha256(data).hexdigest() != digest or data[:8] != _MAGIC or len(data) % 8:
        raise _missing(rule.id, "is not the one that was registered")
    return CopySet(rule, memoryview(data)[8:].cast("Q"))


def check_room(documents: int, hashes: int, sets: int) -> None:
    """Raises `Usage` DLP-FULL when the store would grow over its bounds."""
    for name, value, most in (
        ("documents", documents, MAX_DOCUMENTS),
        ("passages", hashes, MAX_SHINGLES),
        ("sets", sets, MAX_SETS),
    ):
        if value > most:
            raise Usage(
                "DLP-FULL",
                f"there would be {value} registered {name}; at most {most} are kept",
                fix="garrison dlp fingerprint list, then garrison dlp fingerprint remove NAME",
            )


def _plain(word: str) -> bytes:
    if not word.isascii():
        word = unicodedata.normalize("NFKC", HIDDEN.sub("", word))
    return word.casefold().encode("utf-8", "surrogatepass")


def _hash(words: Iterable[bytes], key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(b" ".join(words), key=key, digest_size=8).digest(), "little")


def _missing(rule: str, why: str) -> Refused:
    return Refused(
        "DLP-COPIES",
        f"the fingerprints of {rule} cannot be used: the file {why}",
        fix="register the documents again: garrison dlp fingerprint add DIR --name NAME",
    )
