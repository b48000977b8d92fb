"""The default level: bubblewrap run by an unprivileged user, and the Landlock level stacked inside it.

The server sees a root of its own with read-only copies of its Python and C library, a private /proc, /dev
and /tmp, one writable socket directory, no network and no other process. bubblewrap's options travel by
descriptor, not argv, because its argv and environment can be read in the sandbox as process 1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from garrison.runtime.sandboxes import features, start
from garrison.runtime.sandboxes.base import Availability, Launch
from garrison.runtime.sandboxes.places import Places, python_places

INSIDE_UID = 10001
SOCKET_DIRECTORY = "/run/garrison"
MINIMUM_VERSION = (0, 8, 0)  # --disable-userns and --size


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """`binary` is found on PATH when empty; tests point it elsewhere."""

    binary: str = ""
    level: str = "bwrap"
    forwards_signals: bool = False

    def available(self) -> Availability:
        binary = self._binary()
        missing = list(features.confinement_missing(start.MINIMUM_ABI))
        if binary is None:
            missing.append("bubblewrap is not installed (Debian: apt-get install bubblewrap)")
        elif version(binary) < MINIMUM_VERSION:
            missing.append("bubblewrap is older than 0.8.0, which introduced --disable-userns")
        elif not features.namespaces_work(binary):
            missing.append("the kernel does not let an unprivileged user create a user namespace")
        return Availability(self.level, not missing, tuple(missing), features.user_notes())

    def launch(self, order: Launch) -> subprocess.Popen[bytes]:
        start.refuse_root(order)
        binary = self._binary()
        if binary is None:
            raise start.unavailable(self.level, self.available().missing)
        places = python_places()
        inner = start.confinement(
            order,
            read=(*_with_program(places, order.program), *start.model_place(order), *order.shows),
            directory=SOCKET_DIRECTORY,
            threads=order.limits.threads,
        )
        with ExitStack() as open_files:
            inner_order = start.memory_file("confinement", json.dumps(inner).encode())
            open_files.callback(os.close, inner_order)
            arguments = b"".join(
                argument.encode() + b"\0" for argument in _arguments(order, places, start.environment(order))
            )
            options = start.memory_file("options", arguments)
            open_files.callback(os.close, options)
            command = [binary, "--args", str(options), "--", sys.executable, "-I", "-S", "-B"]
            return start.spawn(
                order,
                command=[*command, str(start.CONFINE), str(inner_order)],
                environment={},
                reach=(*places.directories, order.program, order.socket_directory, *order.shows),
                descriptors=(inner_order, options),
            )

    def _binary(self) -> str | None:
        return self.binary or find()


def find() -> str | None:
    """Where bubblewrap is: the system's own before anything that PATH puts in front of it."""
    return shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin") or shutil.which("bwrap")


def version(binary: str) -> tuple[int, ...]:
    """(0, 8, 0) of `bubblewrap 0.8.0`; () when it does not say."""
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(rb"(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return tuple(map(int, found.groups())) if found else ()


def _arguments(order: Launch, places: Places, environment: dict[str, str]) -> list[str]:
    options = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    options += [
        "--uid",
        str(INSIDE_UID),
        "--gid",
        str(INSIDE_UID),
        "--cap-drop",
        "ALL",
        "--hostname",
        "model",
    ]
    options += ["--clearenv"]
    for name, value in environment.items():
        options += ["--setenv", name, value]
    options += ["--proc", "/proc", "--dev", "/dev"]
    options += ["--size", str(order.limits.temporary), "--tmpfs", "/tmp"]  # noqa: S108  # the sandbox's own
    for target, link in places.links:
        options += ["--symlink", target, link]
    for path in (*_with_program(places, order.program), *order.shows):
        options += ["--ro-bind", str(path), str(path)]
    for path in order.devices:
        options += ["--dev-bind", str(path), str(path)]
    for (
        name,
        descriptor,
    ) in order.tree.items():  # copied by bubblewrap into memory that only this sandbox sees
        options += ["--perms", "0400", "--ro-bind-data", str(descriptor), f"{start.MODEL_DIRECTORY}/{name}"]
    options += ["--bind", str(order.socket_directory), SOCKET_DIRECTORY]
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    return options


def _with_program(places: Places, program: Path) -> tuple[Path, ...]:
    if any(program.is_relative_to(place) for place in places.directories):
        return places.directories
    return (*places.directories, program)
