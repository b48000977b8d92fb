"""What this kernel offers to a sandbox, found by looking and by one harmless try."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from garrison.confine.seccomp import machine_named

LANDLOCK_CREATE_RULESET = 444
LANDLOCK_VERSION_FLAG = 1
NOBODY = 65534  # any unprivileged user answers the question
TRY_TIMEOUT = 10.0  # seconds; it takes about 0.03

_TRY = """
import os, sys
uid = int(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
os.execve(sys.argv[2], sys.argv[2:], {})
"""


def landlock_abi() -> int:
    """The kernel's Landlock ABI; 0 when it is not there or not enabled at boot."""
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(
        ctypes.c_long(LANDLOCK_CREATE_RULESET),
        None,
        ctypes.c_size_t(0),
        ctypes.c_uint32(LANDLOCK_VERSION_FLAG),
    )
    return max(int(answer), 0)


def has_seccomp() -> bool:
    try:
        return "errno" in Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError:
        return False


def logs_refusals() -> bool:
    """Whether the kernel can log what a filter refuses (linux/audit.h); where auditd runs, it gets those lines."""
    try:
        has_audit = (
            Path("/proc/self/loginuid").exists() and "audit=0" not in Path("/proc/cmdline").read_text()
        )
        return has_audit and "errno" in Path("/proc/sys/kernel/seccomp/actions_logged").read_text().split()
    except OSError:
        return False


def confinement_missing(minimum_abi: int) -> tuple[str, ...]:
    """What Landlock and the system call filter lack here; empty when both can be used."""
    missing = []
    abi = landlock_abi()
    if abi < minimum_abi:
        missing.append(f"Landlock ABI {minimum_abi} is needed, the kernel has {abi or 'none'}")
    if not has_seccomp():
        missing.append("the kernel has no seccomp filters")
    if machine_named(platform.machine()) is None:
        missing.append(f"there is no system call filter for {platform.machine()}")
    return tuple(missing)


def namespaces_work(bubblewrap: str) -> bool:
    """Can an unprivileged user make the namespaces? Tries it, with a program that does nothing."""
    options = ["--unshare-all", "--unshare-user", "--disable-userns", "--ro-bind", "/", "/"]
    return runs_unprivileged([bubblewrap, *options, "/bin/true"], TRY_TIMEOUT)


def runs_unprivileged(command: Sequence[str], timeout: float) -> bool:
    """Whether `command` ends well as an unprivileged user with an empty environment."""
    uid = os.getuid() or NOBODY
    try:
        tried = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRY, str(uid), *command],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def user_notes() -> tuple[str, ...]:
    """What to know about the user that servers run as."""
    if os.geteuid() == 0:
        return ("each model server runs as a user id of its own",)
    return (
        "Garrison is not root here, so model servers share its user id (inside a user namespace under bwrap); "
        "run it as root to give each its own",
    )


def threads_of(uid: int) -> int:
    """How many threads a user has on this machine now."""
    total = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if process.stat().st_uid == uid:
                total += len(list((process / "task").iterdir()))
        except OSError:
            continue  # it ended meanwhile
    return total
