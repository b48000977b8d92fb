"""What every process of the data plane does at its start: close itself off, read its configuration, be small."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_DUMPABLE, _PR_SET_PDEATHSIG = 4, 1


def harden() -> None:
    """No core dump may hold a prompt or a key, no other process may read our memory; die with the parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def give_back() -> None:
    """Memory that was freed goes back to the system: compiling patterns needs tens of megabytes for a moment."""
    ctypes.CDLL(None).malloc_trim(0)


def read_config(source: str, most: int) -> bytes:
    """The configuration from an inherited descriptor (a number) or a file."""
    with open(int(source) if source.isdecimal() else source, "rb") as file:
        return file.read(most)
