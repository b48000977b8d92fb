"""Runs outside, first: becomes the model's own user and only then executes. A script; standard library only.

Started as `python -I -S descend.py FD`; FD holds JSON: `uid`, `reach` (paths that the new user has to get
to), `command` (argv), `environment`, and as root `cgroup` (files to enter). As root it makes a mount
namespace of its own in which directories that others cannot enter (/root, a data directory) are replaced by
empty ones holding only the paths in `reach`; an ordinary user stays who they are. It refuses to execute
anything as user 0: bubblewrap started by root stays the host's root, whatever its options say, and may write
/proc/sys/kernel/core_pattern.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import sys
from collections.abc import Sequence

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
CLONE_NEWNS = 0x20000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    with open(int(sys.argv[1]), "rb") as file:
        order = json.load(file)
    uid = order["uid"]
    if uid == 0:
        raise PermissionError("user 0 never runs a model server")
    if os.geteuid() == 0:
        for path in order["cgroup"]:
            with open(path, "w") as file:
                file.write(str(os.getpid()))
        make_reachable(order["reach"])
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if {*os.getresuid(), *os.getresgid()} & {0} or os.getuid() != uid:
        raise PermissionError(f"this process is user {os.getresuid()}, not {uid}")
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))  # changing user cleared any earlier one
    if os.getppid() != order["parent"]:
        raise ProcessLookupError("the process that ordered this has ended")
    os.execve(order["command"][0], order["command"], order["environment"])  # noqa: S606  # that is its purpose


def make_reachable(paths: Sequence[str]) -> None:
    """In a mount namespace of our own, let others reach exactly `paths` below directories closed to them."""
    _check(_libc.unshare(CLONE_NEWNS))
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    covers: dict[str, list[tuple[str, int]]] = {}
    for path in sorted({os.path.realpath(path) for path in paths}):
        closed = first_closed_parent(path)
        if closed is not None:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)  # it is about to be hidden
            covers.setdefault(closed, []).append((path, descriptor))
    for closed, hidden in covers.items():
        _mount("tmpfs", closed, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=256k")
        for path, descriptor in hidden:
            _bind(descriptor, path)
            os.close(descriptor)


def first_closed_parent(path: str) -> str | None:
    """The topmost directory on the way to `path` that strangers may not enter."""
    parents = [os.path.dirname(path)]
    while parents[-1] != "/":
        parents.append(os.path.dirname(parents[-1]))
    for parent in reversed(parents):
        if not os.stat(parent).st_mode & stat.S_IXOTH:
            return parent
    return None


def _bind(descriptor: int, path: str) -> None:
    source = f"/proc/self/fd/{descriptor}"
    if os.path.lexists(path):
        return  # beneath one that is bound already
    if stat.S_ISDIR(os.stat(source).st_mode):
        os.makedirs(path, 0o755)
    else:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444))
    _mount(source, path, "", MS_BIND | MS_REC)


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
    main()
