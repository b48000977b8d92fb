"""What every level does to start a server: the two scripts, their orders in memory, an empty environment."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from garrison.confine.profiles import profile_of
from garrison.confine.seccomp import filter_program, machine_named, quiet_program
from garrison.core.errors import Refused, Undecided
from garrison.runtime.sandboxes import cgroup
from garrison.runtime.sandboxes.base import Launch
from garrison.runtime.sandboxes.places import HERE

CONFINE = HERE / "confine.py"
DESCEND = HERE / "descend.py"
SOCKET_NAME = "s.sock"
MODEL_DIRECTORY = "/model"
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
# Of /proc only these: /proc/self/mountinfo, for one, names the host's directories.
OWN_FACTS = tuple(f"/proc/self/{name}" for name in ("fd", "maps", "stat", "statm", "status", "task"))
KERNEL_FACTS = (*OWN_FACTS, "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu")
PROGRAM_LIBRARIES = (
    Path("/usr/lib"),
    Path("/usr/lib64"),
    Path("/lib"),
    Path("/lib64"),
)  # a program's loader is here
MINIMUM_ABI = 4  # TCP rules; below it a sandbox would have no second wall against the network


def refuse_root(order: Launch) -> None:
    """No sandbox is ever started for user 0. Raises `Refused` ISO-ROOT."""
    if order.uid == 0:
        raise Refused(
            "ISO-ROOT",
            f"{order.name}: a sandbox was asked for as user 0",
            evidence={"uid": order.uid},
            fix="leave the choice of the user to Garrison, or name an unprivileged user id above 0",
        )


def memory_file(name: str, content: bytes) -> int:
    """A descriptor that holds `content`, rewound: orders travel in it, never in argv or environment."""
    descriptor = os.memfd_create(name)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def environment(order: Launch) -> dict[str, str]:
    """Constants that keep libraries small; nothing of the host's environment."""
    threads = str(order.compute_threads)
    return {
        "LANG": "C.UTF-8",
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
    }


def confinement(
    order: Launch,
    *,
    read: Sequence[Path],
    directory: str,
    threads: int,
    minimum_abi: int = MINIMUM_ABI,
    creates_files: bool = True,
) -> dict[str, object]:
    """The order for `confine.py`."""
    machine = machine_named(os.uname().machine)
    if machine is None:
        raise unavailable("this machine", (f"no system call filter for {os.uname().machine}",))
    limits = order.limits
    profile = order.profile or profile_of(order.program.name, is_declared=bool(order.command))
    program = filter_program(machine, profile, creates_files=creates_files)
    scratch = "loopback" if profile.has_loopback else "scratch"
    order.facts.update(profile=profile.name, filter=f"sha256:{hashlib.sha256(program).hexdigest()}")
    return {
        "limits": [
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_AS, limits.memory),
            (resource.RLIMIT_NPROC, threads),
            (resource.RLIMIT_NOFILE, limits.open_files),
            (resource.RLIMIT_FSIZE, limits.file_size),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ],
        "read": [*map(str, read), *KERNEL_FACTS],
        "write": [("socket", directory), (scratch, "/tmp"), *(("device", path) for path in DEVICES)],  # noqa: S108  # the sandbox's own
        "minimum_abi": minimum_abi,
        "filter": program.hex(),
        "quiet": quiet_program(machine).hex() if profile.is_told else None,
        "directory": directory,
        "program": str(order.program),
        "settings": program_settings(order),
        "any_user": False,
        "open": {},
        "path": site.getsitepackages(),
        "modules": {name: str(path) for name, path in order.modules.items()},
        "command": list(order.command),
        "loopback": profile.has_loopback,
        "execute": [*map(str, (*order.shows, *PROGRAM_LIBRARIES))] if order.command else [],
        "devices": [*map(str, order.devices)],
        "variables": {**environment(order), **order.variables},
    }


def model_place(order: Launch) -> tuple[Path, ...]:
    """Where the files of `order.tree` are shown inside, if there are any."""
    return (Path(MODEL_DIRECTORY),) if order.tree else ()


def program_settings(order: Launch) -> dict[str, object]:
    return {**order.settings, "socket": SOCKET_NAME, "files": dict(order.files)}


def spawn(
    order: Launch,
    *,
    command: Sequence[str],
    environment: Mapping[str, str],
    reach: Sequence[Path],
    descriptors: Sequence[int],
) -> subprocess.Popen[bytes]:
    """Run `command` as `order.uid`, which it becomes in `descend.py`."""
    refuse_root(order)
    descent = {
        "uid": order.uid,
        "parent": os.getpid(),
        "cgroup": cgroup.enter(order.uid, order.limits) if os.geteuid() == 0 else (),
        "reach": [str(path) for path in reach],
        "command": list(command),
        "environment": dict(environment),
    }
    with ExitStack() as open_files:
        descriptor = memory_file("descent", json.dumps(descent).encode())
        open_files.callback(os.close, descriptor)
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(DESCEND), str(descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=order.output,
            stderr=order.output,
            env={},
            cwd="/",
            close_fds=True,
            pass_fds=(descriptor, *descriptors, *order.files.values(), *order.tree.values()),
            start_new_session=True,
        )


def unavailable(level: str, missing: Sequence[str]) -> Undecided:
    """The error for a level that cannot be had; never a lower level in its place."""
    return Undecided(
        "ISO-UNAVAILABLE",
        f"isolation {level} cannot be had on this machine: {'; '.join(missing)}",
        evidence={"level": level, "missing": list(missing)},
        fix="see `garrison doctor` for what is missing; Garrison does not fall back to a weaker level by itself",
    )
