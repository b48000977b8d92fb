"""The text as its reader understands it: hidden characters out, look-alikes folded, encodings opened.

Every view keeps, for each of its characters, where it came from, so that a finding points into the
original text. Work is bounded: views together are at most `VIEW_BUDGET` characters plus twice the text.
"""

from __future__ import annotations

import base64
import re
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import Any

VIEW_BUDGET = 16_384  # characters of decoded views of one text: enough for an attack, too little to be one
MAX_ISLANDS = 16  # encoded stretches that are opened in one text
MAX_DEPTH = 2  # base64 in base64 is opened, no deeper

HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
TAGS = re.compile("[\U000e0020-\U000e007e]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_MARK = re.compile("[\u0300-\u036f]")
_WORD = re.compile(r"[^\W\d_]+")
_FOREIGN = re.compile("[\u0370-\u03ff\u0400-\u052f]")
_LATIN = re.compile("[A-Za-z]")
_RUN = re.compile(r"[^\s]+")

# Cyrillic and Greek letters that look like a Latin one (Unicode TR39 confusables, letters only).
_LOOKALIKES = str.maketrans(
    "аеорсухіјѕһԁԛԝьѵгпткмвнАВЕКМНОРСТХУІЈЅЗαοενικτυρωΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxijshdqwbvrntkmbhABEKMHOPCTXYIJS3aoevikturwABEZHIKMNOPTYX",
)
_LEET = str.maketrans("013457@$!|", "oieastasil")

_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{20,}={0,2}")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:(?:\\x|0x|%)?[0-9a-fA-F]{2}[ :,]?){12,}(?![0-9A-Za-z])")
_PERCENT = re.compile(r"(?=[^\s%+]{0,60}[%+])[A-Za-z0-9+._~%!*'()-]{12,}")
# One sign at a time; what stands between them is never one of them, so nothing is tried twice.
_SPACED = re.compile(r"(?<!\w)(?:[^\s._*|-][ ._*|-]{1,3}){7,}[^\s._*|-](?!\w)")
_BETWEEN = re.compile(r"(?<=[^\s._*|-])[ ._*|-]{1,3}(?=[^\s._*|-])")
# Words joined without a space: five or more, in one run.
_JOINED = re.compile(r"(?<!\S)(?=\S{0,400}?[-_])\S{20,}")
_JOINT = re.compile(r"(?<=[^\s_-])[-_](?=[^\s_-])")
_LEETED = re.compile(r"[A-Za-z][013457@$!][A-Za-z]|\b[013457@$!][A-Za-z]{2}")

_ENGLISH = re.compile(
    r"\b(?:the|and|you|your|all|to|of|is|in|that|this|me|my|are|not|with|for|from|what|how|can|do|be|have|or|an|"
    r"it|on|as|ignore|instructions?|system|prompt|previous|above|now|tell|show|reveal|print|forget|disregard|"
    r"rules?|write|say|please|must|will|no|any)\b",
    re.IGNORECASE,
)
SHORT = 100  # characters of a text in which one decoded word is enough when there is none in plain sight


@dataclass(frozen=True, slots=True)
class View:
    """A reading of the text. `origin[i]` is where character i came from; None means position for position."""

    name: str
    text: str
    origin: Sequence[int] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the original text behind `[start, end)` of this view."""
        if self.origin is None or not self.origin:
            return start, end
        last = len(self.origin) - 1
        ends = self.origin[min(start, last)], self.origin[min(max(end - 1, start), last)]
        return min(ends), max(ends) + 1  # a reversed view runs backwards


def normalise(text: str) -> View:
    """NFKC, hidden characters removed (tag characters shown), accents and mixed-script look-alikes folded."""
    if text.isascii():
        return View("", text)
    pieces: list[str] = []
    origin: list[int] = []
    known: dict[str, str] = {}
    done = 0
    for match in _NOT_ASCII.finditer(text):
        at = match.start()
        pieces.append(text[done:at])
        origin.extend(range(done, at))
        char = match.group()
        shown = known.get(char)
        if shown is None:
            shown = known[char] = _shown(char)
        pieces.append(shown)
        origin.extend([at] * len(shown))
        done = at + 1
    pieces.append(text[done:])
    origin.extend(range(done, len(text)))
    plain = "".join(pieces)
    if _FOREIGN.search(plain):
        plain = _WORD.sub(_fold_word, plain)
    return View("", plain, origin)


def _shown(char: str) -> str:
    if TAGS.match(char):
        return chr(ord(char) - 0xE0000)
    if HIDDEN.match(char):
        return ""
    return _MARK.sub("", unicodedata.normalize("NFKD", char))


def _fold_word(match: re.Match[str]) -> str:
    word = match.group()
    if _LATIN.search(word) and _FOREIGN.search(word):
        return word.translate(_LOOKALIKES)
    return word


VIEWS = frozenset({"base64", "hex", "url", "spaced", "joined", "rot13", "reversed", "leet"})


def views(base: View, wanted: Set[str] = VIEWS) -> Iterator[View]:
    """Decoded readings of a normalised text, of the kinds `wanted`, within the budget."""
    budget = VIEW_BUDGET
    for view in _views(base, wanted, 1):
        budget -= len(view.text)
        yield view
        if budget <= 0:
            return


def _views(base: View, wanted: Set[str], depth: int) -> Iterator[View]:
    yield from _whole_views(base, wanted)
    for name, pattern, decode in _ISLANDS:
        if name not in wanted:
            continue
        for match in islice(pattern.finditer(base.text), MAX_ISLANDS):
            decoded = decode(match.group()[:VIEW_BUDGET])
            if decoded is None or not (_english(decoded) or _BASE64.fullmatch(decoded)):
                continue
            start, end = base.span(*match.span())
            inner = View(name, decoded, _Spread(start, end, len(decoded)))
            yield inner
            if depth < MAX_DEPTH:
                yield from _views(inner, VIEWS, depth + 1)


def _whole_views(base: View, wanted: Set[str]) -> Iterator[View]:
    """Readings of the whole text, of which the head is enough."""
    head = base.text[:VIEW_BUDGET]
    origin = base.origin if base.origin is not None else range(len(base.text))
    if "rot13" in wanted and _reads_better(turned := head.translate(_ROT13_TABLE), head):
        yield View("rot13", turned, origin)
    if "reversed" in wanted:
        by_word = _RUN.sub(lambda match: match.group()[::-1], head)
        if _reads_better(by_word, head):
            yield View("reversed", head[::-1], [origin[i] for i in range(len(head) - 1, -1, -1)])
            yield View("reversed", by_word, origin)
    if "leet" in wanted and len(_LEETED.findall(head)) >= 3:
        yield View("leet", head.translate(_LEET), origin)


_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_ROT13_TABLE = str.maketrans(_UPPER + _LOWER, _UPPER[13:] + _UPPER[:13] + _LOWER[13:] + _LOWER[:13])


class _Spread(Sequence[int]):
    """Characters of a decoded stretch, spread evenly over what encoded them."""

    def __init__(self, start: int, end: int, size: int) -> None:
        self._start, self._width, self._size = start, end - start, max(size, 1)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:  # only ever asked for one place, never for a slice
        return self._start + index * self._width // self._size


def _reads_better(decoded: str, plain: str) -> bool:
    """Whether the everyday words of English stand in the decoded text rather than in the plain one."""
    hidden, shown = len(_ENGLISH.findall(decoded)), len(_ENGLISH.findall(plain))
    return hidden > 2 * shown and (hidden >= 2 or (hidden == 1 and len(plain) < SHORT))


def _english(text: str) -> bool:
    """Is there language in it? Keeps keys, pictures and digests from becoming views."""
    printable = sum(char.isprintable() or char.isspace() for char in text)
    if len(text) < 8 or printable < 0.9 * len(text):
        return False
    return bool(_ENGLISH.search(text)) or _foreign(text)


def _foreign(text: str) -> bool:
    """Words of another language: random bytes are neither valid UTF-8 nor nine tenths letters and spaces."""
    head = text[:400]
    letters = sum(char.isalpha() or char.isspace() for char in head)
    return not head.isascii() and letters >= 0.9 * len(head)


def _from_base64(value: str) -> str | None:
    compact = value.rstrip("=").replace("-", "+").replace("_", "/")
    if len(compact) % 4 == 1:
        compact = compact[:-1]
    try:
        return base64.b64decode(compact + "==").decode("utf-8")
    except ValueError:  # of either step
        return None


def _from_hex(value: str) -> str | None:
    try:
        return bytes.fromhex(re.sub(r"\\x|0x|[ :,%]", "", value)).decode("utf-8")
    except ValueError:
        return None


def _from_percent(value: str) -> str | None:
    if value.count("%") + value.count("+") < 3:
        return None
    return urllib.parse.unquote_plus(value, errors="replace")


def _from_spaced(value: str) -> str | None:
    """`i g n o r e   a l l`, `i-g-n-o-r-e a-l-l`: the commonest sign is between letters, any other between words."""
    found = Counter(_BETWEEN.findall(value))
    if not found:
        return None
    joint = found.most_common(1)[0][0]
    return _BETWEEN.sub(lambda match: "" if match.group() == joint else " ", value)


def _from_joined(value: str) -> str | None:
    """`ignore-all-previous-instructions`, `ignore_all_...`; not the path of a web page, which is written so."""
    if "://" in value:
        return None
    apart, joints = _JOINT.subn(" ", value)
    return apart if joints >= 4 else None


_ISLANDS: tuple[tuple[str, re.Pattern[str], Callable[[str], str | None]], ...] = (
    ("base64", _BASE64, _from_base64),
    ("hex", _HEX, _from_hex),
    ("url", _PERCENT, _from_percent),
    ("spaced", _SPACED, _from_spaced),
    ("joined", _JOINED, _from_joined),
)
