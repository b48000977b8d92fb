"""Runs outside, as root: gives an OCI runtime a private bundle, watches it, cleans up. A script; standard library only.

Started as `python -I -S contain.py FD`; FD holds JSON: `parent`, `place` (an empty directory), `size` (bytes),
`directories`, `links`, `texts` and `files` (what the bundle holds, the last from descriptors), `cgroup` (files
to enter), `keep` (descriptors that become 3, 4, ...), `command`, `descend` (None, or the order with which
`descend.py` becomes another user first), `end` (a command that forgets the container).

The bundle is a tmpfs in a mount namespace of this process, so no other process can reach what it holds, and
it is gone with it. SIGTERM is passed on to the runtime, which passes it on to the model server.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MS_REC, MS_PRIVATE = 0x4000, 0x40000
CLONE_NEWNS = 0x20000
PR_SET_PDEATHSIG = 1
SPARE = 500  # descriptors are moved above this before they take their final numbers
PIECE = 8 << 20
END_SECONDS = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    with open(int(sys.argv[1]), "rb") as file:
        order = json.load(file)
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    die_with(order["parent"], signal.SIGTERM)
    _check(_libc.unshare(CLONE_NEWNS))
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    for path in order["cgroup"]:
        Path(path).write_text(str(os.getpid()))  # before the bundle is filled: its pages count too
    place = order["place"]
    # No flags: those of a mount from outside are locked in a user namespace, where runsc remounts without them.
    _mount("tmpfs", place, "tmpfs", 0, f"mode=0755,size={order['size']}")
    try:
        fill(place, order)
        return watch(start(order), order["parent"], signals)
    finally:
        if order["end"]:
            subprocess.run(order["end"], env={}, capture_output=True, timeout=END_SECONDS, check=False)
        _libc.umount2(place.encode(), 2)
        os.rmdir(place)


def fill(place: str, order: Mapping[str, Any]) -> None:
    for name in order["directories"]:
        os.makedirs(os.path.join(place, name), 0o755, exist_ok=True)
    os.chmod(os.path.join(place, "rootfs", "tmp"), 0o1777)  # noqa: S103  # runc gives its tmpfs this mode
    for name, target in order["links"]:
        os.symlink(target, os.path.join(place, name))
    for name, text in order["texts"].items():
        Path(place, name).write_text(text)
    for name, descriptor in order["files"].items():
        path = os.path.join(place, name)
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        copy(descriptor, path)
        os.close(descriptor)
    if order["descend"] is not None:
        for name in (
            "state",
            "rootfs",
        ):  # where the runtime, started as that user, makes files and mount points
            os.chown(os.path.join(place, name), order["descend"]["uid"], order["descend"]["uid"])


def copy(source: int, path: str) -> None:
    target = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444)
    try:
        done, size = 0, os.fstat(source).st_size
        while done < size:
            done += (count := os.sendfile(target, source, done, min(PIECE, size - done)))
            if not count:
                raise OSError(f"{path}: {done} of {size} bytes")
    finally:
        os.close(target)


def start(order: Mapping[str, Any]) -> int:
    """The runtime, as a child that dies with this process."""
    ours = os.getpid()
    command = list(order["command"])
    if order["descend"] is not None:
        descent = os.memfd_create("descent", 0)
        os.write(descent, json.dumps({**order["descend"], "parent": ours, "command": command}).encode())
        os.lseek(descent, 0, os.SEEK_SET)
        command = [sys.executable, "-I", "-S", "-B", order["descend"]["script"], str(descent)]
    child = os.fork()
    if child:
        return child
    try:
        die_with(ours, signal.SIGKILL)
        moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, SPARE) for descriptor in order["keep"]]
        if moved:
            os.closerange(3, SPARE)
        for number, descriptor in enumerate(moved, 3):
            os.dup2(descriptor, number)
            os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execve(command[0], command, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})  # noqa: S606  # that is its purpose
    except BaseException as error:  # noqa: BLE001 - the forked child ends here, whatever happened
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(127)


def watch(child: int, parent: int, signals: set[signal.Signals]) -> int:
    """Pass signals on until the child has ended; its status, 128 and more for a signal.

    When who ordered this has ended, nobody waits for a polite end: the runtime is killed.
    """
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            os.kill(child, number if os.getppid() == parent else signal.SIGKILL)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def die_with(parent: int, number: signal.Signals) -> None:
    _check(_libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0))
    if os.getppid() != parent:
        raise ProcessLookupError("the process that ordered this has ended")


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()),
        target,
    )


def _check(result: int, what: str = "") -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
