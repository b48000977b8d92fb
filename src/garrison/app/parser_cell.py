"""The place where scanners read untrusted files, as a sandbox that the escape probe can be sent into.

`launch` starts this module as a program: it gives up exactly what a scanner's process gives up, by the same
function, and then tries to get out. Scanners run as Garrison's own user, since descriptors are all they get.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.artifacts.scanners import worker
from garrison.runtime.sandboxes import features, start
from garrison.runtime.sandboxes.base import Availability, Launch


@dataclass(frozen=True, slots=True)
class ParserCell:
    level: str = "tools"
    forwards_signals: bool = False

    def available(self) -> Availability:
        missing = features.confinement_missing(start.MINIMUM_ABI)
        return Availability(self.level, not missing, missing)

    def launch(self, order: Launch) -> subprocess.Popen[bytes]:
        scratch = tempfile.mkdtemp(prefix="cell-", dir=order.socket_directory)
        inner = {"program": str(order.program), "scratch": scratch, "settings": start.program_settings(order)}
        descriptor = start.memory_file("cell", json.dumps(inner).encode())
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-B", "-m", __name__, str(descriptor)],
                stdin=subprocess.DEVNULL,
                stdout=order.output,
                stderr=order.output,
                env={"LC_ALL": "C.UTF-8"},
                cwd="/",
                pass_fds=(descriptor, *order.files.values()),
            )
        finally:
            os.close(descriptor)


def main() -> None:
    with open(int(sys.argv[1]), "rb") as file:
        order: dict[str, Any] = json.load(file)
    program = types.ModuleType("probe")
    program.__dict__["SETTINGS"] = order["settings"]
    exec(compile(Path(order["program"]).read_bytes(), order["program"], "exec"), program.__dict__)  # noqa: S102  # our own script, defined before its files are out of reach
    missing = worker.confined(order["scratch"])
    if missing:
        raise SystemExit(f"this kernel could not take away: {'; '.join(missing)}")
    os.chdir(order["scratch"])
    program.main()


if __name__ == "__main__":
    main()
