"""The level that needs no program and no namespace: another user, Landlock, a system call filter, limits.

It does not hide other processes' names and does not give a private /tmp: the server gets no /tmp at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass

from garrison.core.errors import Refused
from garrison.runtime.sandboxes import features, start
from garrison.runtime.sandboxes.base import Availability, Launch
from garrison.runtime.sandboxes.places import python_places

SAME_USER_ABI = 6  # signals to the user's other processes are stopped by Landlock only from here on


@dataclass(frozen=True, slots=True)
class Landlock:
    level: str = "landlock"
    forwards_signals: bool = False

    def available(self) -> Availability:
        missing = features.confinement_missing(_minimum_abi())
        return Availability(self.level, not missing, missing, features.user_notes())

    def launch(self, order: Launch) -> subprocess.Popen[bytes]:
        start.refuse_root(order)
        missing = features.confinement_missing(_minimum_abi())
        if missing:
            raise start.unavailable(self.level, missing)
        if order.tree:
            raise Refused(
                "RUN-UNSERVABLE",
                f"{order.name} is made of files beside one another, and {self.level} shows a server no directory",
                fix="serve it with --isolation bwrap",
            )
        places = python_places()
        threads = order.limits.threads
        if os.geteuid() != 0:  # the limit counts every thread of the user, so ours must fit beside them
            threads += features.threads_of(os.getuid())
        inner = start.confinement(
            order,
            read=(*places.directories, order.program),
            directory=str(order.socket_directory),
            threads=threads,
            minimum_abi=_minimum_abi(),
        )
        inner["write"] = [entry for entry in inner["write"] if entry[0] != "scratch"]  # type: ignore[attr-defined]  # JSON values
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


def _minimum_abi() -> int:
    return start.MINIMUM_ABI if os.geteuid() == 0 else SAME_USER_ABI
