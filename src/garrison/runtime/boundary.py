"""Whose kernel is this? Tells a pod in gVisor or in a virtual machine from one that shares its node's kernel.

Nodes are virtual machines themselves, so that a hypervisor is seen says nothing of a pod's own boundary.
What counts is what only the sandbox shows: gVisor's kernel log and version, Kata's shared file system and
the guest's command line. What cannot be told is the node's own kernel.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_TEXT = 256 * 1024  # of one file in /proc
SYSLOG_READ_ALL = 3
GVISOR_BUILD = "#1 SMP Sun Jan 10 15:06:54 PST 2016"  # what gVisor's kernel says of itself, since 2018
_KATA_COMMAND = ("kata-containers", "agent.container_pipe", "agent.log")
_KATA_SHARE = ("kataShared", "kata-shared")
_CONTAINER = ("/kubepods", "/docker", "/containerd", "/crio", "/libpod", "/garden")
_GUESTS = (
    "qemu",
    "kvm",
    "firecracker",
    "cloud hypervisor",
    "bochs",
    "amazon ec2",
    "google",
    "microsoft",
    "vmware",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """The texts that tell, as they were read; empty for what cannot be."""

    version: str = ""
    command: str = ""
    mounts: str = ""
    cgroup: str = ""
    log: str = ""
    cpu: str = ""
    vendor: str = ""
    has_marks: bool = False


@dataclass(frozen=True, slots=True)
class Boundary:
    """`kind` is gvisor, kata, container, vm or host. `why` names what showed it."""

    kind: str
    kernel: str
    why: tuple[str, ...]

    @property
    def is_own(self) -> bool:
        """Whether a process in here has a kernel that the node's other processes do not share."""
        return self.kind in ("gvisor", "kata")

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "kernel": self.kernel, "own": self.is_own, "why": list(self.why)}


def classify(facts: Facts) -> Boundary:
    """Pure: the strongest boundary that the texts show."""
    kernel = " ".join(facts.version.split()[:3])[:80]
    if "gVisor" in facts.log or GVISOR_BUILD in facts.version:
        return Boundary("gvisor", kernel, ("the kernel calls itself gVisor",))
    shown = [f"a mount {word}" for word in _KATA_SHARE if word in facts.mounts]
    shown += [f"{word} on the kernel's command line" for word in _KATA_COMMAND if word in facts.command]
    if shown:
        return Boundary("kata", kernel, tuple(shown))
    is_contained = facts.has_marks or any(word in facts.cgroup for word in _CONTAINER)
    if is_contained:
        return Boundary("container", kernel, ("a container's marks, and no kernel of its own",))
    flags = next((line for line in facts.cpu.splitlines() if line.startswith("flags")), "")
    if " hypervisor" in flags or any(word in facts.vendor.lower() for word in _GUESTS):
        return Boundary("vm", kernel, ("the processor says that a hypervisor is below",))
    return Boundary("host", kernel, ("nothing shows a container or a hypervisor",))


def look(read: Callable[[str], str] | None = None) -> Boundary:
    """What this process is in."""
    text = read or _text
    return classify(
        Facts(
            version=text("/proc/version"),
            command=text("/proc/cmdline"),
            mounts=text("/proc/self/mountinfo"),
            cgroup=text("/proc/self/cgroup"),
            log=_log() if read is None else text("log"),
            cpu=text("/proc/cpuinfo"),
            vendor=text("/sys/class/dmi/id/sys_vendor") + text("/sys/class/dmi/id/product_name"),
            has_marks=any(map(os.path.exists, ("/.dockerenv", "/run/.containerenv")))
            or "KUBERNETES_SERVICE_HOST" in os.environ,
        )
    )


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_TEXT).decode("utf-8", "replace")
    except OSError:
        return ""


def _log() -> str:
    """The kernel's log; empty where it may not be read."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(MAX_TEXT)
    size = libc.klogctl(SYSLOG_READ_ALL, buffer, MAX_TEXT)
    return buffer.raw[: max(size, 0)].decode("utf-8", "replace")
