"""Third parties join by entry point; built-ins are an explicit tuple. Nothing scans folders for code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def with_installed(built_in: Sequence[T], group: str) -> tuple[T, ...]:
    """The built-ins followed by every object that installed packages offer under `garrison.<group>`."""
    name = f"garrison.{group}"
    if not _is_offered(name):
        return tuple(built_in)
    from importlib.metadata import entry_points  # 40 ms of every start, and hardly anyone has a plugin

    return (*built_in, *(point.load() for point in entry_points(group=name)))


def _is_offered(name: str) -> bool:
    """Whether the metadata of any installed package mentions the group. In doubt, yes."""
    wanted = f"[{name}]".encode()
    for place in sys.path:
        try:
            with os.scandir(place or ".") as listing:
                found = [entry.path for entry in listing if entry.name.endswith((".dist-info", ".egg-info"))]
        except FileNotFoundError:
            continue
        except OSError:  # a zip, or a folder that cannot be listed: the slow way knows what to do
            if os.path.basename(place) == f"python{sys.version_info.major}{sys.version_info.minor}.zip":
                continue  # the standard library's place for a zip of itself
            return True
        for folder in found:
            try:
                with open(os.path.join(folder, "entry_points.txt"), "rb") as stream:
                    if wanted in stream.read():
                        return True
            except (FileNotFoundError, NotADirectoryError):
                continue
    return False
