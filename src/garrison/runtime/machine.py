"""What this machine offers to the runtime, as facts with their consequence: the table behind `garrison doctor`."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.runtime import boundary
from garrison.runtime.guest import kernel
from garrison.runtime.refused import KernelLog
from garrison.runtime.sandboxes import bwrap, cgroup, features, gvisor, microvm, runc
from garrison.runtime.sandboxes.base import Availability
from garrison.runtime.sandboxes.ladder import availability
from garrison.runtime.sandboxes.landlock import SAME_USER_ABI
from garrison.trust.keys.softhsm import MODULES


@dataclass(frozen=True, slots=True)
class Feature:
    """One fact. `ok` is None for what is only told; `meaning` says what it is for or what its lack costs."""

    name: str
    value: str
    ok: bool | None
    meaning: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value, "ok": self.ok, "meaning": self.meaning}


@dataclass(frozen=True, slots=True)
class Examination:
    """All facts, the levels weakest first, and the highest one that works here ("" when none)."""

    features: tuple[Feature, ...]
    levels: tuple[Availability, ...]

    @property
    def highest(self) -> str:
        return next((level.level for level in reversed(self.levels) if level.ok), "")

    @property
    def next(self) -> Availability | None:
        """The weakest level above the highest one that works; None when all work."""
        above = self.levels[max((i + 1 for i, level in enumerate(self.levels) if level.ok), default=0) :]
        return next(iter(above), None)


def examine() -> Examination:
    """Looks at everything; changes nothing, contacts nobody."""
    return Examination(tuple(_features()), availability())


def _features() -> Iterable[Feature]:
    abi = features.landlock_abi()
    yield Feature("kernel", f"{platform.system()} {platform.release()} {platform.machine()}", None)
    around = boundary.look()
    yield Feature("boundary", around.kind, None, f"whose kernel this is: {around.why[0]}")
    yield Feature("user", _user(), os.geteuid() == 0 or None, "; ".join(features.user_notes()))
    yield Feature(
        "Landlock",
        f"ABI {abi}" if abi else "absent",
        abi >= SAME_USER_ABI,
        "files, TCP, signals; 4 needed, 6 wanted",
    )
    yield Feature(
        "seccomp", "yes" if features.has_seccomp() else "absent", features.has_seccomp(), "system call filter"
    )
    yield Feature(
        "refusals",
        "told" if _is_told() else "not told",
        None,
        "events of what a server's filter refused, from the kernel's log: root, audit, no auditd",
    )
    yield from _bubblewrap()
    is_usable = cgroup.hierarchy() is not None
    yield Feature(
        "cgroup",
        f"{_cgroup()}, {'writable' if is_usable else 'not writable'}",
        is_usable or None,
        "bounds a server's memory, threads and processor time from outside; level runc needs it",
    )
    yield Feature("runc", runc.find() or "absent", None, "level runc; Debian: apt-get install runc")
    yield Feature("gVisor", gvisor.find() or "absent", None, "level gvisor; Debian: apt-get install runsc")
    yield Feature(
        "QEMU", microvm.find() or "absent", None, "level microvm; Debian: apt-get install qemu-system-x86"
    )
    guest = kernel.find()
    told = "absent" if guest is None else f"{guest.release}, SHA-256 {kernel.digest(guest)[:16]}"
    yield Feature("guest", told, None, "the kernel of level microvm; make guest")
    yield Feature("KVM", _kvm(), None, "level microvm at full speed; for it every user may open /dev/kvm")
    yield Feature("memory", _memory(), None, "models up to half of it are held in sealed memory")
    module = next((path for path in MODULES if path.is_file()), None)
    yield Feature(
        "SoftHSM", str(module or "absent"), module is not None, "keys; Debian: apt-get install softhsm2"
    )
    yield Feature("SQLite", sqlite3.sqlite_version, sqlite3.sqlite_version_info >= (3, 35), "3.35 or newer")
    yield Feature(
        "contacts", "none", None, "addresses that Garrison contacts by itself: no telemetry, no update check"
    )


def _is_told() -> bool:
    log = KernelLog()
    is_open = log.is_open
    log.close()
    return is_open and features.logs_refusals()


def _bubblewrap() -> Iterable[Feature]:
    binary = bwrap.find()
    version = bwrap.version(binary) if binary else ()
    shown = ".".join(map(str, version)) or "absent"
    is_new = version >= bwrap.MINIMUM_VERSION
    yield Feature("bubblewrap", shown, is_new, "level bwrap (default); Debian: apt-get install bubblewrap")
    works = binary is not None and is_new and features.namespaces_work(binary)
    yield Feature("namespaces", "for any user" if works else "not usable", works, "level bwrap")


def _user() -> str:
    return f"uid {os.geteuid()}" + (" (root)" if os.geteuid() == 0 else "")


def _cgroup() -> str:
    if Path("/sys/fs/cgroup/cgroup.controllers").is_file():
        return "v2"
    return "v1" if Path("/sys/fs/cgroup/memory").is_dir() else "absent"


def _kvm() -> str:
    if not os.path.exists("/dev/kvm"):
        return "absent"
    binary = microvm.find()
    return "usable" if binary is not None and microvm.has_kvm(binary) else "present, not usable by QEMU"


def _memory() -> str:
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f} GB"
