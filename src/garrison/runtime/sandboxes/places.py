"""The host's files that a model server may read: its Python, the packages beside it, the C library."""

from __future__ import annotations

import site
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVERS = HERE.parent / "servers"
SYSTEM_LIBRARIES = (Path("/lib"), Path("/lib32"), Path("/lib64"), Path("/libx32"))


@dataclass(frozen=True, slots=True)
class Places:
    """`directories` are readable at their own paths, `links` are symbolic links to recreate."""

    directories: tuple[Path, ...]
    links: tuple[tuple[str, str], ...]


def python_places() -> Places:
    """What this very interpreter needs to start in an otherwise empty root."""
    wanted = {Path("/usr/lib"), Path("/usr/lib64"), Path("/etc/ld.so.cache"), HERE, SERVERS}
    wanted |= {Path(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    wanted |= {Path(path) for path in site.getsitepackages()}
    wanted |= {Path(sys.executable).resolve()}
    links = []
    for library in SYSTEM_LIBRARIES:
        if library.is_symlink():
            links.append((str(library.readlink()), str(library)))
        else:
            wanted.add(library)
    return Places(_outermost(path for path in wanted if path.exists()), tuple(links))


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Without those that lie beneath another, sorted, so that a parent is bound before its children."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(parent) for parent in kept):
            kept.append(path)
    return tuple(kept)
