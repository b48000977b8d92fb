"""What the house tests read: the tracked files, and the syntax trees of the package."""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "garrison"


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """Every file under version control that still exists; an unpacked archive has none and fails loudly."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def markdown_files() -> tuple[Path, ...]:
    return tuple(path for path in tracked_files() if path.suffix == ".md")


@functools.cache
def package_sources() -> tuple[tuple[str, str, ast.Module], ...]:
    """Path below the repository, text and tree of every module of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        found.append((path.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    return tuple(found)
