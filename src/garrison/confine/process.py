"""This process gives rights up for good: new privileges, every file outside one folder, most system calls.

None of it needs root. What a kernel lacks is left out and named in the answer: the caller decides whether that
is enough. The sandbox of a model server has its own script for this (it runs where this package cannot be
read) and refuses to go on without; a scanner's parsers are confined as far as the machine allows.
"""

from __future__ import annotations

import ctypes
import os
import struct

from garrison.confine.seccomp import filter_program, machine_named

# Landlock's system calls have the same numbers on every machine (asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SECCOMP_SET_MODE_FILTER = 1
_PR_SET_NO_NEW_PRIVS = 38
_RULE_PATH_BENEATH = 1
# linux/landlock.h: a right above the kernel's ABI must not be named, so the handled set is cut to it.
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_NEWEST_RIGHTS = (1 << 16) - 1
_TCP = 0b11  # bind, connect: ABI 4
_SCOPES = 0b11  # abstract Unix sockets, signals to others: ABI 6
_SCRATCH = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 14  # write, read, list, remove, make, truncate


def confine(scratch: str) -> tuple[str, ...]:
    """Give up what can be given up; only files below `scratch` can be opened from now on.

    Returns what this kernel could not take away, empty when everything was. Open descriptors stay usable.
    """
    missing = []
    for name, step in (
        ("new privileges", _no_new_privileges),
        ("files and network by Landlock", lambda: _restrict_files(scratch)),
        ("system calls by seccomp", _filter_calls),
    ):
        try:
            step()
        except OSError as error:
            missing.append(f"{name}: {error.strerror or error}")
    return tuple(missing)


def _no_new_privileges() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _restrict_files(scratch: str) -> None:
    abi = _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    handled = _RIGHTS.get(abi, _NEWEST_RIGHTS)
    attributes = struct.pack("<Q", handled)
    attributes += struct.pack("<Q", _TCP) if abi >= 4 else b""
    attributes += struct.pack("<Q", _SCOPES) if abi >= 6 else b""
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    folder = os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rule = struct.pack("<Qi", _SCRATCH & handled, folder)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), rule, ctypes.c_uint32(0))
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(folder)
        os.close(ruleset)


def _filter_calls() -> None:
    machine = machine_named(
        os.uname().machine
    )  # as `platform.machine()`, which loads 2 ms of regular expressions
    if machine is None:
        raise OSError(0, f"there is no filter for {os.uname().machine}")
    program = filter_program(machine)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    _call(_SECCOMP[machine.name], ctypes.c_uint(_SECCOMP_SET_MODE_FILTER), ctypes.c_uint(0), header)


def _call(number: int, *arguments: object) -> int:
    """A raw system call. Raises OSError."""
    result = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
