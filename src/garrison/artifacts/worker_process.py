"""How a worker's process begins: as a new interpreter, or as a fork of a command that scans and does nothing else.

A fork has the standard library's modules already, which is most of what a new interpreter spends its start on.
It also has whatever its parent had in memory, so it is for a process that holds no secret, and it copies one
thread alone, so it is for a process with one. Either way the child loads the scanners itself, keeps no
descriptor but its own channel, has no environment, and is confined before it is handed the first file.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

PLAIN_FILES = "garrison.artifacts.scanners.worker"
SEALED_FILES = "garrison.artifacts.sealed_worker"
CHANNEL = 3  # the descriptor of a forked worker's channel; 0 to 2 lead nowhere
_ABOVE = 16  # descriptors that are about to move are first put here, out of the way
_THREADS = Path("/proc/self/task")


class Process(Protocol):
    """What `subprocess.Popen` and `Forked` have in common."""

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...

    def wait(self) -> int: ...


@dataclass(slots=True)
class Forked:
    """A child of this process. Its number stays its own until `poll` or `wait` has seen its end."""

    pid: int
    status: int | None = None

    def poll(self) -> int | None:
        return self._waited(os.WNOHANG)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        return self._waited(0) or 0

    def _waited(self, options: int) -> int | None:
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # somebody waited for every child of this process
                pid, status = self.pid, 0
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status


def begin(channel: int, said: int, scratch: str, mode: str, *, program: str, fork: bool) -> Process:
    """Start a worker on its end of the channel; what it says before it is confined goes to `said`.

    `program` is `PLAIN_FILES` or `SEALED_FILES`. `fork` is a wish, for the first of them: a process that has a
    second thread by now starts a new interpreter instead.
    """
    if fork and program == PLAIN_FILES and _has_one_thread():
        return _forked(channel, said, scratch, mode)
    import subprocess  # 3 ms that a command which forks does not need

    return subprocess.Popen(
        [sys.executable, "-I", "-m", program, str(channel), scratch, mode],
        pass_fds=(channel,),
        env={"LC_ALL": "C.UTF-8"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
    )


def _has_one_thread() -> bool:
    """By the kernel's count, which knows the threads of libraries too. False where it cannot be asked."""
    try:
        return sum(1 for _ in _THREADS.iterdir()) == 1
    except OSError:
        return False


def _forked(channel: int, said: int, scratch: str, mode: str) -> Forked:
    # A signal whose handler raised in the child before it is a worker would unwind into a second parent.
    allowed = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _work(channel, said, scratch, mode)
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, allowed)
        raise
    child = Forked(pid)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, allowed)
    except BaseException:  # a handler raised, and nobody else knows of the child yet
        child.kill()
        child.wait()
        raise
    return child


def _work(channel: int, said: int, scratch: str, mode: str) -> NoReturn:
    """The child, from its first line to its last. Nothing it inherited is finalised, flushed or returned to."""
    try:
        gc.disable()
        gc.freeze()  # an object of the parent that is collected here would close a number that is used again
        _let_go(channel, said)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)) and number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends this process
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        from garrison.artifacts.scanners import worker  # all parsers; they stay out of the parent

        gc.enable()
        worker.serve(CHANNEL, scratch, mode)
    except BaseException:  # noqa: BLE001 - the whole life of a process, which has nobody to raise to
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(0)


def _let_go(channel: int, said: int) -> None:
    """Of the environment, the current directory and every descriptor but two."""
    os.environ.clear()
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    held = [fcntl.fcntl(each, fcntl.F_DUPFD, _ABOVE) for each in (nowhere, nowhere, said, channel)]
    for number, descriptor in enumerate(held):
        os.dup2(descriptor, number, inheritable=False)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > CHANNEL:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))
