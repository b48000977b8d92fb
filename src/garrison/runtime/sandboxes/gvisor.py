"""The level with a kernel of its own in user space: gVisor's runsc, started as the model's own user.

The server's system calls are answered by gVisor's kernel, itself an unprivileged process in namespaces and
behind a filter. Landlock does not exist in there; the filter of system calls does and is loaded too. Files
are shown read-only from a private copy, since this runsc takes no descriptors.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

from garrison.runtime.sandboxes import bundled, cgroup, features, oci, start
from garrison.runtime.sandboxes.base import MIB, Availability, Launch
from garrison.runtime.sandboxes.places import python_places

OWN_MEMORY = 512 * MIB  # of gVisor's kernel and its file server
OWN_THREADS = 192
TRY_TIMEOUT = 20.0
PLATFORMS = (
    "systrap",
    "ptrace",
)  # KVM is left to the microvm level: a hung one could not be told from a slow one


@dataclass(frozen=True, slots=True)
class Gvisor:
    """`binary` is found in the system's own directories when empty; tests point it elsewhere."""

    binary: str = ""
    level: str = "gvisor"
    forwards_signals: bool = True

    def available(self) -> Availability:
        missing = []
        binary = find(self.binary)
        if not features.has_seccomp():
            missing.append("the kernel has no seccomp filters")
        if binary is None:
            missing.append("gVisor is not installed (Debian: apt-get install runsc)")
        if os.geteuid() != 0:
            missing.append("the private copy that gVisor reads files from needs Garrison to run as root")
        if not missing and binary is not None and platform(binary) is None:
            missing.append("runsc starts on none of its platforms here")
        if missing or binary is None:
            return Availability(self.level, False, tuple(missing))
        limits = "bounded by a cgroup" if cgroup.hierarchy() else "NOT bounded: no writable cgroups"
        return Availability(
            self.level, True, (), (f"gVisor {version(binary)} on {platform(binary)}, memory {limits}",)
        )

    def launch(self, order: Launch) -> subprocess.Popen[bytes]:
        start.refuse_root(order)
        binary = find(self.binary)
        chosen = platform(binary) if binary is not None else None
        if binary is None or chosen is None:
            raise start.unavailable(self.level, self.available().missing)
        places = bundled.places_of(order, python_places())
        inner = start.confinement(
            order,
            read=(),
            directory=oci.SOCKET_DIRECTORY,
            threads=order.limits.threads,
            creates_files=False,  # without Landlock the socket's directory, on the host's disk, would take them
        )
        shown = {name: f"{start.MODEL_DIRECTORY}/.files/{name}" for name in order.files}
        limits = inner["limits"]
        inner |= {"read": None, "any_user": True, "open": shown, "limits": []}
        inner["settings"] = {**start.program_settings(order), "files": {}}
        place = bundled.new_place()
        config = oci.config(
            order,
            places,
            [sys.executable, "-I", "-S", "-B", str(start.CONFINE), f"{start.MODEL_DIRECTORY}/.order"],
            start.environment(order),
            uid=0,  # gVisor's own user 0, without capabilities: on the host it is the model's user
            model=place / "model",
        )
        config["process"]["rlimits"] = oci.limits(
            limits
        )  # gVisor's kernel lets no process lower all of its own
        files = {f"model/.files/{name}": descriptor for name, descriptor in order.files.items()}
        bundle = bundled.Bundle(
            place,
            [
                binary,
                "--rootless",
                f"--root={place / 'state'}",
                f"--platform={chosen}",
                "--network=none",
                "--ignore-cgroups",
                "--host-uds=create",
                "run",
                f"-bundle={place}",
                f"garrison-{order.uid}-{place.name.rpartition('-')[2]}",  # a name of the whole machine
            ],
            {"config.json": json.dumps(config), "model/.order": json.dumps(inner)},
            cgroup.enter(order.uid, order.limits, memory=OWN_MEMORY, threads=OWN_THREADS),
            files=files | {f"model/{path}": descriptor for path, descriptor in order.tree.items()},
            descend={
                "script": str(start.DESCEND),
                "uid": order.uid,
                "cgroup": (),  # entered already
                "reach": [*map(str, places.directories), str(order.socket_directory), str(place)],
                "environment": {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            },
        )
        return bundled.launch(order, places, bundle)


def find(binary: str = "") -> str | None:
    if binary:
        return shutil.which(binary)
    return shutil.which("runsc", path="/usr/bin:/usr/local/bin:/usr/sbin")


@lru_cache(maxsize=4)
def version(binary: str) -> str:
    """Such as 0.0~20221219.0 or release-20260101.0; empty when it does not say."""
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, timeout=TRY_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(rb"version ([\w.~-]+)", told.stdout)
    return found.group(1).decode() if found else ""


@lru_cache(maxsize=4)
def platform(binary: str) -> str | None:
    """The first platform on which an unprivileged runsc runs a program that does nothing."""
    for name in PLATFORMS:
        command = [binary, "--rootless", f"--platform={name}", "--network=none", "do", "/bin/true"]
        if features.runs_unprivileged(command, TRY_TIMEOUT):
            return name
    return None
