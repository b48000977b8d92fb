"""The system call filter of a model server, built here as classic BPF; no library, nothing is installed.

A model server computes, reads descriptors that it was given and answers on one Unix socket. So it may not
start programs or processes, reach the network, connect to anybody, or use the kernel's rarely needed doors.
Calls come in three kinds: refused or judged by their arguments (`syscalls.py`), made as they come
(`allowed.py`), and all others, the kernel's future ones too, which do not exist for it (ENOSYS).
`filter_program(machine)` is a pure function: the same bytes for the same machine, so a release can pin a
digest. Layout: linux/seccomp.h (`struct seccomp_data`), linux/filter.h (`struct sock_filter`).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from garrison.confine import allowed, named
from garrison.confine.profiles import SERVER, Profile
from garrison.confine.syscalls import AARCH64, X86_64

# Opcodes of classic BPF (linux/bpf_common.h), composed for the five instructions that are needed.
LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

ALLOW = 0x7FFF0000
KILL = 0x80000000  # the whole process
ERRNO = 0x00050000

NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
X32_BIT = 0x40000000  # x86-64 only: the same calls under other numbers

CLONE_THREAD = 0x00010000
CLONE_NEW = 0x7E020000  # NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET
AF_UNIX, AF_INET, AF_INET6, SOCK_STREAM, SOCK_TYPE_MASK = 1, 2, 10, 1, 0xF
TERMINAL_INJECTION = (0x5412, 0x541C, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCSETD
PR_SET_PDEATHSIG = 1  # a server must not outlive the process that answers for it

# Judged by their arguments below, or answered with another error; every other name in the tables is refused.
_BY_ARGUMENT = frozenset(
    {"socket", "socketpair", "clone", "clone3", "ioctl", "prctl", "open", "openat", "openat2"}
)
CREATING = frozenset({"creat", "mkdir", "mkdirat", "open", "openat", "openat2"})
O_CREAT = 0o100

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Machine:
    """`name` as `platform.machine()` spells it, `audit` from linux/audit.h; numbers by name."""

    name: str
    audit: int
    calls: Mapping[str, int]
    allowed: Mapping[str, int]
    others: Mapping[str, int]


MACHINES = (
    Machine("x86_64", 0xC000003E, X86_64, allowed.X86_64, named.X86_64),
    Machine("aarch64", 0xC00000B7, AARCH64, allowed.AARCH64, named.AARCH64),
)


def machine_named(name: str) -> Machine | None:
    return next((machine for machine in MACHINES if machine.name == name), None)


def filter_program(machine: Machine, profile: Profile = SERVER, *, creates_files: bool = True) -> bytes:
    """The filter as an array of `struct sock_filter`, ready for seccomp(2).

    `creates_files` is false where no other wall bounds what a server may put on a disk. A profile that starts programs
    may start what Landlock lets it execute, signal its own kind, and still make no namespace.
    """
    program: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, machine.audit),
        _answer(KILL),  # a 32-bit call would be judged by the wrong table
        (LOAD, 0, 0, NUMBER),
    ]
    if machine.name == "x86_64":
        program += [(AT_LEAST, 0, 1, X32_BIT), _refuse(errno.ENOSYS)]
    for name, number in sorted(machine.calls.items()):
        is_open = (name in CREATING and creates_files) or name in profile.opens
        block = [_answer(ALLOW)] if is_open else _judge(name)
        if name == "clone" and profile.starts_programs:
            block = _without_namespaces()
        if name == "socket" and profile.has_loopback:
            block = _streams(AF_UNIX, AF_INET, AF_INET6)
        program += [(EQUAL, 0, len(block), number), *block]
    for name, number in sorted(machine.allowed.items()):
        if profile.calls is None or name in profile.calls:
            program += [(EQUAL, 0, 1, number), _answer(ALLOW)]
    program.append(_refuse(errno.ENOSYS))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def quiet_program(machine: Machine) -> bytes:
    """clone3 again, which every start of a thread tries first: the filter loaded last keeps it out of the log."""
    program: list[Instruction] = [
        (LOAD, 0, 0, NUMBER),
        (EQUAL, 0, 1, machine.calls["clone3"]),
        _refuse(errno.ENOSYS),
        _answer(ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def call_named(audit: int, number: int) -> str:
    """The name of a system call as the kernel reports it; its number where this release has no name for it."""
    for machine in MACHINES:
        if machine.audit == audit:
            for names in (machine.calls, machine.allowed, machine.others):
                for name, known in names.items():
                    if known == number:
                        return name
    return f"call {number} of {audit:#x}"


def _judge(name: str) -> list[Instruction]:
    """The instructions that decide a call once its number matched; every path through them returns."""
    if name not in _BY_ARGUMENT:
        return [_refuse(errno.EPERM)]
    if name == "openat2":  # as clone3: its flags lie in memory
        return [_refuse(errno.ENOSYS)]
    if name in ("open", "openat"):
        return [
            (LOAD, 0, 0, _argument(1 if name == "open" else 2)),
            (ANY_BIT, 0, 1, O_CREAT),
            _refuse(errno.EPERM),
            _answer(ALLOW),
        ]
    if name == "clone3":  # its flags lie in memory, where a filter cannot look: make libc fall back to clone
        return [_refuse(errno.ENOSYS)]
    if name == "clone":  # threads, never processes or namespaces
        return [
            (LOAD, 0, 0, _argument(0)),
            (ANY_BIT, 1, 0, CLONE_NEW),
            (ANY_BIT, 1, 0, CLONE_THREAD),
            _refuse(errno.EPERM),
            _answer(ALLOW),
        ]
    if name in ("socket", "socketpair"):
        return _streams(AF_UNIX)
    if name == "ioctl":
        return _refuse_values(1, TERMINAL_INJECTION)
    return _refuse_values(0, (PR_SET_PDEATHSIG,))


def _streams(*families: int) -> list[Instruction]:
    """socket for streams of these families."""
    last = len(families) - 1
    return [
        (LOAD, 0, 0, _argument(0)),
        *((EQUAL, last - i, 0 if i < last else 3, family) for i, family in enumerate(families)),
        (LOAD, 0, 0, _argument(1)),
        (AND, 0, 0, SOCK_TYPE_MASK),
        (EQUAL, 1, 0, SOCK_STREAM),
        _refuse(errno.EPERM),
        _answer(ALLOW),
    ]


def _without_namespaces() -> list[Instruction]:
    """clone for threads and processes."""
    return [(LOAD, 0, 0, _argument(0)), (ANY_BIT, 0, 1, CLONE_NEW), _refuse(errno.EPERM), _answer(ALLOW)]


def _refuse_values(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    block: list[Instruction] = [(LOAD, 0, 0, _argument(argument))]
    for value in values:
        block += [(EQUAL, 0, 1, value), _refuse(errno.EPERM)]
    return [*block, _answer(ALLOW)]


def _argument(index: int) -> int:
    """Offset of the low half of an argument; both machines are little-endian."""
    return 16 + 8 * index


def _refuse(number: int) -> Instruction:
    return _answer(ERRNO | number)


def _answer(value: int) -> Instruction:
    return (RETURN, 0, 0, value)
