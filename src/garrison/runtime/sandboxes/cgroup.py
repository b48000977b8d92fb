"""One cgroup for each model server, where this machine lets us make them: memory, processes and processor time.

The resource limits of a process (`confine.py`) hold everywhere; this adds what they cannot count: memory that
the kernel holds for the server, and all its threads against those of another model. Version 1 and 2 of the
hierarchy are written alike: one directory for Garrison, in it one for each server's user id.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from garrison.runtime.sandboxes.base import Limits

ROOT = Path("/sys/fs/cgroup")
NAME = "garrison"
PERIOD = 100_000  # microseconds; the kernel's default
PARENT_WEIGHT = 16  # all models together against one busy thread of the host, which counts 1
SETTLED_SECONDS = 60.0  # an empty group younger than this may be about to be entered
CONTROLLERS = ("memory", "pids", "cpu")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """`parents` are the directories in which `garrison` is made: one in version 2, one a controller in 1."""

    version: int
    parents: tuple[Path, ...]


def hierarchy(root: Path = ROOT) -> Hierarchy | None:
    """What can be written here; None when memory and processes cannot be limited."""
    if (root / "cgroup.controllers").is_file():
        offered = (root / "cgroup.controllers").read_text().split()
        usable = {"memory", "pids"} <= set(offered) and os.access(root / "cgroup.subtree_control", os.W_OK)
        return Hierarchy(2, (root,)) if usable else None
    parents = tuple(root / name for name in CONTROLLERS if os.access(root / name / "cgroup.procs", os.W_OK))
    return Hierarchy(1, parents) if {"memory", "pids"} <= {path.name for path in parents} else None


def enter(
    uid: int, limits: Limits, *, memory: int = 0, threads: int = 0, root: Path = ROOT
) -> tuple[str, ...]:
    """Make or renew the group of `uid`; the files that its first process writes its id to, () when there are none.

    `memory` and `threads` are what the sandbox itself needs on top of `limits`.
    """
    found = hierarchy(root)
    if found is None:
        return ()
    wanted = _settings(found.version, limits.memory + memory, limits.threads + threads, limits.cpus)
    entries = []
    try:
        _sweep(root, uid)
        for parent in found.parents:
            group = _made(parent, found.version) / str(uid)
            group.mkdir(exist_ok=True)
            for name, value in wanted:
                if (group / name).exists():
                    (group / name).write_text(value)
            entries.append(str(group / "cgroup.procs"))
    except OSError:
        return ()  # a container whose groups are read-only: limits of the process remain, and doctor says so
    return tuple(entries)


def _settings(version: int, memory: int, threads: int, cpus: float) -> tuple[tuple[str, str], ...]:
    quota = str(int(cpus * PERIOD))
    if version == 2:
        return (
            ("memory.max", str(memory)),
            ("memory.swap.max", "0"),
            ("pids.max", str(threads)),
            ("cpu.max", f"{quota} {PERIOD}"),
        )
    return (
        ("memory.limit_in_bytes", str(memory)),
        ("pids.max", str(threads)),
        ("cpu.cfs_quota_us", quota),
    )


def _made(parent: Path, version: int) -> Path:
    ours = parent / NAME
    ours.mkdir(exist_ok=True)
    if version == 2:
        for directory in (parent, ours):
            wanted = [name for name in CONTROLLERS if name in (directory / "cgroup.controllers").read_text()]
            (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
    for name, one in (("cpu.shares", 1024), ("cpu.weight", 100)):
        if (ours / name).exists():
            (ours / name).write_text(str(PARENT_WEIGHT * one))
    return ours


def _sweep(root: Path, keep: int) -> None:
    """Remove groups that servers left behind; the kernel refuses to remove one with a process in it."""
    for group in (*root.glob(f"{NAME}/*"), *root.glob(f"*/{NAME}/*")):
        if group.name.isdigit() and int(group.name) != keep:
            with contextlib.suppress(OSError):
                if time.time() - group.stat().st_mtime > SETTLED_SECONDS:
                    for inner in (path for path in group.iterdir() if path.is_dir()):
                        inner.rmdir()  # of a container whose runtime was killed
                    group.rmdir()
