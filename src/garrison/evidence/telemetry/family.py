"""A family of measured series: one name, one unit, one set of label names. Values only; who counts is elsewhere.

Names are OpenTelemetry's, with dots (github.com/open-telemetry/semantic-conventions-genai).
The Prometheus name follows from name, unit and kind, as OpenTelemetry's compatibility page says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

COUNTER, GAUGE, HISTOGRAM = KINDS = ("counter", "gauge", "histogram")
Labels = tuple[tuple[str, str], ...]
_SUFFIX = {"s": "_seconds", "By": "_bytes"}
MAX_POINTS = 4_096  # of one family: a scrape stays small whatever a worker says


@dataclass(frozen=True, slots=True)
class Point:
    """`value` of a counter or gauge; of a histogram the sum, with the `counts` of its buckets, the last one open."""

    labels: Labels
    value: float
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    kind: str
    unit: str
    help: str
    points: tuple[Point, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        name = self.name.replace(".", "_") + _SUFFIX.get(self.unit, "")
        return name + "_total" if self.kind == COUNTER else name

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "unit": self.unit,
            "help": self.help,
            "bounds": self.bounds,
            "points": [{"l": one.labels, "v": one.value, "c": one.counts} for one in self.points],
        }


def parse_family(value: Any) -> Family:
    """The inverse of `as_json`. Raises KeyError, TypeError or ValueError."""
    if not isinstance(value, Mapping) or value["kind"] not in KINDS or len(value["points"]) > MAX_POINTS:
        raise ValueError("not a family")
    points = tuple(
        Point(
            tuple((str(name), str(text)) for name, text in one["l"]),
            float(one["v"]),
            tuple(int(count) for count in one["c"]),
        )
        for one in value["points"]
    )
    bounds = tuple(float(bound) for bound in value["bounds"])
    if any(len(point.counts) != (len(bounds) + 1 if bounds else 0) for point in points):
        raise ValueError("not a histogram")
    return Family(str(value["name"]), value["kind"], str(value["unit"]), str(value["help"]), points, bounds)


def labelled(families: Iterable[Family], name: str, value: str) -> list[Family]:
    """Every point with one more label: whose it is."""
    return [
        replace(
            family,
            points=tuple(replace(point, labels=(*point.labels, (name, value))) for point in family.points),
        )
        for family in families
    ]


def joined(groups: Iterable[Iterable[Family]]) -> list[Family]:
    """Families of several sources, those of one name made one. Their points have to differ in a label."""
    found: dict[str, Family] = {}
    for family in (family for group in groups for family in group):
        known = found.get(family.name)
        found[family.name] = replace(known, points=known.points + family.points) if known else family
    return list(found.values())
