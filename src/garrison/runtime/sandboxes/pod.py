"""The level inside a pod that has a kernel of its own: the runtime class is the wall, this is the lock on the door.

gVisor has no Landlock and a pod may make no namespaces, so what is left to do inside is the system call
filter, limits, an empty environment and no way but a Unix socket. It is refused where the pod shares its node's kernel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from garrison.core.errors import Refused
from garrison.runtime.boundary import Boundary, look
from garrison.runtime.sandboxes import features, start
from garrison.runtime.sandboxes.base import Availability, Launch
from garrison.runtime.sandboxes.places import python_places


@dataclass(frozen=True, slots=True)
class Pod:
    level: str = "pod"
    forwards_signals: bool = False
    boundary: Callable[[], Boundary] = look

    def available(self) -> Availability:
        found = self.boundary()
        missing = []
        if not found.is_own:
            missing.append(f"a kernel of its own is needed, and this is a {found.kind}")
        if not features.has_seccomp():
            missing.append("the kernel has no seccomp filters")
        return Availability(self.level, not missing, tuple(missing), tuple(found.why))

    def launch(self, order: Launch) -> subprocess.Popen[bytes]:
        start.refuse_root(order)
        found = self.available()
        if not found.ok:
            raise start.unavailable(self.level, found.missing)
        if order.tree:
            raise Refused(
                "RUN-UNSERVABLE",
                f"{order.name} is made of files beside one another, and a pod shows a server no directory",
                fix="join its files into one, or serve it outside of Kubernetes with --isolation bwrap",
            )
        places = python_places()
        threads = order.limits.threads
        if os.geteuid() != 0:  # the limit counts every thread of the user, so ours must fit beside them
            threads += features.threads_of(os.getuid())
        inner = start.confinement(
            order, read=(), directory=str(order.socket_directory), threads=threads, creates_files=False
        )
        inner["read"] = None  # no Landlock in here
        with ExitStack() as open_files:
            inner_order = start.memory_file("confinement", json.dumps(inner).encode())
            open_files.callback(os.close, inner_order)
            return start.spawn(
                order,
                command=[sys.executable, "-I", "-S", "-B", str(start.CONFINE), str(inner_order)],
                environment=start.environment(order),
                reach=(*places.directories, order.program, order.socket_directory),
                descriptors=(inner_order,),
            )
