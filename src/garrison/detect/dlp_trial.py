"""What the value detectors are worth on labelled spans: recall, precision, and harmless look-alikes hit.

A span is found when 90 % of its characters are covered by what the direction hides or notes. A finding is
right when it touches a labelled span or one that the set says to ignore.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from garrison.core.errors import Usage
from garrison.detect.base import TextFinding
from garrison.detect.figures import Rate

COVERED = 0.9
MAX_SPANS = 10_000  # of one text
VALUES = ("secret.", "pii.")
_FIX = 'Write {"text", "spans": [{"start", "end", "type", "cls", "tier"}], "hard_negatives": [...]} a line.'


@dataclass(frozen=True, slots=True)
class Labelled:
    """A stretch that a person labelled. `cls` is `secret` or `pii`; `tier` says how sure its form is."""

    start: int
    end: int
    type: str
    cls: str = ""
    tier: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    text: str
    spans: tuple[Labelled, ...]
    hard: tuple[Labelled, ...]
    ignored: tuple[Labelled, ...]


def parse(row: Any, number: int) -> Row:
    """One row of a set. Raises `Usage` GRD-SET."""
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise Usage("GRD-SET", f"line {number} has no text", fix=_FIX)
    try:
        return Row(
            text,
            *(
                tuple(_span(item, len(text)) for item in list(row.get(key) or ())[:MAX_SPANS])
                for key in ("spans", "hard_negatives", "ignore")
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise Usage("GRD-SET", f"line {number} has a span that is none: {cause}", fix=_FIX) from cause


def _span(item: Any, size: int) -> Labelled:
    start, end = item["start"], item["end"]
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= size:
        raise ValueError("start and end")
    return Labelled(
        start,
        end,
        str(item.get("type", ""))[:60],
        str(item.get("cls", ""))[:20],
        str(item.get("tier", ""))[:20],
    )


@dataclass(slots=True)
class Counts:
    hits: int = 0
    of: int = 0

    def add(self, *, hit: bool) -> None:
        self.hits += hit
        self.of += 1

    @property
    def rate(self) -> Rate:
        return Rate(self.hits, self.of)


def report(judged: Iterable[tuple[Row, Sequence[TextFinding]]]) -> dict[str, Any]:
    """Everything measured, ready for JSON."""
    groups: dict[tuple[str, str], Counts] = defaultdict(Counts)
    recall, precision, hard, texts = Counts(), Counts(), Counts(), 0
    for row, findings in judged:
        texts += 1
        found = [finding for finding in findings if finding.kind.startswith(VALUES)]
        for span in row.spans:
            hit = _covered(span, found) >= COVERED * (span.end - span.start)
            recall.add(hit=hit)
            for by, name in (
                ("class and tier", f"{span.cls} {span.tier}".strip()), ("class", span.cls), ("type", span.type)
            ):  # fmt: skip
                groups[by, name].add(hit=hit)
        for span in row.hard:
            hit = any(_touches(span, finding) for finding in found)
            hard.add(hit=hit)
            groups["hard negative", span.type].add(hit=hit)
        for finding in found:
            if not any(_touches(span, finding) for span in row.ignored):
                precision.add(hit=any(_touches(span, finding) for span in row.spans))
    order = ("class", "class and tier", "type", "hard negative")
    return {
        "schema": "garrison.dlp-eval/1",
        "texts": texts,
        "recall": recall.rate.as_json(),
        "precision": precision.rate.as_json(),
        "hard_negatives_hit": hard.rate.as_json(),
        "slices": [
            {"by": by, "name": name, **counts.rate.as_json()}
            for (by, name), counts in sorted(
                groups.items(), key=lambda one: (order.index(one[0][0]), one[0][1])
            )
        ],
    }


def _touches(span: Labelled, finding: TextFinding) -> bool:
    return span.start < finding.end and finding.start < span.end


def _covered(span: Labelled, findings: Sequence[TextFinding]) -> int:
    """Characters of the span under at least one finding."""
    reached, total = span.start, 0
    for finding in sorted(findings, key=lambda one: one.start):
        start, end = max(finding.start, reached), min(finding.end, span.end)
        if start < end:
            total += end - start
            reached = end
    return total
