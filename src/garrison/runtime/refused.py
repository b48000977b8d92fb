"""Which system calls a server was refused, as the kernel's own log tells it: by user id, which each server has its own.

The filter of a server asks the kernel to log what it refuses. Root reads that log here, as it goes on; nobody else may.
The kernel leaves out lines when there are many, so this tells what was tried, never how often.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass, field

from garrison.confine.seccomp import call_named

DEVICE = "/dev/kmsg"
MAX_RECORD = 8192  # the kernel's own limit
MAX_RECORDS = 2000  # at one look
MAX_NAMES = 32  # told of one server between its start and its end
MAX_USERS = 2000  # whose refusals are kept at once: other programs have filters too
_RECORD = re.compile(
    rb"audit: type=1326 audit\([^)]*\): .*?\buid=(\d+) .*?\bsig=(\d+) arch=([0-9a-f]+) syscall=(\d+) "
)


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """`is_fatal`: the kernel ended the process for it."""

    uid: int
    name: str
    is_fatal: bool


class KernelLog:
    """What is said from now on. Nothing at all where the log cannot be read: `is_open` tells."""

    def __init__(self, device: str = DEVICE) -> None:
        try:
            self._descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError:
            self._descriptor = -1

    @property
    def is_open(self) -> bool:
        return self._descriptor >= 0

    def read(self) -> tuple[RefusedCall, ...]:
        found = []
        for _ in range(MAX_RECORDS if self.is_open else 0):
            try:
                record = os.read(self._descriptor, MAX_RECORD)
            except OSError as error:
                if error.errno == errno.EPIPE:
                    continue  # lines were lost meanwhile; the next read goes on
                break
            if (told := parsed(record)) is not None:
                found.append(told)
        return tuple(found)

    def close(self) -> None:
        if self.is_open:
            os.close(self._descriptor)
            self._descriptor = -1


def parsed(record: bytes) -> RefusedCall | None:
    told = _RECORD.search(record)
    facility, _, _ = record.partition(b",")
    is_kernels = (
        facility.isdigit() and int(facility) < 8
    )  # what programs write into the log has a higher number
    if told is None or not is_kernels or not record.partition(b";")[2].startswith(b"audit: type=1326 "):
        return None
    uid, ended, architecture, number = told.groups()
    return RefusedCall(int(uid), call_named(int(architecture, 16), int(number)), int(ended) != 0)


@dataclass(slots=True)
class RefusedCalls:
    """The log, kept apart for each user id until somebody asks; each name once until `forget`."""

    log: KernelLog = field(default_factory=KernelLog)
    waiting: dict[int, dict[str, RefusedCall]] = field(default_factory=dict)
    told: dict[int, set[str]] = field(default_factory=dict)

    def forget(self, uid: int) -> None:
        """Another process begins under this id."""
        self.fresh(uid)
        self.told.pop(uid, None)

    def fresh(self, uid: int, ignored: frozenset[str] = frozenset()) -> tuple[RefusedCall, ...]:
        """What was refused to it since the last question and was not told before."""
        for call in self.log.read():
            calls = self.waiting.setdefault(call.uid, {})
            if len(calls) < MAX_NAMES and len(self.waiting) < MAX_USERS:
                calls[call.name] = call
        told = self.told.setdefault(uid, set())
        new = [
            call
            for name, call in self.waiting.pop(uid, {}).items()
            if name not in told and name not in ignored
        ]
        new = new[: MAX_NAMES - len(told)]
        told |= {call.name for call in new}
        return tuple(new)
