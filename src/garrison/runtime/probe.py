"""Try to get out of a sandbox and say what was open: the matrix behind `garrison runtime probe`.

The host side: it lays out what a prisoner would look for, starts `probes/escape.py` inside, and reads what
came of it. A control run without a sandbox shows that the probe can see; a probe that finds nothing open
there proves nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.confine.scratch import scratch
from garrison.confine.seccomp import machine_named
from garrison.core.errors import Undecided
from garrison.runtime.held import SEALS
from garrison.runtime.sandboxes.bare import Bare
from garrison.runtime.sandboxes.base import MIB, Launch, Limits, Sandbox
from garrison.runtime.sandboxes.users import free_uid

PROGRAM = Path(__file__).resolve().parent / "probes" / "escape.py"
KILLED_SECONDS = 60.0  # for the kernel to end what was killed
SECONDS = 240.0  # all tries; about 1 s in a sandbox, 8 s with the start of a guest that is emulated
PROBE_LIMITS = Limits(memory=512 * MIB)
WANTED = frozenset({"write.tmp"})  # a private /tmp that nothing can be executed from is given on purpose
# A scanner's process unpacks into a folder of its own. Opening its sealed file for writing is root's right, where
# Garrison is root; writing to it is refused to root too, and a file on a disk is not opened at all (Landlock).
WANTED_OF_TOOLS = frozenset({"write.file-beside-socket", "model.open-for-writing"})
CONTROL_MINIMUM = 40  # tries that must succeed as root without a sandbox

ATTACKS: dict[str, tuple[str, ...]] = {
    "reach the network": (
        "net.tcp",
        "net.tcp6",
        "net.udp",
        "net.raw",
        "net.packet",
        "net.netlink",
        "net.vsock",
    ),
    "ask the cloud's metadata address": ("net.metadata-address",),
    "read the key directory": ("read.canary", "read.canary-through-process-1", "read.shadow"),
    "read secrets of the environment": (
        "read.own-environment",
        "read.environment-of-others",
        "read.environment-of-process-1",
        "read.arguments-of-others",
    ),
    "reach another model": ("net.unix-path", "net.unix-abstract", "process.read-memory"),
    "change the model being served": (
        "model.open-for-writing",
        "model.write",
        "model.truncate",
        "model.map-writable",
        "model.change-mode",
        "model.seals-missing",
    ),
    "write outside its own place": (
        "write.root",
        "write.python",
        "write.own-program",
        "write.etc",
        "write.link-beside-socket",
        "kernel.core-pattern",
    ),
    "start programs": ("process.execute-program", "process.execute-dropped-file"),
    "trace or signal a process of the host": ("process.trace", "process.signal", "process.descriptor"),
    "fork without end": ("exhaust.processes", "exhaust.threads"),
    "take all memory or disk": ("exhaust.memory", "exhaust.temporary-space", "exhaust.unnamed-memory"),
    "become somebody else": (
        "become.root",
        "become.user-namespace",
        "become.mount",
        "become.chroot",
        "become.capabilities",
    ),
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: `open` when it succeeded, else `why` it did not (an errno name, mostly)."""

    check: str
    open: bool
    why: str

    def as_json(self) -> dict[str, Any]:
        return {"check": self.check, "open": self.open, "why": self.why}


@dataclass(frozen=True, slots=True)
class Matrix:
    """What came of every try in one level."""

    level: str
    uid: int
    attempts: tuple[Attempt, ...]

    @property
    def open(self) -> tuple[str, ...]:
        return tuple(attempt.check for attempt in self.attempts if attempt.open)

    @property
    def unwanted(self) -> tuple[str, ...]:
        return tuple(check for check in self.open if check not in self.given)

    @property
    def given(self) -> frozenset[str]:
        """What is open by intention."""
        return WANTED_OF_TOOLS if self.level == "tools" else WANTED

    def succeeded(self) -> dict[str, tuple[str, ...]]:
        """The twelve attacks, each with the tries of it that succeeded."""
        found = set(self.open)
        return {
            attack: tuple(check for check in checks if check in found - self.given)
            for attack, checks in ATTACKS.items()
        }

    def facts(self) -> dict[str, Any]:
        """What of it goes into an event."""
        tried, through = len(self.attempts), list(self.unwanted)
        return {"isolation": self.level, "tried": tried, "denied": tried - len(through), "through": through}

    def as_json(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "uid": self.uid,
            "checks": len(self.attempts),
            "open": list(self.open),
            "given": sorted(self.given & set(self.open)),
            "unwanted": list(self.unwanted),
            "attempts": [attempt.as_json() for attempt in self.attempts],
        }


def probe(sandbox: Sandbox) -> Matrix:
    """Run every try inside `sandbox`. Raises `Undecided` RUN-PROBE when the probe itself did not finish."""
    uid = free_uid(())
    with _stage(uid) as (directory, settings, model):
        return Matrix(sandbox.level, uid, _attempts(sandbox, uid, directory, settings, model))


def control() -> Matrix:
    """The same tries with no sandbox at all, as this very user."""
    uid = os.getuid()
    with _stage(uid) as (directory, settings, model):
        bare = Bare({"PROBE_CANARY": str(settings["canary"])})
        return Matrix(bare.level, uid, _attempts(bare, uid, directory, settings, model))


def _attempts(
    sandbox: Sandbox, uid: int, directory: Path, settings: dict[str, Any], model: int
) -> tuple[Attempt, ...]:
    output = os.memfd_create("attempts")
    try:
        order = Launch("probe", PROGRAM, directory, uid, output, settings, {"model": model}, PROBE_LIMITS)
        process = sandbox.launch(order)
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(KILLED_SECONDS)
        text = os.pread(output, 4 * MIB, 0).decode("utf-8", "replace")
    finally:
        os.close(output)
    lines = [line for line in text.splitlines() if line.startswith("{")]
    found = tuple(Attempt(row["check"], bool(row["open"]), str(row["why"])) for row in map(json.loads, lines))
    if process.returncode != 0:
        last = found[-1].check if found else "none"
        raise Undecided(
            "RUN-PROBE",
            f"the probe ended with status {process.returncode} after {len(found)} tries (last: {last})",
            fix="run garrison doctor; if it names nothing, report this with what it printed",
            evidence={"level": sandbox.level, "words": "".join(c for c in text[-400:] if c.isprintable())},
        )
    return found


@contextlib.contextmanager
def _stage(uid: int) -> Iterator[tuple[Path, dict[str, Any], int]]:
    """What a prisoner looks for: secrets, listeners, a process of the host; and a sealed model of its own."""
    with ExitStack() as stack:
        base = stack.enter_context(scratch("probe"))
        base.chmod(0o755)  # the listener's socket must be reachable for the try to mean something
        canary = secrets.token_hex(16)
        keys, sockets = base / "keys", base / "run"
        keys.mkdir(0o700)
        sockets.mkdir(0o700)
        if os.geteuid() == 0:
            os.chown(sockets, uid, uid)
        (keys / "pin").write_text(canary)
        abstract = f"garrison-probe-{secrets.token_hex(8)}"
        path_socket = stack.enter_context(_listener(socket.AF_UNIX, str(base / "open.sock")))
        os.chmod(base / "open.sock", 0o666)  # noqa: S103  # as above
        stack.enter_context(_listener(socket.AF_UNIX, "\0" + abstract))
        tcp = stack.enter_context(_listener(socket.AF_INET, ("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        bystander = stack.enter_context(_bystander(canary))
        model = os.memfd_create("model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        stack.callback(os.close, model)
        os.write(model, b"m" * 8192)
        os.fchmod(model, 0o444)
        fcntl.fcntl(model, fcntl.F_ADD_SEALS, SEALS)
        machine = machine_named(os.uname().machine)
        yield (
            sockets,
            {
                "canary": canary,
                "canary_file": str(keys / "pin"),
                "socket_path": str(path_socket.getsockname()),
                "abstract": abstract,
                "tcp": tcp.getsockname()[1],
                "tcp6": _tcp6(stack),
                "udp": udp.getsockname()[1],
                "host_pid": bystander,
                "calls": dict(machine.calls) if machine else {},
                "program": str(PROGRAM),
                "block_devices": _block_devices(),
            },
            model,
        )


@contextlib.contextmanager
def _listener(family: socket.AddressFamily, address: Any) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(address)
        server.listen(8)
        yield server


def _tcp6(stack: ExitStack) -> int:
    """Port of a listener on ::1; 1 where there is no IPv6."""
    try:
        return int(stack.enter_context(_listener(socket.AF_INET6, ("::1", 0))).getsockname()[1])
    except OSError:
        return 1


@contextlib.contextmanager
def _bystander(canary: str) -> Iterator[int]:
    """A process of the host that waits, with the canary in its arguments and environment."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import sys; print(flush=True); sys.stdin.read()", canary],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PROBE_CANARY": canary},
    ) as process:
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.stdin.close()


def _block_devices() -> list[str]:
    try:
        lines = Path("/proc/partitions").read_text().splitlines()[2:]
    except OSError:
        return []
    return [line.split()[3] for line in lines[:8]]
