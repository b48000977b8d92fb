"""Runs inside: takes the last rights away, then becomes the program. A script; standard library only.

Started as `python -I -S confine.py FD` (what packages hook into a start would run unconfined); FD holds
`path` (where packages are), JSON: `limits` [[number, value]...], `read` and `write` (paths),
`filter` and `quiet` (BPF, hex), `minimum_abi`, `program` (a Python file), `settings` (handed to it as `SETTINGS`),
`open` (paths by name, opened and handed on where descriptors cannot be passed: FD is a path there too).
`modules` are Python files by the full name under which the program imports them: no package is shown to it.
`command` are the words of a program to be executed instead, `execute` where programs may be, `devices` what it opens,
`variables` its environment; an order without them runs Python alone. With `loopback` it may talk TCP, in its own
network namespace, and the Python file runs beside it.
`any_user` is true in the probe's control run, which shows what an unconfined program could do, and under a
kernel of its own (gVisor), whose user 0 is an unprivileged user of the host.
Order matters: limits, Landlock, then the filter, since the filter leaves nothing to set up afterwards.
Any step that fails ends the process; the program never runs with less than what was ordered.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import json
import os
import resource
import runpy
import signal
import struct
import sys
from collections.abc import Sequence

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every machine
SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}
SECCOMP_SET_MODE_FILTER = 1
FILTER_FLAG_LOG = 2
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
RULE_PATH_BENEATH = 1

EXECUTE = 1 << 0
# linux/landlock.h; a right above the kernel's ABI must not be named, so the masks are cut to it.
WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
MAKE_DIR, MAKE_REG, MAKE_SOCK, TRUNCATE = 1 << 7, 1 << 8, 1 << 9, 1 << 14
IOCTL_DEV = 1 << 15  # ABI 5
FILE_RIGHTS = 1 | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
TCP_RIGHTS = 0b11  # bind, connect; ABI 4
SCOPES = 0b11  # abstract Unix sockets, signals; ABI 6
READ = READ_FILE | READ_DIR
WRITES = {
    "loopback": READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | TRUNCATE | MAKE_SOCK,
    "socket": READ | MAKE_SOCK | REMOVE_FILE | WRITE_FILE,  # no files, no links: only the socket itself
    "scratch": READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | TRUNCATE,
    "device": READ_FILE | WRITE_FILE,
    "computer": READ_FILE | WRITE_FILE | IOCTL_DEV,  # a declared one, which is used by nothing but requests
}

_libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """A raw system call. Raises OSError."""
    result = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def landlock_abi() -> int:
    """The kernel's Landlock ABI, 0 when there is none."""
    try:
        return call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0


def no_new_privileges() -> None:
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")


def limit(limits: Sequence[Sequence[int]]) -> None:
    for number, value in limits:
        _, hard = resource.getrlimit(number)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


def restrict_files(
    read: Sequence[str],
    write: Sequence[Sequence[str]],
    minimum: int,
    execute: Sequence[str] = (),
    *,
    has_tcp: bool = False,
) -> None:
    """Landlock: only what `execute` holds may be executed, only these paths read or written; no signals out, no TCP."""
    abi = landlock_abi()
    if abi < minimum:
        raise OSError(errno.ENOSYS, f"Landlock ABI {minimum} is needed, the kernel has {abi}")
    handled = RIGHTS_BY_ABI[min(abi, 5)]
    attributes = struct.pack("<Q", handled)
    attributes += struct.pack("<Q", 0 if has_tcp else TCP_RIGHTS) if abi >= 4 else b""
    attributes += struct.pack("<Q", SCOPES) if abi >= 6 else b""
    ruleset = call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    for path in read:
        _allow_beneath(ruleset, path, READ & handled)
    for path in execute:
        _allow_beneath(ruleset, path, (READ | EXECUTE) & handled)
    for kind, path in write:
        _allow_beneath(ruleset, path, WRITES[kind] & handled)
    call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def _allow_beneath(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # a path that is not there needs no right
    try:
        if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            rights &= FILE_RIGHTS
        rule = struct.pack("<Qi", rights, descriptor)
        call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(RULE_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def filter_calls(program: bytes, quiet: bytes | None) -> None:
    """Load a classic BPF program; irrevocable. With `quiet`, which comes on top, what is refused goes into the log."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    number = SECCOMP_CALL[os.uname().machine]
    try:
        flags = 0 if quiet is None else FILTER_FLAG_LOG
        call(number, ctypes.c_uint(SECCOMP_SET_MODE_FILTER), ctypes.c_uint(flags), header)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        call(
            number, ctypes.c_uint(SECCOMP_SET_MODE_FILTER), ctypes.c_uint(0), header
        )  # a kernel that logs none
    if quiet is not None:
        above = ctypes.create_string_buffer(quiet, len(quiet))
        header = struct.pack("@HP", len(quiet) // 8, ctypes.addressof(above))
        if _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) != 0:  # seccomp(2) is closed by now
            raise OSError(ctypes.get_errno(), "the second filter")


def give(name: str, path: str) -> None:
    """Make the module at `path` importable under its full name, without the packages above it."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def run_beside(program: str, settings: object) -> None:
    """The program as a child of process 1: the command stays the first one, and its end is that of both."""
    child = os.fork()
    if child != 0:
        os.waitpid(child, 0)
        return
    if os.fork() == 0:
        try:
            runpy.run_path(program, {"SETTINGS": settings}, "__main__")
        finally:
            os._exit(1)
    os._exit(0)


def main() -> None:
    given = sys.argv[1]
    with open(int(given) if given.isdecimal() else given, "rb") as file:
        order = json.load(file)
    if 0 in os.getresuid() and not order["any_user"]:
        raise PermissionError("user 0 never runs a model server")
    sys.argv = [order["program"]]
    sys.path += order["path"]
    for name, path in order["open"].items():
        order["settings"]["files"][name] = os.open(path, os.O_RDONLY)
    os.chdir(order["directory"])
    limit(order["limits"])
    if not order["any_user"]:  # a runtime may have cleared the one from outside; the filter keeps this one
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    no_new_privileges()
    if order["read"] is not None:
        devices = [("computer", path) for path in order.get("devices", ())]
        write = [*order["write"], *devices]
        execute, has_tcp = order.get("execute", ()), order.get("loopback", False)
        restrict_files(order["read"], write, order["minimum_abi"], execute, has_tcp=has_tcp)
    if order["filter"] is not None:
        quiet = order.get("quiet")
        filter_calls(bytes.fromhex(order["filter"]), None if quiet is None else bytes.fromhex(quiet))
    if order.get("loopback"):
        run_beside(order["program"], order["settings"])
    if order.get("command"):
        os.execve(order["command"][0], order["command"], order["variables"])  # noqa: S606 - what was declared
    for name, path in order["modules"].items():
        give(name, path)
    runpy.run_path(order["program"], {"SETTINGS": order["settings"]}, "__main__")


if __name__ == "__main__":
    main()
