"""Names of people in running text: a linear model over the capitalised words of a line and the words beside them.

What is a name is a function of a run of capitalised words and of a few characters on either side, so it is the same
however a text is cut, and costs a bounded time for each word. Only scripts with capitals have such runs. The weights
are a safetensors file, named by its digest here, and made by `make train-names`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from garrison.core.errors import Refused
from garrison.detect.base import Direction, Effect
from garrison.detect.judges import undecided
from garrison.detect.rulepack import Rule, marker

DETECTOR = "names"  # what `incomplete` calls it
WEIGHTS = "names.safetensors"
DIGEST = "a2b0541414511920ebece0f9724e2c738542a9cd4d653bec9cbb24f285039652"
BITS = 17  # of a feature's hash
LEFT, RIGHT = 48, 32  # characters beside a run that are looked at
MAX_WORDS = 6  # of a run; the next word begins another one
MAX_RUN = 288  # characters of a run: MAX_WORDS of MAX_WORD, and what stands between them
_TABLES = ("given", "family", "ordinary")


def _capitals() -> str:
    """Every capital of the scripts that have them, as the inside of a set."""
    found = [chr(code) for code in range(0x2000) if unicodedata.category(chr(code)) in ("Lu", "Lt")]
    return re.escape("".join(found))


_CAPITAL = _capitals()
_WORD = rf"(?:(?:[{_CAPITAL}]\.){{1,3}}|[{_CAPITAL}](?:\w|['\u2019-](?=\w)){{0,29}})"
_PARTICLE = "(?:van|von|de|der|den|da|do|dos|das|di|del|della|la|le|el|al|bin|bint|ibn|ter|ten|zu|af|av|y|e)"
_RUN = re.compile(
    rf"(?<![\w.@/\\#$&_'\u2019-]){_WORD}(?:[ \u00a0]{{1,2}}(?:{_PARTICLE} ){{0,3}}{_WORD}){{0,{MAX_WORDS - 1}}}"
)
_PART = re.compile(_WORD)
_BESIDE = re.compile(r"\w+|\n|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Name:
    """A stretch of a text that reads like the name of a person, and how sure that is."""

    start: int
    end: int
    score: float


class Names:
    """The model, loaded once. Raises `Refused` DLP-WEIGHTS when the file is not the one that was released."""

    def __init__(self, data: bytes | None = None, *, digest: str = DIGEST) -> None:
        stored = (files("garrison.detect") / "weights" / WEIGHTS).read_bytes() if data is None else data
        if hashlib.sha256(stored).hexdigest() != digest:
            raise Refused("DLP-WEIGHTS", f"{WEIGHTS} is not the released file", fix="reinstall Garrison")
        tables, settings = _parsed(stored)
        self._weights: list[float] = tables["weights"].astype(np.float32).tolist()
        self._known = tuple(frozenset(tables[name].tolist()) for name in _TABLES)
        self._bias = float(settings["bias"])
        self._sure, self._likely = (_odds(float(settings[key])) for key in ("sure", "likely"))

    def find(self, text: str) -> list[Name]:
        """Every name of a whole text."""
        return [name for match in _RUN.finditer(text) for name in self.judged(text, match)]

    def judged(self, text: str, run: re.Match[str]) -> Iterator[Name]:
        """The names in one run: at least one word is surely of a name, those beside it are likely to be."""
        places = [match.span() for match in _PART.finditer(text, *run.span())]
        odds = [
            self._bias + math.fsum(self._weights[one] for one in found)
            for found in features(*beside(text, run, places), self._known)
        ]
        at = 0
        while at < len(odds):
            stop = at
            while stop < len(odds) and odds[stop] >= self._likely:
                stop += 1
            best = max(odds[at:stop], default=-math.inf)
            if best >= self._sure:
                yield Name(places[at][0], _without_genitive(text, places[stop - 1]), _share(best))
            at = max(stop, at + 1)


def name_rule(effect: Effect, directions: Iterable[Direction]) -> Rule:
    """What a name is called when it is found, and what is done with it."""
    return marker("dlp.pii.person", "pii.person", effect, frozenset(directions))


class NameStream:
    """One text in pieces. `feed` gives the names that are certain now, counted from the first feed."""

    def __init__(self, names: Names, rule: Rule) -> None:
        self._names = names
        self._rule = rule
        self._held = ""
        self._base = 0  # of the first character that is held
        self._next = 0  # absolute: runs before it are judged
        self._safe = 0

    @property
    def safe(self) -> int:
        """No name that is not known yet starts before this place."""
        return self._safe

    def feed(self, text: str, *, last: bool = False) -> list[tuple[int, int, Rule]]:
        """Raises `Undecided` PRM-UNDECIDED when the recogniser fails: that is not "no name here"."""
        try:
            found = self._fed(text, last=last)
        except Exception as cause:
            raise undecided((DETECTOR,)) from cause
        return [(one.start, one.end, self._rule) for one in found]

    def _fed(self, text: str, *, last: bool) -> list[Name]:
        self._held += text
        base, end = self._base, self._base + len(self._held)
        found: list[Name] = []
        self._safe = end
        for match in _RUN.finditer(self._held, max(0, self._next - base)):
            if base + match.end() + RIGHT > end and not last:
                self._safe = base + match.start()
                break
            found.extend(
                Name(base + name.start, base + name.end, name.score)
                for name in self._names.judged(self._held, match)
            )
            self._next = base + match.end()
        self._next = max(self._next, self._safe)
        keep = self._next - LEFT - 1
        if keep > base + 4 * MAX_RUN:
            self._held, self._base = self._held[keep - base :], keep
        return found


def beside(
    text: str, run: re.Match[str], places: Sequence[tuple[int, int]]
) -> tuple[list[str], list[str], list[str]]:
    """The words before a run, of it and behind it."""
    start, end = run.span()
    before = _BESIDE.findall(text, max(0, start - LEFT), start)[-3:]
    after = _BESIDE.findall(text, end, end + RIGHT)[:3]
    return before, [text[low:high] for low, high in places], after


def features(
    before: list[str], run: list[str], after: list[str], known: Sequence[frozenset[int]]
) -> Iterator[list[int]]:
    """The hashed features of each word of a run."""
    words = [*["^"] * (3 - len(before)), *before, *run, *after, *["$"] * (3 - len(after))]
    low = [word.lower() for word in words]
    kind = [_kind(word, known) for word in low]
    size = str(len(run))
    alone = "^" if words[2] in '^\n.!?:-*"\u2022' else "_"  # a capital that stands there says little
    for at in range(3, 3 + len(run)):
        word, here, shape = low[at], kind[at], _shape(words[at])
        one, two, three = low[at - 1], low[at - 2], low[at - 3]
        then, beyond = low[at + 1], low[at + 2]
        place = f"{at - 3}{size}{alone}"
        texts = (
            f"w{word}", f"s{word[-3:]}", f"t{word[-2:]}", f"h{word[:3]}", f"k{here}", f"x{shape}", f"p{place}",
            f"1{one}", f"2{two}", f"3{three}", f"4{then}", f"5{beyond}",
            f"12{one} {two}", f"45{then} {beyond}", f"14{one} {then}",
            f"1k{one} {here}", f"4k{then} {here}", f"kk{kind[at - 1]}{here}", f"ll{here}{kind[at + 1]}",
            f"kp{here}{place}", f"xk{shape}{here}", f"kkk{kind[at - 1]}{here}{kind[at + 1]}{size}",
            f"xx{_shape(words[at - 1])}{shape}{_shape(words[at + 1])}", f"1p{one}{place}", f"4p{then}{place}",
            f"all{''.join(kind[3 : 3 + len(run)])}{alone}", f"wa{word}{alone}", f"w1{one} {word}",
        )  # fmt: skip
        yield [zlib.crc32(one.encode("utf-8", "surrogatepass")) & (1 << BITS) - 1 for one in texts]


def hashed(word: str) -> int:
    """How a word is kept in the tables."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def _kind(word: str, known: Sequence[frozenset[int]]) -> str:
    """Which tables know a word or the parts of a double name: a sign for each."""
    bare = word.removesuffix("'s").removesuffix("\u2019s")
    value = hashed(bare)
    sign = sum(1 << at for at, table in enumerate(known) if value in table)
    if not sign and "-" in bare:
        parts = bare.split("-")
        sign = sum(1 << at for at, table in enumerate(known) if all(hashed(part) in table for part in parts))
    return str(sign)


def _shape(word: str) -> str:
    if not word[:1].isupper():
        return "d" if word.isdigit() else "a" if word.isalpha() else word[:1]
    if len(word) == 1 or word[1:2] == ".":
        return "I"
    if word.isupper():
        return "U" if len(word) > 3 else "u"
    if word[1:].islower() and word.isalpha():
        return "X"
    return "D" if any(char.isdigit() or char == "_" for char in word) else "M"


def _without_genitive(text: str, place: tuple[int, int]) -> int:
    """Where a name ends: `Anna's` is of Anna."""
    start, end = place
    return end - 2 if text[start:end].endswith(("'s", "\u2019s")) else end


def _odds(share: float) -> float:
    return math.log(share / (1 - share))


def _share(odds: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, odds))))


def _parsed(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tables of a safetensors file, and its settings. Its digest was compared."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    settings = header.pop("__metadata__")
    types = {"F16": np.float16, "U32": np.uint32}
    tables = {
        name: np.frombuffer(data[8 + size :][slice(*entry["data_offsets"])], types[entry["dtype"]])
        for name, entry in header.items()
    }
    return tables, settings
