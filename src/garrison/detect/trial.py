"""What the guard is worth on labelled texts: recall and false alarms, in total and by slice.

A text counts as found when `Inspector.inspect` blocks it: signatures, classifier and views together, as
the gateway runs them. Texts of families that the weights learnt from are counted apart: a figure on
those is a memory, not a measurement.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from garrison.core.errors import Usage
from garrison.detect.base import Direction
from garrison.detect.figures import Rate, area, limit_for
from garrison.detect.mutate import ENCODINGS

ATTACKS = frozenset({"injection", "jailbreak"})
HARMLESS = frozenset({"benign", "hard-benign"})
CHANNELS = {"user": Direction.INPUT, "document": Direction.DOCUMENT}
MAX_ENCODED = 700  # characters of a text that is encoded: longer ones are cut by nobody who hides an order
SLICES = ("family", "label", "encoding", "language", "channel")
_FIX = 'Write {"id", "text", "label": "injection|jailbreak|benign|hard-benign", "channel", "family"} a line.'


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled text. `encoding` is `plain` or how it was hidden."""

    text: str
    label: str
    channel: str
    family: str
    language: str
    encoding: str = "plain"

    @property
    def is_attack(self) -> bool:
        return self.label in ATTACKS

    @property
    def direction(self) -> Direction:
        return CHANNELS[self.channel]


@dataclass(frozen=True, slots=True)
class Judged:
    sample: Sample
    score: float
    blocked: bool


def parse(row: Any, number: int, channel: str = "user") -> Sample:
    """One row of a set. Raises `Usage` GRD-SET."""
    text = row.get("text") if isinstance(row, dict) else None
    label = row.get("label") if isinstance(row, dict) else None
    if not isinstance(text, str) or label not in ATTACKS | HARMLESS:
        raise Usage("GRD-SET", f"line {number} is no labelled text", fix=_FIX)
    where = row.get("channel", channel)
    if where not in CHANNELS:
        raise Usage("GRD-SET", f"line {number} has a channel that is neither user nor document", fix=_FIX)
    language = row.get("language") or row.get("lang") or script(text)
    return Sample(text, label, where, str(row.get("family", "unnamed"))[:60], str(language)[:20])


def script(text: str) -> str:
    """The writing system of most letters in the head of a text, for sets that name no language."""
    found: Counter[str] = Counter()
    for char in text[:400]:
        if char.isalpha():
            found["LATIN" if char.isascii() else unicodedata.name(char, "OTHER").split()[0]] += 1
    if not found:
        return "script:none"
    name = found.most_common(1)[0][0].lower()
    accented = name == "latin" and sum(char.isalpha() and not char.isascii() for char in text[:400]) > 2
    return f"script:{name}{'-accented' if accented else ''}"


def chosen(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most `most` samples, the same ones every time whatever their order: by a digest of the text."""
    if not most or len(samples) <= most:
        return list(samples)
    return sorted(samples, key=lambda sample: _digest(sample.text))[:most]


def encoded(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Every short sample as it stands and in every encoding."""
    for sample in samples:
        if sample.channel != "user" or not 12 <= len(sample.text) <= MAX_ENCODED:
            continue
        yield sample
        for name, encode in ENCODINGS.items():
            yield replace(sample, text=encode(sample.text), encoding=name)


def report(judged: Sequence[Judged], seen: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Everything measured, ready for JSON. `seen` are the families that the weights learnt from."""
    slices = []
    for by in SLICES:
        groups: dict[str, list[Judged]] = defaultdict(list)
        for item in judged:
            groups[getattr(item.sample, by)].append(item)
        for name in sorted(groups):
            learnt = {"seen_in_training": True} if by == "family" and name in seen else {}
            slices.append({"by": by, "name": name, **_rates(groups[name]), **learnt})
    fresh = [item for item in judged if item.sample.family not in seen]
    plain = [item for item in judged if item.sample.encoding == "plain"]
    return {
        "schema": "garrison.guard-eval/1",
        "texts": len(judged),
        "total": {**_rates(judged), **_curve(plain)},
        "unseen": {"texts": len(fresh), **_rates(fresh)},
        "seen_families": sorted({item.sample.family for item in judged} & seen),
        **({"encoded": _encoded(judged)} if len(plain) < len(judged) else {}),
        "slices": slices,
    }


def _rates(items: Sequence[Judged]) -> dict[str, Any]:
    return {
        "recall": _rate(items, lambda sample: sample.is_attack).as_json(),
        "false_alarms": _rate(items, lambda sample: sample.label == "benign").as_json(),
        "hard_false_alarms": _rate(items, lambda sample: sample.label == "hard-benign").as_json(),
    }


def _rate(items: Iterable[Judged], wanted: Callable[[Sample], bool]) -> Rate:
    found = [item.blocked for item in items if wanted(item.sample)]
    return Rate(sum(found), len(found))


def _curve(items: Sequence[Judged]) -> dict[str, Any]:
    """What holds at any threshold, per channel: a threshold is set per channel too."""
    curve = {}
    for channel in CHANNELS:
        attacks = [item.score for item in items if item.sample.is_attack and item.sample.channel == channel]
        harmless = [
            item.score for item in items if item.sample.label == "benign" and item.sample.channel == channel
        ]
        known = area(attacks, harmless)
        if known is None:
            continue
        limit = limit_for(harmless, 0.01)
        recall = Rate(sum(score >= limit for score in attacks), len(attacks))
        curve[channel] = {
            "auc": round(known, 4),
            "threshold_at_1_percent": round(limit, 6),
            "recall_at_1_percent": recall.as_json(),
        }
    return {"curves": curve}


def _encoded(judged: Sequence[Judged]) -> dict[str, Any]:
    """Recall of hidden attacks against the same in plain text, over all encodings and for the worst."""
    plain = _rate(judged, lambda sample: sample.is_attack and sample.encoding == "plain")
    hidden = _rate(judged, lambda sample: sample.is_attack and sample.encoding != "plain")
    alarms = _rate(judged, lambda sample: not sample.is_attack and sample.encoding != "plain")
    each = {
        name: _kept(_rate(judged, lambda sample, n=name: sample.is_attack and sample.encoding == n), plain)  # type: ignore[misc]  # a default binds the loop's value
        for name in ENCODINGS
    }
    return {
        "plain_recall": plain.as_json(),
        "recall": hidden.as_json(),
        "kept": _kept(hidden, plain),
        "kept_each": each,
        "false_alarms": alarms.as_json(),
    }


def _kept(found: Rate, plain: Rate) -> float | None:
    if found.value is None or not plain.value:
        return None
    return round(found.value / plain.value, 4)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
