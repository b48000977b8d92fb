"""No isolation at all: the control of the escape probe and of the benchmark. No door of Garrison offers it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from garrison.runtime.sandboxes import start
from garrison.runtime.sandboxes.base import Availability, Launch


@dataclass(frozen=True, slots=True)
class Bare:
    """`environment` is added to that of this process, for the probe to find."""

    environment: Mapping[str, str] = field(default_factory=dict)
    level: str = "none"
    forwards_signals: bool = False

    def available(self) -> Availability:
        return Availability(self.level, True)

    def launch(self, order: Launch) -> subprocess.Popen[bytes]:
        inner: dict[str, object] = {
            "limits": [],
            "read": None,
            "filter": None,
            "directory": str(order.socket_directory),
            "program": str(order.program),
            "settings": start.program_settings(order),
            "any_user": True,
            "open": {},
            "path": [],
            "modules": {name: str(path) for name, path in order.modules.items()},
        }
        with ExitStack() as open_files:
            descriptor = start.memory_file("control", json.dumps(inner).encode())
            open_files.callback(os.close, descriptor)
            return subprocess.Popen(
                [sys.executable, "-I", "-B", str(start.CONFINE), str(descriptor)],
                stdin=subprocess.DEVNULL,
                stdout=order.output,
                stderr=order.output,
                env={**os.environ, **start.environment(order), **self.environment},
                pass_fds=(descriptor, *order.files.values()),
                start_new_session=True,
            )
