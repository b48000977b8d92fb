"""The bundle of an OCI runtime for one model server: a pure function from an order to its `config.json`.

OCI runtime specification 1.0.2. The server gets what the bwrap level gives it: a read-only root with this
Python and the C library, a private /tmp from which nothing is executed, one writable directory, no network.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from garrison.runtime.sandboxes.base import Launch
from garrison.runtime.sandboxes.places import Places
from garrison.runtime.sandboxes.start import MODEL_DIRECTORY

SOCKET_DIRECTORY = "/run/garrison"
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
SKELETON = ("proc", "dev", "tmp", "run/garrison", "model")


def config(
    order: Launch,
    places: Places,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    uid: int,
    model: Path | None,
    cgroup: str | None = None,
) -> dict[str, Any]:
    """`uid` is the user inside; `model` a directory of the host that is shown as `/model`."""
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in NAMESPACES],
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(READ_ONLY),
        "rootfsPropagation": "private",
    }
    if cgroup is not None:
        linux["cgroupsPath"] = cgroup
    empty: list[str] = []
    kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": uid, "gid": uid},
            "args": list(command),
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(kinds, empty),
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "model",
        "mounts": [
            _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "noexec", "mode=755", "size=65536k"),
            _mount(
                "/tmp",  # noqa: S108  # the sandbox's own
                "tmpfs",
                "tmpfs",
                "nosuid",
                "noexec",
                "nodev",
                "mode=1777",
                f"size={order.limits.temporary}",
            ),
            *(_bind(path, str(path)) for path in places.directories),
            *(() if model is None else (_bind(model, MODEL_DIRECTORY),)),
            _mount(
                SOCKET_DIRECTORY,
                "bind",
                str(order.socket_directory),
                "rbind",
                "rw",
                "nosuid",
                "noexec",
                "nodev",
            ),
        ],
        "linux": linux,
    }


def limits(numbered: Any) -> list[dict[str, Any]]:
    """`[[RLIMIT number, value]...]` in the words of the specification."""
    names = {value: name for name, value in vars(resource).items() if name.startswith("RLIMIT_")}
    names[resource.RLIMIT_NOFILE] = "RLIMIT_NOFILE"  # which has an older name beside it
    return [{"type": names[number], "hard": value, "soft": value} for number, value in numbered]


def links(places: Places) -> list[tuple[str, str]]:
    """The symbolic links of the root: (where, to what)."""
    return [(f"rootfs{link}", target) for target, link in places.links]


def _bind(source: Path, target: str) -> dict[str, Any]:
    return _mount(target, "bind", str(source), "rbind", "ro", "nosuid", "nodev")


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
