"""Families as Prometheus text, exposition format 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable

from garrison.evidence.telemetry.family import HISTOGRAM, Family, Labels, Point

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(families: Iterable[Family]) -> bytes:
    lines: list[str] = []
    for family in families:
        name = family.prometheus
        if family.points:
            lines += [f"# HELP {name} {_help(family.help)}", f"# TYPE {name} {family.kind}"]
        for point in family.points:
            if family.kind == HISTOGRAM:
                lines += _buckets(name, point, family.bounds)
            else:
                lines.append(f"{name}{_labels(point.labels)} {point.value:.10g}")
    return "\n".join(lines).encode() + b"\n"


def _buckets(name: str, point: Point, bounds: tuple[float, ...]) -> list[str]:
    lines, running = [], 0
    for bound, count in zip((*bounds, float("inf")), point.counts, strict=True):
        running += count
        edge = "+Inf" if bound == float("inf") else f"{bound:.10g}"
        lines.append(f"{name}_bucket{_labels((*point.labels, ('le', edge)))} {running}")
    lines.append(f"{name}_sum{_labels(point.labels)} {point.value:.6f}")
    lines.append(f"{name}_count{_labels(point.labels)} {running}")
    return lines


def _labels(labels: Labels) -> str:
    quoted = ",".join(f'{name.replace(".", "_")}="{_quoted(value)}"' for name, value in labels)
    return "{" + quoted + "}" if labels else ""


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
