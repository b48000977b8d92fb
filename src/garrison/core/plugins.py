"""Third parties join by entry point; built-ins are an explicit tuple. Nothing scans folders."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TypeVar

T = TypeVar("T")


def with_installed(built_in: Sequence[T], group: str) -> tuple[T, ...]:
    """The built-ins followed by every object that installed packages offer under `garrison.<group>`."""
    return (*built_in, *(point.load() for point in entry_points(group=f"garrison.{group}")))
