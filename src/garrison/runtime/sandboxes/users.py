"""A user id for each model server, so that limits, signals and files of one do not touch another."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from garrison.core.errors import Undecided

FIRST_UID = 70_000  # above what systemd hands out (65519), below the usual /etc/subuid ranges (100000)
UIDS = 1_000


def free_uid(taken: Collection[int], first: int = FIRST_UID, count: int = UIDS) -> int:
    """An id that neither `taken` nor any process of this machine uses; our own id when we are not root.

    Raises `Undecided` RUN-USERS when all are in use.
    """
    if os.geteuid() != 0:
        return os.getuid()
    used = {*taken, *_running_uids()}
    start = os.getpid() * 61  # two Garrisons of one machine that look at the same moment take different ids
    for step in range(count):
        uid = first + (start + step) % count
        if uid not in used:
            return uid
    raise Undecided(
        "RUN-USERS",
        f"all {count} user ids from {first} for model servers are in use",
        fix="stop servers that are not needed: garrison deploy status, garrison deploy stop NAME",
    )


def _running_uids() -> set[int]:
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                found.add(process.stat().st_uid)
            except OSError:
                continue  # it ended meanwhile
    return found
