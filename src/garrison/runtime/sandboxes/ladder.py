"""The names of the isolation levels, weakest first, and which of them this machine can run."""

from __future__ import annotations

import difflib

from garrison.core.errors import Usage
from garrison.core.plugins import with_installed
from garrison.runtime.sandboxes.base import Availability, Sandbox
from garrison.runtime.sandboxes.bwrap import Bubblewrap
from garrison.runtime.sandboxes.gvisor import Gvisor
from garrison.runtime.sandboxes.landlock import Landlock
from garrison.runtime.sandboxes.microvm import MicroVM
from garrison.runtime.sandboxes.pod import Pod
from garrison.runtime.sandboxes.runc import Runc
from garrison.runtime.sandboxes.start import unavailable

LEVELS = ("landlock", "bwrap", "runc", "gvisor", "microvm")
DEFAULT_LEVEL = "bwrap"
# `pod` is no rung: it is what is left to do inside a pod whose runtime class is the wall.
BUILT_IN: tuple[Sandbox, ...] = (Landlock(), Bubblewrap(), Runc(), Gvisor(), MicroVM(), Pod())


def sandbox_for(level: str) -> Sandbox:
    """The sandbox of exactly this level, ready to launch; never another one in its place.

    Raises `Usage` ISO-UNKNOWN for a name that is no level, `Undecided` ISO-UNAVAILABLE when this release
    or this machine cannot run it.
    """
    offered = {sandbox.level: sandbox for sandbox in with_installed(BUILT_IN, "sandboxes")}
    if level not in {*LEVELS, *offered}:
        near = difflib.get_close_matches(level, LEVELS, 1)
        raise Usage(
            "ISO-UNKNOWN",
            f"{level!r} is not an isolation level",
            evidence={"level": level, "levels": list(LEVELS)},
            fix=f"did you mean {near[0]}?" if near else f"choose one of {', '.join(LEVELS)}",
        )
    found = offered[level].available()
    if not found.ok:
        raise unavailable(level, found.missing)
    return offered[level]


def availability() -> tuple[Availability, ...]:
    """Every known level, weakest first."""
    offered = {sandbox.level: sandbox for sandbox in with_installed(BUILT_IN, "sandboxes")}
    return tuple(offered[level].available() for level in LEVELS)
