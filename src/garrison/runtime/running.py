"""One started server process: what it says before it is ready, how it ends, and how it is ended.

Signals go to the innermost process of the sandbox first, unless the started one passes them on. Killing
bubblewrap itself would leave its inner process to be collected by whatever is process 1 on the host, which in
a container may never do so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MAX_KEPT_OUTPUT = 4096  # the tail of what is printed before the server is ready; later output is dropped
KILL_SECONDS = 2.0  # how long the kernel may take to end a killed process


@dataclass(slots=True)
class Running:
    """Made by `run` in the event loop's own thread: the kernel ties the server's life to that thread."""

    process: subprocess.Popen[bytes]
    ended: asyncio.Future[int]
    forwards_signals: bool = False
    output: bytearray = field(default_factory=bytearray)
    keeps_output: bool = True

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        """The last line printed before it was ready, made harmless for a terminal."""
        self.process.poll()
        lines = [line for line in self.output.decode("utf-8", "replace").splitlines() if line.strip()]
        return "".join(c if c.isprintable() else "?" for c in lines[-1].strip())[:300] if lines else ""

    def forget_output(self) -> None:
        """From now on it may print prompts: nothing of it is kept."""
        self.keeps_output = False
        self.output.clear()

    async def end(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds. Returns when it has ended and was collected."""
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, KILL_SECONDS)):
            is_forwarded = number == signal.SIGTERM and self.forwards_signals
            self._signal(self.pid if is_forwarded else innermost(self.pid), number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self.ended), seconds)
                return
        self._signal(self.pid, signal.SIGKILL)
        await self.ended

    def _signal(self, pid: int, number: signal.Signals) -> None:
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wants_to_run(self) -> bool:
        """Whether a thread of the server is running or waits for a processor: starved is not hung."""
        for pid in family(self.pid):
            for path in Path(f"/proc/{pid}/task").glob("*/stat"):
                with contextlib.suppress(OSError):
                    if path.read_text().rpartition(")")[2].split()[0] == "R":
                        return True
        return False

    def cpu_ticks(self) -> int:
        """Processor time that the server has used so far: one that computes is busy, not hung."""
        total = 0
        for pid in family(self.pid):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total


def run(launch: Callable[[int], subprocess.Popen[bytes]], *, forwards_signals: bool = False) -> Running:
    """Start by `launch(output)`, where output is a descriptor for what it prints, and watch it."""
    loop = asyncio.get_running_loop()
    readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(writable, True)
    try:
        process = launch(writable)
    except BaseException:
        os.close(readable)
        raise
    finally:
        os.close(writable)
    running = Running(process, loop.create_future(), forwards_signals)
    descriptor = os.pidfd_open(process.pid)

    def drain() -> None:
        try:
            data = os.read(readable, 65_536)
        except BlockingIOError:
            return
        if not data:
            loop.remove_reader(readable)
            os.close(readable)
        elif running.keeps_output:
            running.output += data
            del running.output[:-MAX_KEPT_OUTPUT]

    def collect() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        if not running.ended.done():
            running.ended.set_result(process.wait())

    loop.add_reader(readable, drain)
    loop.add_reader(descriptor, collect)
    return running


def innermost(pid: int) -> int:
    """The server: the first child of its sandbox's process 1, or the last of a chain of first children."""
    is_first = False
    while not is_first and (found := _children(pid)):
        is_first = _is_first(pid)
        pid = found[0]
    return pid


def _is_first(pid: int) -> bool:
    """Whether it is process 1 of a namespace below ours."""
    try:
        numbers = Path(f"/proc/{pid}/status").read_text().partition("\nNSpid:")[2].partition("\n")[0].split()
    except OSError:
        return False
    return len(numbers) > 1 and numbers[-1] == "1"


def family(pid: int) -> list[int]:
    """The process and all that it started, and they."""
    found = [pid]
    for one in found:  # it grows as it is walked
        found += _children(one)
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += map(int, path.read_text().split())
    return children
